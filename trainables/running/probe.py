"""What a step and an evaluation of a config take, measured on a few steps apart from any trial."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, cast

from trainables.config import Experiment, WarmStart
from trainables.data.domains import Domains, Example
from trainables.running.trial import Trial

STEPS = 2  # to warm up, and as many that are measured
BEGINNINGS = ("start_step", "start")  # fields of a task: the step, or the share of the run, that it begins at
EVALUATION_S = 10.0  # of validation images; the rest of them is reckoned


class Probe(TypedDict, total=False):
    """What was measured; the keys are those of `mfm_tune.program.Probe`."""

    step_s: float
    evaluation_s: float
    evaluations: int
    memory_mib: float
    machine: dict[str, str]
    error: str


def probe(config: Experiment, *, folder: str, data: Mapping[str, str]) -> Probe:
    """Train two steps to warm up and evaluate, then the same again with a clock.

    Args:
        folder: Where the short trial keeps its files.
        data: Dataset name -> path.

    Raises:
        ValueError: A data set or published weights have no path, or cannot be used.
    """
    trial = Trial(shortened(config), seed=0, folder=folder, shared=str(Path(folder) / "shared"), data=data)
    try:
        if not trial.opened:
            return Probe(error=trial.advance()["error"])
        domains = _FewImages(trial.domains)
        trial.domains = cast(Domains, domains)
        for _ in range(2):
            domains.shown = 0
            begun = time.perf_counter()
            report = trial.advance()
            took = time.perf_counter() - begun
            if report["outcome"] == "oom":
                return Probe(error=report["error"])
        step_s = report["metrics"]["time/step_ms"] / 1000
        images_s = report["metrics"]["time/evaluation_s"]
        checkpoint_s = max(0.0, took - STEPS * step_s - images_s)
        share = domains.total / max(1, domains.shown)
        return Probe(
            step_s=step_s,
            evaluation_s=images_s * share + checkpoint_s,
            evaluations=-(-config.schedule.steps // config.evaluation.interval),
            memory_mib=report["metrics"]["memory/peak_mib"],
            machine=dict(report["machine"]),
        )
    finally:
        trial.close()


def shortened(config: Experiment) -> Experiment:
    """The config with an evaluation after two steps and after four, and every task from the first step on.

    Source pre-training is left out: all trials of a seed share one.
    """
    tasks = tuple(_from_the_first_step(task) for task in config.auxiliary)
    return replace(
        config,
        initial=None if isinstance(config.initial, WarmStart) else config.initial,
        schedule=replace(config.schedule, steps=3 * STEPS),  # it never comes to the end, where pictures are drawn
        evaluation=replace(config.evaluation, interval=STEPS, checkpoint_interval=None),
        auxiliary=tasks,
    )


def _from_the_first_step(task: Any) -> Any:
    return replace(task, **{name: 0 for name in BEGINNINGS if hasattr(task, name)})


class _FewImages:
    """Domains whose validation ends early, and which count how many images it had."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains
        self.shown = 0
        self.total = sum(1 for _ in domains.validation())

    def validation(self) -> Iterator[Example]:
        begun = time.perf_counter()
        for example in self._domains.validation():
            self.shown += 1
            yield example
            if time.perf_counter() - begun > EVALUATION_S:
                return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domains, name)
