"""Stub trials that write down on which node and GPU they ran, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mfm_tune.program import Report
from tests.mfm_tune.stub_program import StubConfig, StubProgram, StubRunning

PLACES = "places.jsonl"  # a line an attempt and block


@dataclass(frozen=True)
class PlacedProgram(StubProgram):
    """`StubProgram` with such trials."""

    packages: tuple[str, ...] = ("tests.mfm_tune.stub_program", "tests.benchmarks.placed_program")

    def trainable(self) -> type:
        from tests.benchmarks.placed_trainable import PlacedTrial

        return PlacedTrial


class PlacedRunning(StubRunning):
    """Such a trial in progress."""

    def __init__(self, config: StubConfig, *, seed: int, folder: str, node: str, gpu: str) -> None:
        super().__init__(config, seed=seed, folder=folder)
        self._place = {"node": node, "gpu": gpu, "begun": time.time()}
        self._note()

    def advance(self) -> Report:
        """One block, after which the line says that the place was used until now."""
        report = super().advance()
        self._note()
        return report

    def _note(self) -> None:
        with (self.folder / PLACES).open("a") as places:
            places.write(json.dumps({**self._place, "until": time.time()}) + "\n")


@dataclass(frozen=True)
class Stay:
    """An attempt of a trial on a GPU; times in seconds since the epoch."""

    node: str
    gpu: str
    begun: float
    until: float


def stays_in(storage: Path, folders: Mapping[str, str]) -> Iterator[Stay]:
    """All attempts of trials, whose folders are relative to the storage."""
    for folder in folders.values():
        last: dict[float, Stay] = {}
        for line in (storage / folder / PLACES).read_text().splitlines():
            stay = Stay(**json.loads(line))
            last[stay.begun] = stay
        yield from last.values()
