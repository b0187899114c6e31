"""What the lines of a ledger add up to.

The ledger is an append-only file of JSON lines that say what was run and with which outcome. It is the truth:
everything else (the live table, the report, MLflow) is derived from it. One ledger a storage folder, shared by all
studies in it, written by one driver at a time. `schema` lists its events, `file` reads and writes them, `records` are
their values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mfm_tune.ledger.file import FILE_NAME, broken_line, check_ledger, read_events
from mfm_tune.ledger.records import (
    ConfigRecord,
    ProbeRecord,
    ReportOf,
    TrialRecord,
    ended,
    finals,
    record_of,
    reported,
)
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.stages import FirstStage, StageName, first_stages
from mfm_tune.program import Outcome

STARTED = ("key", "config_id", "seed", "fingerprint", "folder", "study", "profile", "benchmark")  # of a `start` event


class LedgerState:
    """What the lines of a ledger add up to. `apply` takes in one more event."""

    def __init__(self) -> None:
        self.configs: dict[str, ConfigRecord] = {}
        self.trials: dict[str, TrialRecord] = {}
        self.studies: dict[tuple[str, str], Event] = {}
        self.searches: dict[tuple[str, str], Event] = {}
        self.proposals: dict[tuple[str, str], list[Event]] = {}
        self.selections: dict[tuple[str, str], list[Event]] = {}  # the latest last
        self.first_stages: dict[StageName, FirstStage] = {}  # the latest of each difference, the newest last
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
            case "first_stage":
                for stage in first_stages(event):
                    self.first_stages.pop(stage.name, None)
                    self.first_stages[stage.name] = stage
            case "config":
                self.configs.setdefault(event["config_id"], record_of(ConfigRecord, event))
            case "reuse":
                self.reuse.add((event["from"], event["to"]))
            case "probe":
                self.probes[event["benchmark"], event["cost_class"]] = record_of(ProbeRecord, event)
            case "start":
                self._start(event)
            case "report":
                if event.get("outcome") is None:  # a last word is judged by no scheduler
                    self._reported.setdefault((event["key"], event["step"]))
                self.trials[event["key"]] = reported(self._started("report", event["key"]), event)
            case "end":
                self.trials[event["key"]] = ended(self._started("end", event["key"]), event)

    def counts(self, config_id: str, seed: int, fingerprint: str | None = None) -> TrialRecord | None:
        """The one trial that counts for a config and seed under a fingerprint of the code. All readers use this rule.

        Args:
            fingerprint: None takes the one that a driver last declared for the config: in a `study` event, or, in
                ledgers of versions that declared none, by starting a trial of it.

        A result of this very code comes first; then one of code that the user accepted in its place (`reuse`); then an
        open, stopped or failed trial of this very code; then one that such other code ran and a scheduler stopped. A
        trial that other code left open is never found: resuming it would mix two programs in one result.
        """
        if fingerprint is None:
            fingerprint = self.code_of.get(config_id, "")
        exact = self.trials.get(self._keys(config_id, seed).get(fingerprint, ""))
        if exact is not None and exact.is_final:
            return exact
        keys = (self._keys(config_id, seed).get(other, "") for other in self._accepted_for(fingerprint))
        others = [self.trials[key] for key in keys if key in self.trials]
        stopped = (record for record in others if record.outcome is Outcome.STOPPED)
        return next((record for record in others if record.is_final), exact or next(stopped, None))

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
        by_step = {
            (key, report["step"]): report for key in keys if key in self.trials for report in self.trials[key].reports
        }
        in_order = (name for name in self._reported if name in by_step)
        return tuple((key, self.trials[key].seed, by_step[key, step]) for key, step in in_order)

    def accepts(self, source: str, target: str) -> bool:
        """Whether results of code with one fingerprint count as those of code with another."""
        return source == target or source in self._accepted_for(target)

    def _selection(self, event: Event) -> Event:
        """The event with config ids: earlier versions wrote numbers, which are those of the points until then."""
        proposals = self.proposals.get((event["search"], event["profile"]), ())
        named = {
            proposal["number"]: proposal["config_id"] for proposal in proposals if proposal["seed"] == event["seed"]
        }
        configs = event.get("config_ids") or [named.get(number, "") for number in event["numbers"]]
        keys = event.get("keys") or []
        if len(configs) != len(event["scores"]):
            raise ValueError(f"selection of {len(configs)} configs with {len(event['scores'])} scores")
        for key in keys:
            self._started("selection", key)
        return {**event, "config_ids": configs, "keys": keys}

    def _keys(self, config_id: str, seed: int) -> dict[str, str]:
        return self._by_trial.get((config_id, seed), {})

    def _accepted_for(self, fingerprint: str) -> Iterator[str]:
        """Fingerprints whose results count as those of this one, directly or through others, nearest first."""
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
        record = self.trials.get(key)
        if record is None:
            config = self.configs.get(event["config_id"])
            record = TrialRecord(
                **{name: event[name] for name in STARTED},
                planned_steps=config.planned_steps if config else 0,
                started=now,
            )
            self._by_trial.setdefault((record.config_id, record.seed), {})[record.fingerprint] = key
        self.trials[key] = replace(
            record,
            outcome=None,
            error="",
            ended=None,
            rung=None,
            attempts=record.attempts + 1,
            wall_s=record.seconds,
            data=event.get("data") or record.data,
            attempt_started=now,
            last_seen=now,
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


def read_storage(storage: Path) -> LedgerState:
    """Read the ledger of a storage folder.

    Raises:
        StorageError: There is none, or as `read_ledger`.
    """
    path = storage / FILE_NAME
    check_ledger(path)
    return read_ledger(path)
