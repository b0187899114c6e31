"""The ledger: an append-only file of JSON lines that says what was run and with which outcome. It is the truth.

One ledger a storage folder, shared by all studies in it, written by one driver at a time. `ledger_events` lists
them, `ledger_file` reads and writes them, and this module adds them up. Everything else (the live table, the report,
MLflow) is derived from these lines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from mfm_tune.ledger.file import FILE_NAME, LedgerWriter, broken_line, encoded, read_events
from mfm_tune.ledger.schema import Event
from mfm_tune.program import Outcome, Report

__all__ = ["FILE_NAME", "Event", "LedgerState", "LedgerWriter", "TrialRecord", "encoded", "read_events", "read_ledger"]

LARGEST = 1e150  # a metric beyond this counts as no number: its square would be none
RESULTS = frozenset({Outcome.FINISHED, Outcome.OOM, Outcome.DIVERGED})  # outcomes that stand: nothing is left to do

ReportOf = tuple[str, int, Report]  # a trial's key, its seed, one of its reports


class Status(Enum):
    """Where a trial stands."""

    FINISHED = "finished"
    STOPPED = "stopped early"
    OOM = "out of memory"
    DIVERGED = "diverged"
    FAILED = "failed"
    OPEN = "under way"  # the ledger has a start and no end: it runs now, or its driver went away
    NEW = "not started"


def status_of(record: TrialRecord | None) -> Status:
    """Where a trial stands; None is one that the ledger does not have."""
    if record is None:
        return Status.NEW
    return Status.OPEN if record.outcome is None else Status[record.outcome.name]


def is_number(value: float) -> bool:
    """Whether a metric is a number to count with: neither NaN nor so large that its square is infinite."""
    return abs(value) <= LARGEST


@dataclass(frozen=True, kw_only=True)
class ConfigRecord:
    """A config as the ledger keeps it; `config` is its canonical form."""

    config: Mapping[str, Any]
    benchmark: str
    classes: tuple[str, ...]
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
    error: str = ""
    started: int | None = None
    ended: int | None = None
    wall_s: float = 0.0
    attempts: int = 0
    rung: int | None = None
    attempt_started: int | None = None  # of the attempt that is open, and its last sign of life
    last_seen: int | None = None

    @property
    def stands(self) -> bool:
        """Whether the outcome is a result (finished, oom, diverged) rather than something to go on with."""
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

    @property
    def seconds_a_step(self) -> float:
        """Seconds a step, evaluations spread over the steps."""
        return self.step_s + self.evaluation_s * self.evaluations / self.planned_steps


class LedgerState:
    """What the lines of a ledger add up to. `apply` takes in one more event."""

    def __init__(self) -> None:
        self.configs: dict[str, ConfigRecord] = {}
        self.trials: dict[str, TrialRecord] = {}
        self.studies: dict[tuple[str, str], Event] = {}
        self.searches: dict[tuple[str, str], Event] = {}
        self.proposals: dict[tuple[str, str], list[Event]] = {}
        self.selections: dict[tuple[str, str], list[Event]] = {}  # the latest last
        self.codes: dict[str, dict[str, str]] = {}
        self.probes: dict[tuple[str, str], ProbeRecord] = {}  # by (benchmark, cost class), the latest
        self.reuse: set[tuple[str, str]] = set()
        self.code_of: dict[str, str] = {}  # config id -> fingerprint of the code that a driver last declared for it
        self.launches: list[Event] = []
        self._reported: dict[tuple[str, int], None] = {}  # (key, step) in the ledger's order
        self._by_trial: dict[tuple[str, int], dict[str, str]] = {}  # (config id, seed) -> fingerprint -> key

    def apply(self, event: Event) -> None:
        """Take in one event. Kinds that are unknown are left out, so that an older reader can read a newer ledger.

        Raises:
            ValueError: It contradicts those before it.
        """
        match event["event"]:
            case "launch":
                self.launches.append(event)
            case "code":
                self.codes[event["fingerprint"]] = dict(event["files"])
            case "study":
                self.studies[event["study"], event["profile"]] = event
                self.code_of.update(event.get("fingerprints") or {})
            case "search":
                self.searches[event["search"], event["profile"]] = event
            case "proposal":
                self.proposals.setdefault((event["search"], event["profile"]), []).append(event)
            case "selection":
                self.selections.setdefault((event["search"], event["profile"]), []).append(self._selection(event))
            case "config":
                self.configs.setdefault(event["config_id"], _config_record(event))
            case "reuse":
                self.reuse.add((event["from"], event["to"]))
            case "probe":
                self.probes[event["benchmark"], event["cost_class"]] = _probe_record(event)
            case "start":
                self._start(event)
            case "report":
                if event.get("outcome") is None:  # a last word is judged by no scheduler
                    self._reported.setdefault((event["key"], event["step"]))
                self.trials[event["key"]] = _reported(self._started("report", event["key"]), event)
            case "end":
                self.trials[event["key"]] = _ended(self._started("end", event["key"]), event)

    def counts(self, config_id: str, seed: int, fingerprint: str | None = None) -> TrialRecord | None:
        """The one trial that counts for a config and seed under a fingerprint of the code. All readers use this rule.

        Args:
            fingerprint: None takes the one that a driver last declared for the config: in a `study` event, or, in
                ledgers of versions that declared none, by starting a trial of it.

        A result of this very code comes first; then a result of code that the user said stands for it (`reuse`); then
        an open, stopped or failed trial of this very code; then one that such other code ran and a scheduler stopped. A
        trial that other code left open is never found: going on with it would mix two programs in one result.
        """
        if fingerprint is None:
            fingerprint = self.code_of.get(config_id, "")
        exact = self.trials.get(self._keys(config_id, seed).get(fingerprint, ""))
        if exact is not None and exact.stands:
            return exact
        keys = (self._keys(config_id, seed).get(other, "") for other in self._stand_for(fingerprint))
        others = [self.trials[key] for key in keys if key in self.trials]
        stopped = (each for each in others if each.outcome is Outcome.STOPPED)
        return next((each for each in others if each.stands), exact or next(stopped, None))

    def finals(self, config_id: str, seeds: Iterable[int], metric: str) -> dict[int, float]:
        """Seed -> the metric at the last step of the finished trial that counts."""
        records = {seed: self.counts(config_id, seed) for seed in seeds}
        return finals(records, metric)

    def attempts_of(self, config_id: str, seed: int) -> tuple[TrialRecord, ...]:
        """All trials of a config and seed, whatever code trained them, oldest first."""
        return tuple(self.trials[key] for key in self._keys(config_id, seed).values())

    def history(self, keys: Collection[str]) -> tuple[ReportOf, ...]:
        """What these trials reported before their last words, in the order in which it was first reported.

        A scheduler judged none of the last ones: NaN there is that of a trial that diverged, or ran out of memory and
        is tried again, not of one to be stopped.
        """
        by_step = {(key, each["step"]): each for key in keys if key in self.trials for each in self.trials[key].reports}
        known = (name for name in self._reported if name in by_step)
        return tuple((key, self.trials[key].seed, by_step[key, step]) for key, step in known)

    def stands_for(self, source: str, target: str) -> bool:
        """Whether results of code with one fingerprint count as those of code with another."""
        return source == target or source in self._stand_for(target)

    def _selection(self, event: Event) -> Event:
        """The event with config ids: earlier versions wrote numbers, which are those of the points until then."""
        proposals = self.proposals.get((event["search"], event["profile"]), ())
        named = {each["number"]: each["config_id"] for each in proposals if each["seed"] == event["seed"]}
        configs = event.get("config_ids") or [named.get(number, "") for number in event["numbers"]]
        keys = event.get("keys") or []
        if len(configs) != len(event["scores"]):
            raise ValueError(f"selection of {len(configs)} configs with {len(event['scores'])} scores")
        for key in keys:
            self._started("selection", key)
        return {**event, "config_ids": configs, "keys": keys}

    def _keys(self, config_id: str, seed: int) -> dict[str, str]:
        return self._by_trial.get((config_id, seed), {})

    def _stand_for(self, fingerprint: str) -> Iterator[str]:
        """Fingerprints that stand for this one, directly or through others, nearest first."""
        seen = {fingerprint}
        queue = [fingerprint]
        while queue:
            to = queue.pop(0)
            for source, target in sorted(self.reuse):
                if target == to and source not in seen:
                    seen.add(source)
                    queue.append(source)
                    yield source

    def _started(self, event: str, key: str) -> TrialRecord:
        record = self.trials.get(key)
        if record is None:
            raise ValueError(f"{event} of trial {key[:80]!a}, of which there is no start before it")
        return record

    def _start(self, event: Event) -> None:
        key, now = event["key"], event["time"]
        self.code_of[event["config_id"]] = event["fingerprint"]
        known = self.trials.get(key)
        if known is None:
            config = self.configs.get(event["config_id"])
            known = TrialRecord(
                key=key,
                config_id=event["config_id"],
                seed=event["seed"],
                fingerprint=event["fingerprint"],
                folder=event["folder"],
                study=event["study"],
                profile=event["profile"],
                benchmark=event["benchmark"],
                planned_steps=config.planned_steps if config else 0,
                started=now,
            )
            self._by_trial.setdefault((known.config_id, known.seed), {})[known.fingerprint] = key
        self.trials[key] = replace(
            known,
            outcome=None,
            error="",
            ended=None,
            rung=None,
            attempts=known.attempts + 1,
            wall_s=known.seconds,
            attempt_started=now,
            last_seen=now,
        )


def finals(records: Mapping[int, TrialRecord | None], metric: str) -> dict[int, float]:
    """Seed -> the metric at the last step, of finished trials only; what is no number is left out."""
    values = {seed: record.final(metric) for seed, record in records.items() if record is not None}
    return {seed: value for seed, value in values.items() if value is not None}


def _config_record(event: Event) -> ConfigRecord:
    return ConfigRecord(
        config=event["config"],
        benchmark=event["benchmark"],
        classes=tuple(event["classes"]),
        planned_steps=event["planned_steps"],
        cost_class=event["cost_class"],
    )


def _probe_record(event: Event) -> ProbeRecord:
    return ProbeRecord(
        step_s=event["step_s"],
        evaluation_s=event["evaluation_s"],
        evaluations=event["evaluations"],
        planned_steps=event["planned_steps"],
    )


def _reported(record: TrialRecord, event: Event) -> TrialRecord:
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
    others = (each for each in record.reports if each is not known)
    reports = tuple(sorted((*others, report), key=lambda each: each["step"]))
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


def _ended(record: TrialRecord, event: Event) -> TrialRecord:
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


def read_ledger(path: Path) -> LedgerState:
    """Read a ledger; a file that does not exist is an empty one.

    Raises:
        StorageError: As `read_events`, and where a line contradicts those before it.
    """
    state = LedgerState()
    for number, event in read_events(path):
        try:
            state.apply(event)
        except ValueError as error:
            raise broken_line(path, number, str(error)) from error
    return state
