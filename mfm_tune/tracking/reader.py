"""Reads a ledger as it grows, and finds the rows that MLflow must get and the runs that they touch.

The rows of a run are a function of the ledger's lines up to their own, so reading the ledger again gives the same rows
in the same order, bit for bit. Each row has a mark of itself and all rows of its run before it: a run in MLflow that
bears the mark has these rows. Tags, params and status follow the ledger's state as a whole.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from mfm_tune.criteria import criterion_of
from mfm_tune.ledger.cells import DeclaredCell, declared_cells, study_configs
from mfm_tune.ledger.events import larger_is_better
from mfm_tune.ledger.file import check_version, event_of
from mfm_tune.ledger.records import TrialRecord, completes, is_number
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.standing import seeds_of
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import COVERAGE, PRECISION, Outcome
from mfm_tune.results.differences import cell_difference
from mfm_tune.results.statistics import Paired, Summary, summary
from mfm_tune.tracking.params import VaryingFields, clean_key
from mfm_tune.tracking.pictures import MONTAGE, has_montage
from mfm_tune.tracking.runs import experiment_name, trial_run_key


class BrokenLedgerError(Exception):
    """A line that ends, and is no event."""


@dataclass(frozen=True, slots=True)
class Row:
    """A number at a step; `time` in milliseconds since the epoch, `mark` that of its run's rows up to this one."""

    key: str
    value: float
    time: int
    step: int
    mark: str


