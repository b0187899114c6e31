"""A program whose trials do next to nothing, so that what is measured is the engine around them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm_tune.execution.recorder import Recorder
from mfm_tune.identity import config_id
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial, trial_folder, trial_key
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Report

CLASSES = tuple(f"class {number}" for number in range(12))
FINGERPRINT = "7" * 64
REPOSITORY = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, kw_only=True)
class Instant:
    """A trial of `blocks` blocks that sleep `seconds` each; `number` tells trials apart."""

    number: int
    blocks: int = 1
    seconds: float = 0.0


class InstantRunning:
    """Such a trial in progress. It imports torch, as a trial that trains does."""

    def __init__(self, config: Instant) -> None:
        import torch

        torch.set_num_threads(1)
        self.config, self.step = config, 0

    def advance(self) -> Report:
        """A report as long as a real one: 40 metrics and two confusion matrices."""
        begun = time.time()
        time.sleep(self.config.seconds)
        self.step += 1
        metrics = {f"student/iou/{number}": 50.0 + number for number in range(38)}
        counts = [[1000] * len(CLASSES)] * len(CLASSES)
        return Report(
            step=self.step,
            planned_steps=self.config.blocks,
            executed_steps=self.step,
            metrics=metrics | {"begun": begun, "ended": time.time()},
            confusion={"student": counts, "teacher": counts},
            outcome="finished" if self.step >= self.config.blocks else None,
        )

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class InstantProgram:
    """`mfm_tune.program.Program` of such trials."""

    packages: tuple[str, ...] = ("tests.benchmarks.instant_program",)

    def planned_steps(self, config: Instant) -> int:
        return config.blocks

    def cost_class(self, config: Instant) -> str:
        return "instant"

    def class_names(self, config: Instant) -> tuple[str, ...]:
        return CLASSES

    def metrics(self, config: Instant) -> tuple[str, ...]:
        return ("student/", "teacher/", "loss/")

    def benchmark(self, config: Instant) -> str:
        return "instant"

    def store_commands(self, configs: Sequence[Any]) -> dict[str, str]:
        return {}

    def open(self, config: Instant, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> InstantRunning:
        return InstantRunning(config)

    def trainable(self) -> type:
        from tests.benchmarks.instant_trainable import InstantTrial

        return InstantTrial


def trials_of(configs: Sequence[Instant]) -> list[Trial]:
    """Trials for an engine, of seed 0."""
    return [_trial(config, config_id(config)) for config in configs]


def _trial(config: Instant, name: str) -> Trial:
    return Trial(
        key=trial_key(name, 0, FINGERPRINT),
        config=config,
        config_id=name,
        seed=0,
        fingerprint=FINGERPRINT,
        folder=trial_folder(name, 0, FINGERPRINT),
        planned_steps=config.blocks,
        cost_class="instant",
        benchmark="instant",
        classes=CLASSES,
    )


def new_recorder(
    storage: Path, trials: Sequence[Trial], kind: type[Recorder] = Recorder
) -> tuple[Recorder, LedgerState]:
    """A recorder on a new ledger, and what that ledger adds up to."""
    writer, state = LedgerWriter(storage / "ledger.jsonl"), LedgerState()
    given: dict[str, Any] = {"launch": "benchmark", "study": "benchmark", "profile": "smoke"}
    return kind(Ledger(writer, state), storage=storage, trials=trials, **given), state
