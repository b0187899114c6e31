"""What a trial shows between two reports: what precedes its steps, the steps so far, the means of the losses."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainables.training import Losses

PROGRESS = struct.Struct("<qq")  # steps executed ever, current step


class Progress:
    """A file that others read between two reports.

    It holds 16 bytes, the steps executed ever and the current step, and while there are none to take some words.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        known = os.pread(self._file, PROGRESS.size, 0)
        self.executed = PROGRESS.unpack(known)[0] if len(known) == PROGRESS.size else 0
        self.say("")  # those of an attempt that was killed

    def say(self, words: str) -> None:
        """Show what is done before steps are taken, such as `pre-training 120/800`; nothing where it is empty."""
        os.ftruncate(self._file, PROGRESS.size)
        os.pwrite(self._file, words.encode(), PROGRESS.size)

    def tick(self, step: int) -> None:
        """One more step was executed; `step` are done."""
        self.executed += 1
        os.pwrite(self._file, PROGRESS.pack(self.executed, step), 0)

    def close(self) -> None:
        os.close(self._file)


class BlockMeans:
    """Means of the logged scalars over a block, each over the steps that logged it. Summed on the device, read once."""

    def __init__(self) -> None:
        self._sums: Losses = {}
        self._counts: dict[str, int] = {}

    def add(self, losses: Losses) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def arrays(self) -> dict[str, Tensor]:
        sums = {f"means.{name}": total for name, total in self._sums.items()}
        return sums | {f"means_count.{name}": torch.tensor(count) for name, count in self._counts.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor], device: torch.device) -> BlockMeans:
        means = cls()
        for key, value in arrays.items():
            if key.startswith("means."):
                means._sums[key.removeprefix("means.")] = value.to(device)
            if key.startswith("means_count."):
                means._counts[key.removeprefix("means_count.")] = int(value)
        return means