@dataclass
class Batch:
    """What lines of the ledger ask for.

    Args:
        rows: Run key -> rows. Those that are delivered leave it, so that a batch that is tried again resumes there.
        trials: Keys of the trials to bring up to date.
        files: Trial key -> step, time, confusion matrices and pictures of its reports that have any, in order.
        studies: (study, profile) of the studies to bring up to date, their cells included.
        former: Cells that are no longer declared.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    trials: dict[str, None] = field(default_factory=dict)
    files: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    studies: dict[tuple[str, str], None] = field(default_factory=dict)
    former: dict[str, DeclaredCell] = field(default_factory=dict)


class LedgerReader:
    """The ledger up to `offset`, added up.

    Args:
        path: The ledger.

    Attributes:
        state: What the lines up to `offset` add up to.
        numbers: Cell key -> its metrics as they stand.
        varying: Experiment -> the config fields that differ in it.
        pictures: Experiment -> name of a picture -> the newest step that has one.
        pseudo_labels: Experiment -> metrics of pseudo-labels that its trials have reported.
        declared_at: (study, profile) -> time of the first declaration, in milliseconds since the epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.state = LedgerState()
        self.numbers: dict[str, dict[str, float]] = {}
        self.varying: dict[str, VaryingFields] = {}
        self.declared_at: dict[tuple[str, str], int] = {}
        self.pictures: dict[str, dict[str, int]] = {}
        self.pseudo_labels: dict[str, set[str]] = {}
        self._configs: dict[tuple[str, str], frozenset[str]] = {}  # study -> its configs
        self._steps: dict[str, dict[int, Event]] = {}  # the reports that count
        self._finals: dict[str, set[str]] = {}  # trial key -> names of the final numbers that it has
        self._cell_rows: dict[str, tuple[int, int]] = {}  # cell key -> latest step and time of its rows
        self._marks: dict[str, tuple[int, int]] = {}  # run key -> how many rows it has, and their checksum

    def read(self) -> Batch | None:
        """Read the whole lines that the ledger has beyond `offset`; None where there is none.

        Raises:
            BrokenLedgerError: The line at `offset` ends and is no event. The lines before it were read by then.
            OSError: The ledger cannot be read.
        """
        begin, batch = self.offset, Batch()
        try:
            for line in self._lines():
                if line.strip():
                    self._take(line, batch)
                self.offset += len(line)
        except (BrokenLedgerError, OSError):
            if self.offset == begin:
                raise  # else what was read is delivered first; the next call raises
        return batch if self.offset > begin else None

    def time_of(self, key: str, step: int) -> int | None:
        """When a trial reported a step, in milliseconds since the epoch."""
        report = self._steps.get(key, {}).get(step)
        return None if report is None else int(report["time"])

    def _lines(self) -> Iterator[bytes]:
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if line.endswith(b"\n"):  # the driver is writing a line without an end
                    yield line

    def _take(self, line: bytes, batch: Batch) -> None:
        try:
            if not self.offset:
                check_version(line)
            self._dispatch(event_of(line), batch)
        except ValueError as error:
            raise BrokenLedgerError(
                f"The line at byte {self.offset} of {self.path} cannot be used ({error}): {line[:80]!r}."
            ) from error

    def _dispatch(self, event: Event, batch: Batch) -> None:
        match event["event"]:
            case "study":
                self._study(event, batch)
            case "start":
                self._start(event, batch)
            case "report":
                self._report(event, batch)
            case "end":
                self._end(event, batch)
            case "first_stage":
                name = (event["study"], event["profile"])
                self.state.apply(event)
                if name in self.state.studies:
                    batch.studies[name] = None
                    self._count_cells(name, event["time"], batch)
            case "reuse":
                self.state.apply(event)
                for name in self.state.studies:
                    batch.studies[name] = None
                    self._count_cells(name, event["time"], batch)
            case _:
                self.state.apply(event)

    def _study(self, event: Event, batch: Batch) -> None:
        name = (event["study"], event["profile"])
        before, codes = self.state.studies.get(name), dict(self.state.code_of)
        self.state.apply(event)
        self.declared_at.setdefault(name, event["time"])
        self._configs[name] = frozenset(study_configs(event))
        batch.studies[name] = None
        cells = {cell.key: cell for cell in declared_cells(event)}
        gone = {} if before is None else {c.key: c for c in declared_cells(before) if c.key not in cells}
        batch.former = {key: cell for key, cell in (batch.former | gone).items() if key not in cells}
        configs = {cell.config_id for cell in (*cells.values(), *gone.values())}
        trials = [record for record in self.state.trials.values() if record.config_id in configs]
        batch.trials |= {record.key: None for record in trials}
        for record in trials:
            self._add_finals(record, event["time"], batch)
        recoded = {config for config, code in self.state.code_of.items() if codes.get(config) != code}
        for other in dict.fromkeys((name, *chain.from_iterable(map(self._studies_of, sorted(recoded))))):
            batch.studies[other] = None
            self._count_cells(other, event["time"], batch)

    def _start(self, event: Event, batch: Batch) -> None:
        before = self.state.code_of.get(event["config_id"])
        self.state.apply(event)
        record = self.state.trials[event["key"]]
        batch.trials[record.key] = None
        batch.studies |= dict.fromkeys(self._studies_of(record.config_id))
        if before != record.fingerprint:  # results of other code count no longer
            for name in self._studies_of(record.config_id):
                self._count_cells(name, event["time"], batch, record.config_id)
        config = self.state.configs.get(record.config_id)
        experiment = experiment_name(record.benchmark, record.profile)
        fields = self.varying.setdefault(experiment, VaryingFields())
        if config is not None and fields.add(record.config_id, config.config):
            every = self.state.trials.values()
            batch.trials |= {each.key: None for each in every if _experiment(each) == experiment}

    def _report(self, event: Event, batch: Batch) -> None:
        key, step = event["key"], event["step"]
        self.state.apply(event)
        batch.trials[key] = None
        steps = self._steps.setdefault(key, {})
        if step in steps and not completes(steps[step], event):
            return  # a repeat after a resume; the first one counts
        steps[step] = {"confusion": event.get("confusion"), "time": event["time"]}
        measured = (name for name in event["metrics"] if name.startswith((PRECISION, COVERAGE)))
        self.pseudo_labels.setdefault(_experiment(self.state.trials[key]), set()).update(measured)
        files = {name: event[name] for name in ("confusion", "pictures") if event.get(name)}
        if files:
            batch.files.setdefault(key, []).append({"step": step, "time": event["time"], **files})
        if "pictures" in files:
            seen = self.pictures.setdefault(_experiment(self.state.trials[key]), {})
            seen.update(dict.fromkeys(files["pictures"], step))
            seen.update({MONTAGE: step} if has_montage(files["pictures"]) else {})
        self._add(batch, trial_run_key(key), event["metrics"], event["time"], step)

    def _end(self, event: Event, batch: Batch) -> None:
        self.state.apply(event)
        record = self.state.trials[event["key"]]
        batch.trials[record.key] = None
        self._finals.pop(record.key, None)
        self._add_finals(record, event["time"], batch)
        for name in self._studies_of(record.config_id):
            batch.studies[name] = None
            self._count_cells(name, event["time"], batch, record.config_id)

    def _studies_of(self, config_id: str) -> list[tuple[str, str]]:
        return [name for name, configs in self._configs.items() if config_id in configs]

    def _add_finals(self, record: TrialRecord, time: int, batch: Batch) -> None:
        """Add rows for the final numbers of a finished trial, as far as it has none: a study that shares the config may
        be declared later."""
        if record.outcome is Outcome.FINISHED:
            there = self._finals.setdefault(record.key, set())
            numbers = {key: value for key, value in self._final_numbers(record).items() if key not in there}
            there.update(numbers)
            self._add(batch, trial_run_key(record.key), numbers, time, record.step)

    def _final_numbers(self, record: TrialRecord) -> dict[str, float]:
        """The metrics of the search and the studies that have the config at the end, and their best, under names that
        only finished trials have."""
        search = self.state.searches.get((record.study, record.profile))
        studies = (self.state.studies[name] for name in self._studies_of(record.config_id))
        declared = [*([] if search is None else [search]), *studies]
        own = {} if search is None else {search["criterion"]: larger_is_better(search)}
        numbers: dict[str, float] = {}
        for metric in dict.fromkeys(chain.from_iterable(map(_metrics, declared))):
            final = record.final(metric)
            if final is not None:
                values = (report["metrics"].get(metric, math.nan) for report in record.reports)
                better = own.get(metric, criterion_of(metric).larger_is_better)
                best = (max if better else min)(filter(is_number, values))
                numbers |= {f"final/{metric}": final, f"best/{metric}": best}
        return numbers

    def _add(self, batch: Batch, run: str, numbers: Mapping[str, float], time: int, step: int) -> None:
        """Add a row for each number to those of a run."""
        count, checksum = self._marks.get(run, (0, 0))
        for name, number in numbers.items():
            key, value = clean_key(name), float(number)
            count, checksum = count + 1, zlib.crc32(f"{key} {value!r} {time} {step}\n".encode(), checksum)
            batch.rows.setdefault(run, []).append(Row(key, value, time, step, f"{count}:{checksum:08x}"))
        self._marks[run] = count, checksum

    def _count_cells(self, name: tuple[str, str], time: int, batch: Batch, config: str | None = None) -> None:
        """Bring the numbers of a study's cells up to date, and ask for a row for each one that changed.

        Args:
            config: The one whose trials changed: only cells that rest on it are counted again. None counts all.
        """
        study = self.state.studies[name]
        every = config is None or config in study["references"].values()
        for cell in declared_cells(study):
            if not every and config not in (cell.config_id, cell.against):
                continue
            before = self.numbers.get(cell.key, {})
            now = _cell_numbers(self.state, study, cell) or ({"n_seeds": 0.0} if before else {})
            changed = {key: value for key, value in now.items() if before.get(key) != value}
            changed |= {key: math.nan for key in before if key not in now}  # no trial that counts gives it any more
            if not changed:
                continue
            self.numbers[cell.key] = now
            step, latest = self._cell_rows.get(cell.key, (0, 0))
            # MLflow shows the row of the greatest step, time and value: the last one, also where the clock was put back
            at = self._cell_rows[cell.key] = max(int(now["n_seeds"]), step), max(time, latest + 1)
            self._add(batch, cell.key, changed, time=at[1], step=at[0])


