"""A program that trains nothing: for tests of the platform without torch, with everything else real.

A trial's state is a chain of hashes, one link a step, so a metric depends on every step before it: a trial that resumes
at the wrong step, skips one or repeats one ends with another number. It keeps an atomic checkpoint, counts executed
steps in `progress` and fails on demand, as the real one does.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mfm_tune.program import Outcome, Probe, Report

PROGRESS = struct.Struct("<qq")  # steps executed ever, current step
CHECKPOINT = "checkpoint.json"
WORKERS = "workers"  # process ids of those that ran the trial, one a line
CLASSES = ("road", "car")


class StubError(RuntimeError):
    """Raised by a trial whose config says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StubConfig:
    """What a stub trial does.

    Args:
        steps, interval: Length, and steps between evaluations (and checkpoints).
        quality: Added to the metric, percent.
        level: Tells configs apart that do the same.
        fail_at, oom_at, nan_at, kill_at: Raise, run out of memory, diverge, or lose the process at this step.
        kills: How often `kill_at` does so.
        refuse: Refuse to be opened, as a program does that does not find its data.
        need: A file without which the trial raises at step 3.
        break_open: Raise something unexpected while being opened.
        without_metrics: Report no metrics before the end.
        sleep_s: Duration of a step.
    """

    steps: int = 4
    interval: int = 2
    quality: float = 50.0
    level: int = 0
    fail_at: int | None = None
    oom_at: int | None = None
    nan_at: int | None = None
    kill_at: int | None = None
    kills: int = 1
    refuse: bool = False
    need: str = ""
    break_open: bool = False
    without_metrics: bool = False
    sleep_s: float = field(default=0.0, metadata={"identity": False})


@dataclass(frozen=True)
class StubProgram:
    """`mfm_tune.program.Program` for `StubConfig`."""

    packages: tuple[str, ...] = ("tests.mfm_tune.stub_program",)

    def planned_steps(self, config: StubConfig) -> int:
        return config.steps

    def cost_class(self, config: StubConfig) -> str:
        return f"stub, {config.sleep_s:g} s a step"

    def class_names(self, config: StubConfig) -> tuple[str, ...]:
        return CLASSES

    def metrics(self, config: StubConfig) -> tuple[str, ...]:
        return ("student/miou", "teacher/miou", "loss/", "time/step_ms")

    def benchmark(self, config: StubConfig) -> str:
        return "stub"

    def store_commands(self, configs: Sequence[Any]) -> dict[str, str]:
        return {}

    def open(self, config: StubConfig, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> StubRunning:
        return StubRunning(config, seed=seed, folder=folder)

    def probe(self, config: StubConfig, *, folder: str, data: Mapping[str, str]) -> Probe:
        running = StubRunning(replace(config, steps=4, interval=2), seed=0, folder=folder)
        report = running.advance()
        running.close()
        if report["outcome"] == "oom":
            return Probe(error=report["error"])
        machine = dict(report["machine"])
        return Probe(step_s=config.sleep_s, evaluation_s=0.5, evaluations=2, memory_mib=1.0, machine=machine)

    def trainable(self) -> type:
        from tests.mfm_tune.stub_trainable import StubTrial

        return StubTrial


class StubRunning:
    """A stub trial in progress (`mfm_tune.program.Running`)."""

    def __init__(self, config: StubConfig, *, seed: int, folder: str) -> None:
        if config.refuse:
            raise ValueError("The folder of data set 'stub' has no images; give its path with --data stub=PATH.")
        if config.break_open:
            raise StubError("cannot be opened")
        self.config = config
        self.folder = Path(folder)
        self.step = 0
        self.state = hashlib.sha256(f"{config.level}/{config.quality}/{seed}".encode()).hexdigest()
        self.resumed = False
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / WORKERS).open("a") as workers:
            workers.write(f"{os.getpid()}\n")
        self._resume()
        self._progress = os.open(self.folder / "progress", os.O_RDWR | os.O_CREAT, 0o644)
        known = os.pread(self._progress, PROGRESS.size, 0)
        self.executed = PROGRESS.unpack(known)[0] if known else 0

    def advance(self) -> Report:
        """Go on to the next evaluation, or repeat that of the checkpoint, whose report may have been lost."""
        steps, interval = self.config.steps, self.config.interval
        end = self.step if self.resumed else min(steps, (self.step // interval + 1) * interval)
        self.resumed = False
        while self.step < end:
            early = self._one_step()
            if early is not None:
                return early
        self._save()
        return self._report(Outcome.FINISHED if self.step >= steps else None)

    def close(self) -> None:
        """Close files."""
        os.close(self._progress)

    def _one_step(self) -> Report | None:
        config, step = self.config, self.step + 1
        if config.fail_at == step:
            raise StubError(f"failed at step {step}")
        if config.need and step == 3 and not Path(config.need).exists():
            raise StubError(f"{config.need} is not there")
        if config.kill_at == step and self._kills_left():
            os.kill(os.getpid(), 9)
        if config.oom_at == step:
            return self._report(Outcome.OOM, f"Out of memory at step {step}.")
        if config.nan_at == step:
            return self._report(Outcome.DIVERGED, f"The loss is nan at step {step}.")
        time.sleep(config.sleep_s)
        self.state = hashlib.sha256(f"{self.state}/{step}".encode()).hexdigest()
        self.step = step
        self.executed += 1
        os.pwrite(self._progress, PROGRESS.pack(self.executed, step), 0)
        return None

    def _kills_left(self) -> bool:
        counter = self.folder / "kills"
        kills = int(counter.read_text()) if counter.exists() else 0
        counter.write_text(str(kills + 1))
        return kills < self.config.kills

    def _report(self, outcome: Outcome | None, error: str = "") -> Report:
        noise = int(self.state[:8], 16) / 2**32
        miou = math.nan if outcome is Outcome.DIVERGED else self.config.quality + noise
        metrics = {"student/miou": miou, "teacher/miou": miou + 1, "loss/source": 1 - noise, "time/step_ms": 1.0}
        hidden = self.config.without_metrics and outcome is None
        report = Report(
            step=self.step,
            planned_steps=self.config.steps,
            executed_steps=self.executed,
            metrics={} if hidden else metrics,
            confusion={"student": [[self.step, 1], [2, 3]]},
            pictures={},
            machine={"device": "cpu", "device_name": "stub", "torch": "none", "threads": "1", "precision": "none"},
            outcome=None if outcome is None else outcome.value,
        )
        if error:
            report["error"] = error
        return report

    def _save(self) -> None:
        temporary = self.folder / f"{CHECKPOINT}.part"
        temporary.write_text(json.dumps({"step": self.step, "state": self.state}))
        temporary.replace(self.folder / CHECKPOINT)

    def _resume(self) -> None:
        saved = self.folder / CHECKPOINT
        if saved.exists():
            content = json.loads(saved.read_text())
            self.step, self.state = content["step"], content["state"]
            self.resumed = True
