"""A trial to run, and what the ledger knows of one config, one trial, one measured cost class, each as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, TypeVar

from mfm_tune.ledger.schema import Event
from mfm_tune.program import Outcome, Report

LARGEST = 1e150  # a metric beyond this counts as no number: its square would be none
RESULTS = frozenset({Outcome.FINISHED, Outcome.OOM, Outcome.DIVERGED})  # outcomes that are final: nothing is left to do

ReportOf = tuple[str, int, Report]  # a trial's key, its seed, one of its reports


class Status(Enum):
    """The status of a trial."""

    FINISHED = "finished"
    STOPPED = "stopped early"
    OOM = "out of memory"
    DIVERGED = "diverged"
    FAILED = "failed"
    OPEN = "under way"  # the ledger has a start and no end: it runs now, or its driver went away
    NEW = "not started"


def status_of(record: TrialRecord | None) -> Status:
    """The status of a trial; None is one that the ledger does not have."""
    if record is None:
        return Status.NEW
    return Status.OPEN if record.outcome is None else Status[record.outcome.name]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A config with a seed, ready to be run by an engine.

    Args:
        key: `<config_id>-s<seed>-<fingerprint[:8]>`.
        folder: Relative to the storage folder.
        planned_steps: Training steps of the whole trial.
        cost_class: Trials with equal text cost about the same time a step.
        benchmark: Name of the data and scale.
        classes: Names of the scored classes.
        data: What it is trained and scored on (`mfm_tune.program.DataSet`).
        step: Steps that the ledger has of it; the trial resumes from there.
        attempts: How often it was started before.
    """

    key: str
    config: Any
    config_id: str
    seed: int
    fingerprint: str
    folder: str
    planned_steps: int
    cost_class: str
    benchmark: str
    classes: tuple[str, ...] = ()
    data: tuple[Mapping[str, Any], ...] = ()
    step: int = 0
    attempts: int = 0


def trial_key(config: str, seed: int, fingerprint: str) -> str:
    """The key of a trial: config id, seed, and the first 8 digits of the code's fingerprint."""
    return f"{config}-s{seed}-{fingerprint[:8]}"


def trial_folder(config: str, seed: int, fingerprint: str) -> str:
    """Where a trial keeps its files, relative to the storage folder."""
    return f"trials/{config}/s{seed}-{fingerprint[:8]}"


def is_number(value: float) -> bool:
    """Whether a metric is a number to count with: neither NaN nor so large that its square is infinite."""
    return abs(value) <= LARGEST


@dataclass(frozen=True, kw_only=True)
class ConfigRecord:
    """A config as the ledger keeps it; `config` is its canonical form."""

    config: Mapping[str, Any]
    benchmark: str
    classes: Sequence[str]
    planned_steps: int
    cost_class: str


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """All that the ledger knows of one trial.

    Args:
        outcome: None while the trial is open: it runs now, or its driver went away.
        step: Training steps done.
        executed_steps: Steps executed over all attempts, repeated ones included.
        reports: By step, one a step.
        metrics, machine: Those of the last report.
        data: What it was trained and scored on at its last start; none in ledgers of earlier versions.
        started, ended: First start and last end, in milliseconds since the epoch; `ended` is None while open.
        wall_s: Seconds over all attempts.
        rung: The scheduler's rung at which it was stopped.
    """

    key: str
    config_id: str
    seed: int
    fingerprint: str
    folder: str
    study: str
    profile: str
    benchmark: str
    outcome: Outcome | None = None
    step: int = 0
    planned_steps: int = 0
    executed_steps: int = 0
    reports: tuple[Report, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    started: int | None = None
    ended: int | None = None
    wall_s: float = 0.0
    attempts: int = 0
    rung: int | None = None
    attempt_started: int | None = None  # of the attempt that is open, and its last sign of life
    last_seen: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether the outcome is a result (finished, oom, diverged) rather than something to resume."""
        return self.outcome in RESULTS

    def final(self, metric: str) -> float | None:
        """A metric at the last step of a finished trial; None for all others, and where it is no number."""
        value = self.metrics.get(metric)
        is_final = self.outcome is Outcome.FINISHED and value is not None and is_number(value)
        return value if is_final else None

    @property
    def seconds(self) -> float:
        """Seconds over all attempts, one that is open or whose driver went away up to its last sign of life."""
        if self.attempt_started is None or self.last_seen is None:
            return self.wall_s
        return self.wall_s + max(0, self.last_seen - self.attempt_started) / 1000


@dataclass(frozen=True, kw_only=True)
class ProbeRecord:
    """What was measured of a cost class; `evaluations` are those of a whole trial of `planned_steps`."""

    step_s: float
    evaluation_s: float
    evaluations: int
    planned_steps: int
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds_a_step(self) -> float:
        """Seconds a step, evaluations spread over the steps."""
        return self.step_s + self.evaluation_s * self.evaluations / self.planned_steps


R = TypeVar("R", ConfigRecord, ProbeRecord)


def finals(records: Mapping[int, TrialRecord | None], metric: str) -> dict[int, float]:
    """Seed -> the metric at the last step, of finished trials only; what is no number is left out."""
    values = {seed: record.final(metric) for seed, record in records.items() if record is not None}
    return {seed: value for seed, value in values.items() if value is not None}


def record_of(kind: type[R], event: Event) -> R:
    """The record of a `config` or `probe` event, which has the record's fields by their names; some have defaults."""
    values: Event = {item.name: event[item.name] for item in fields(kind) if item.name in event}
    return kind(**values)


def reported(record: TrialRecord, event: Event) -> TrialRecord:
    """The trial after a `report` event; a repeated step adds only the scores that were missing."""
    executed = max(record.executed_steps, event["executed_steps"])
    known = next((report for report in record.reports if report["step"] == event["step"]), None)
    if known is not None and not completes(known, event):  # a repeat after a resume
        return replace(record, executed_steps=executed, last_seen=event["time"])
    report = Report(
        step=event["step"],
        planned_steps=event["planned_steps"],
        executed_steps=event["executed_steps"],
        metrics={name: float(value) for name, value in event["metrics"].items()},
        confusion=event.get("confusion") or {},
        pictures=event.get("pictures") or {},
        machine={name: str(value) for name, value in (event.get("machine") or {}).items()},
    )
    others = (other for other in record.reports if other is not known)
    reports = tuple(sorted((*others, report), key=lambda report: report["step"]))
    return replace(
        record,
        reports=reports,
        step=reports[-1]["step"],
        planned_steps=event["planned_steps"],
        executed_steps=executed,
        metrics=reports[-1]["metrics"],
        machine=reports[-1]["machine"],
        last_seen=event["time"],
    )


def completes(known: Mapping[str, Any], repeat: Mapping[str, Any]) -> bool:
    """Whether a repeated report has the scores that the known one lacks, as when an evaluation ran out of memory."""
    return bool(repeat.get("confusion")) and not known.get("confusion")


def ended(record: TrialRecord, event: Event) -> TrialRecord:
    """The trial after an `end` event."""
    return replace(
        record,
        outcome=Outcome(event["outcome"]),
        step=max(record.step, event.get("step") or 0),
        error=event.get("error") or "",
        wall_s=record.wall_s + (event.get("wall_s") or 0.0),
        rung=event.get("rung"),
        ended=event["time"],
        attempt_started=None,
        last_seen=event["time"],
    )