def _experiment(record: TrialRecord) -> str:
    return experiment_name(record.benchmark, record.profile)


def _metrics(declared: Event) -> tuple[str, ...]:
    """Of a study and its tables, or of a search, which in an early version's ledger has none."""
    tables = (table["metric"] for table in declared.get("tables", ()))
    return tuple(filter(None, (declared.get("metric"), declared.get("second_metric"), *tables)))


def _cell_numbers(state: LedgerState, study: Event, cell: DeclaredCell) -> dict[str, float]:
    """A cell's metrics: mean, std, n_seeds, the second metric's, and paired differences to what it is compared with."""
    seeds = seeds_of(state, cell, cell.config_id)
    values = state.finals(cell.config_id, seeds, cell.metric)
    if not values:
        return {}
    numbers = {"n_seeds": float(len(values)), **_summary("", summary(values.values()))}
    second = study.get("second_metric")
    if second:
        numbers |= _summary("second_", summary(state.finals(cell.config_id, seeds, second).values()))
    if isinstance(cell.paper, int | float):
        numbers["paper"] = float(cell.paper)
    compared = dict(study["references"])
    if cell.against is not None and cell.against not in compared.values():
        compared["own"] = cell.against
    for name, other in compared.items():
        if other != cell.config_id:
            numbers |= _difference(name, cell_difference(state, cell, other))
    return numbers


def _summary(prefix: str, found: Summary) -> dict[str, float]:
    return {f"{prefix}{key}": value for key, value in (("mean", found.mean), ("std", found.std)) if value is not None}


def _difference(name: str, paired: Paired) -> dict[str, float]:
    parts = (("", paired.mean), ("/low", paired.low), ("/high", paired.high))
    return {f"minus {name}{part}": value for part, value in parts if value is not None}
