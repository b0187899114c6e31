"""Every draw comes from (seed, purpose, step): counter-based streams, no generator state.

A `Streams` object answers "what does this purpose draw at this step?"; a purpose is any string, and has a stream of its
own. The same question always has the same answer, in any order, alone or not, so a resumed trial continues bitwise and
adding a term never moves another term's draws. Tests put recorded draws in through the same methods (`Recorded`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Streams:
    """Draws of one trial.

    Args:
        seed: The trial's seed, a non-negative integer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _key(self, purpose: str) -> int:
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:16], "little")

    def numpy(self, purpose: str, step: int, item: int = 0) -> np.random.Generator:
        """A fresh Philox generator at this purpose, step and item (an image of the batch, say)."""
        return np.random.Generator(np.random.Philox(key=self._key(purpose), counter=[0, 0, item, step]))

    def uniform(
        self, purpose: str, step: int, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, item: int = 0
    ) -> Tensor:
        """Uniform numbers in [low, high), float64 on the CPU, of the given shape."""
        return torch.from_numpy(np.asarray(self.numpy(purpose, step, item).uniform(low, high, shape)))

    def permutation(self, purpose: str, step: int, n: int, item: int = 0) -> Tensor:
        """A random order of 0 ... n-1, int64 on the CPU."""
        return torch.from_numpy(self.numpy(purpose, step, item).permutation(n))

    def integers(self, purpose: str, step: int, shape: tuple[int, ...], low: int, high: int, item: int = 0) -> Tensor:
        """Integers in [low, high), int64 on the CPU."""
        return torch.from_numpy(np.asarray(self.numpy(purpose, step, item).integers(low, high, shape)))

    def torch_seed(self, purpose: str, step: int, item: int = 0) -> int:
        """A 63-bit seed for a torch generator, for draws too large for the host (dropout masks, initial weights)."""
        return int(self.numpy(purpose, step, item).integers(0, 2**63 - 1))

    def generator(self, purpose: str, step: int, device: torch.device) -> torch.Generator:
        """A fresh torch generator on a device."""
        return torch.Generator(device).manual_seed(self.torch_seed(purpose, step))


class Recorded(Streams):
    """Streams that return given draws: what `uniform`, `permutation` and `integers` answer, by (purpose, step, item).

    A question without a recorded answer is answered by the seed, so that only what is given is fixed.
    """

    def __init__(self, seed: int, draws: Mapping[tuple[str, int, int], Tensor]) -> None:
        super().__init__(seed)
        self._draws = draws

    def uniform(
        self, purpose: str, step: int, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, item: int = 0
    ) -> Tensor:
        if (purpose, step, item) in self._draws:
            return self._draws[purpose, step, item].double().reshape(shape)
        return super().uniform(purpose, step, shape, low, high, item)

    def permutation(self, purpose: str, step: int, n: int, item: int = 0) -> Tensor:
        if (purpose, step, item) not in self._draws:
            return super().permutation(purpose, step, n, item)
        first = self._draws[purpose, step, item].tolist()
        return torch.tensor(first + [index for index in range(n) if index not in first])

    def integers(self, purpose: str, step: int, shape: tuple[int, ...], low: int, high: int, item: int = 0) -> Tensor:
        if (purpose, step, item) in self._draws:
            return self._draws[purpose, step, item].long().reshape(shape)
        return super().integers(purpose, step, shape, low, high, item)
