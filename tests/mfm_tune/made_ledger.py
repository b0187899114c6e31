"""A ledger without training: the events that a launch writes, with numbers that a test chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mfm_tune.identity import canonical, config_id
from mfm_tune.ledger.events import launch_event, study_event
from mfm_tune.ledger.records import trial_folder, trial_key
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome
from mfm_tune.results.study import Results, collect
from mfm_tune.space import Axis, Paper, Study, Table
from tests.mfm_tune.stub_program import StubConfig, StubProgram

FINGERPRINT = "f" * 64
MACHINE = {"device": "cpu", "device_name": "stub", "torch": "2.14", "threads": "1", "precision": "float32"}
OTHER_MACHINE = {**MACHINE, "device": "cuda", "device_name": "another"}
BEGIN = 1_790_000_000_000  # milliseconds since the epoch
FIRST_LINE = {"event": "ledger", "version": 1, "time": BEGIN}


def stub(level: int, steps: int = 4) -> StubConfig:
    """A config that differs from others in its level alone."""
    return StubConfig(level=level, steps=steps)


def stub_study(
    levels: Mapping[int, Paper],
    *,
    references: Mapping[str, int] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    **settings: Any,
) -> Study:
    """A study whose axis `level` trains `stub(level)` in one table `t`, unless `settings` names other `tables`."""
    if "tables" not in settings:
        axis = Axis(name="level", levels=tuple(levels.items()), make=stub)
        settings["tables"] = (Table(name="t", title="Levels", axis=axis),)
    named = {"base": 0, "default": 1} if references is None else references
    return Study(
        program=StubProgram(),
        references={name: stub(level) for name, level in named.items()},
        seeds=seeds,
        **{"name": "stub", "title": "A stub study", "profile": "mini", **settings},
    )


@dataclass
class MadeLedger:
    """Events of one launch of a study, applied to `state` as they are told, and appended to `written`."""

    study: Study
    state: LedgerState = field(default_factory=LedgerState)
    now: int = BEGIN
    written: list[dict[str, Any]] = field(default_factory=lambda: [dict(FIRST_LINE)])

    def __post_init__(self) -> None:
        self._apply(
            {**launch_event(self.study, "aabbccdd", ["study.py"], 2), "host": "host-a", "versions": {"torch": "2.14"}}
        )
        declared = study_event(self.study, self.state, {})
        assert declared is not None
        self._apply(declared)

    def trial(
        self,
        config: Any,
        seed: int,
        metrics: Mapping[str, float] | None,
        *,
        outcome: Outcome | None = Outcome.FINISHED,
        steps: tuple[int, ...] = (2, 4),
        machine: Mapping[str, str] = MACHINE,
        fingerprint: str = FINGERPRINT,
        error: str = "",
        curve: Callable[[float, float], float] | None = None,
        pictures: Mapping[str, str] | None = None,
        step_ms: Sequence[float] = (),
    ) -> None:
        """One trial that reports at `steps`; `metrics` are those of the last one (None: no report at all).

        Args:
            step_ms: Time a step in each report.
            curve: From (final value, share of the steps) to the value there; by default it grows to its final value.
        """
        identity = config_id(config)
        key, planned = trial_key(identity, seed, fingerprint), self.study.program.planned_steps(config)
        program = self.study.program
        if identity not in self.state.configs:
            self._apply(
                {
                    "event": "config",
                    "config_id": identity,
                    "config": canonical(config),
                    "benchmark": program.benchmark(config),
                    "classes": list(program.class_names(config)),
                    "planned_steps": planned,
                    "cost_class": program.cost_class(config),
                }
            )
        self._apply(
            {
                "event": "start",
                "key": key,
                "config_id": identity,
                "seed": seed,
                "fingerprint": fingerprint,
                "launch": "aabbccdd",
                "folder": trial_folder(identity, seed, fingerprint),
                "attempt": 1,
                "benchmark": program.benchmark(config),
                "study": self.study.name,
                "profile": self.study.profile,
            }
        )
        shape = curve or (lambda value, share: value * math.sqrt(share))
        for index, step in enumerate(steps if metrics is not None else ()):
            share = step / steps[-1]
            told = {name: _shaped(name, value, share, shape) for name, value in (metrics or {}).items()}
            told |= {"time/step_ms": step_ms[index]} if step_ms else {}
            report = {"step": step, "planned_steps": planned, "executed_steps": step, "metrics": told}
            self._apply(
                {"event": "report", "key": key, "machine": dict(machine), "pictures": dict(pictures or {}), **report}
            )
        if outcome is not None:
            ended = {"step": steps[-1] if metrics is not None else 0, "error": error, "wall_s": 9.5}
            self._apply({"event": "end", "key": key, "outcome": outcome.value, **ended})

    def finish(self, number: Callable[[Any, int], float], **settings: Any) -> None:
        """Every trial of the study ends well; `number` gives the metric of a config and seed."""
        for seed in self.study.seeds:
            for config in self.study.configs().values():
                value = number(config, seed)
                self.trial(config, seed, {"student/miou": value, "teacher/miou": value + 0.5}, **settings)

    def _apply(self, event: dict[str, Any]) -> None:
        self.now += 1000
        self.state.apply({**event, "time": self.now})
        self.written.append({**event, "time": self.now})


def results_of(levels: Mapping[int, Paper], numbers: Mapping[int, tuple[float, ...]]) -> Results:
    """A study whose level k has these numbers, one a seed."""
    study = stub_study(levels)
    ledger = MadeLedger(study)
    for level, values in numbers.items():
        for seed, value in enumerate(values):
            ledger.trial(stub(level), seed, {"student/miou": value})
    return collect(study, ledger.state)


def _shaped(name: str, value: float, share: float, shape: Callable[[float, float], float]) -> float:
    measured = "iou" in name or name.startswith("pseudo_label/")
    return shape(value, share) if measured and share < 1 else value
