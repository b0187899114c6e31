"""From a ledger to the numbers of a report: what the seeds of each cell gave, how that compares, what is missing.

Everything here is data; `findings` puts it into words and the report_* modules print it. Only a finished trial enters a
mean: one that a scheduler stopped, that is still under way or that failed has a status and no value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from mfm_tune.ledger.state import LedgerState, Status, TrialRecord, finals, is_number, status_of
from mfm_tune.program import Outcome
from mfm_tune.results.statistics import Paired, Summary, paired_difference, summary
from mfm_tune.space import Cell, Paper, Published, Quoted, Study, Table, paper_number

STEP_TIME = "time/step_ms"
PEAK_MEMORY = "memory/peak_mib"


UNRECORDED_TF32 = "convolutions"  # cuDNN's default, which held on GPUs before it was recorded


@dataclass(frozen=True, order=True)
class Environment:
    """What a trial ran on, as far as it can change a number."""

    device: str
    device_name: str
    torch: str
    threads: str
    tf32: str = ""  # which operations of a GPU take float32 numbers as TF32

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == '1' else 's'}" if self.threads else ""
        tf32 = {"": "", "nothing": "no TF32"}.get(self.tf32, f"TF32 in {self.tf32}")
        parts = (self.device, self.device_name, f"torch {self.torch}" if self.torch else "", threads, tf32)
        return ", ".join(part for part in parts if part) or "not recorded"


def environment_of(record: TrialRecord) -> Environment | None:
    """What a trial ran on; None before its first report."""
    if not record.machine:
        return None
    get = record.machine.get
    device = get("device", "")
    tf32 = get("tf32", UNRECORDED_TF32 if device == "cuda" else "")
    return Environment(device, get("device_name", ""), get("torch", ""), get("threads", ""), tf32)


@dataclass(frozen=True, kw_only=True)
class ConfigResult:
    """The trials of one config, one a seed (None: not started)."""

    config_id: str
    trials: Mapping[int, TrialRecord | None]
    fingerprint: str | None = None  # of the code as it is now, where the caller knows it
    classes: tuple[str, ...] = ()

    def status(self, seed: int) -> Status:
        """Where the trial of a seed stands."""
        return status_of(self.trials[seed])

    def finals(self, metric: str) -> dict[int, float]:
        """Seed -> the metric at the last step, of finished trials only; what is no number is left out."""
        return finals(self.trials, metric)

    def curve(self, metric: str) -> dict[int, tuple[tuple[int, float], ...]]:
        """Seed -> (step, value) pairs, whatever the outcome."""
        curves = {}
        for seed, record in self.trials.items():
            points = tuple(
                (report["step"], report["metrics"][metric])
                for report in (record.reports if record else ())
                if is_number(report["metrics"].get(metric, math.nan))
            )
            if points:
                curves[seed] = points
        return curves

    @cached_property
    def step_ms(self) -> tuple[float, float] | None:
        """Milliseconds a training step, the lowest and the highest: over all seeds, and over the reports of each but
        the first one, which warms up."""
        times = [
            report["metrics"][STEP_TIME]
            for record in self.records
            for report in record.reports[1:] or record.reports
            if is_number(report["metrics"].get(STEP_TIME, math.nan))
        ]
        return (min(times), max(times)) if times else None

    @cached_property
    def peak_mib(self) -> float | None:
        """Largest peak memory of the trials on GPUs, in MiB. That of a process on a CPU says more of the libraries in
        it than of the config."""
        peaks = [
            record.metrics.get(PEAK_MEMORY, math.nan)
            for record in self.records
            if (ran_on := environment_of(record)) is None or ran_on.device != "cpu"
        ]
        return max((peak for peak in peaks if is_number(peak)), default=None)

    @cached_property
    def wall_s(self) -> float | None:
        """Seconds of one trial: the median over finished ones."""
        seconds = [record.wall_s for record in self.records if record.outcome is Outcome.FINISHED]
        return median(seconds) if seconds else None

    @cached_property
    def records(self) -> tuple[TrialRecord, ...]:
        """The trials there are, in seed order."""
        return tuple(record for record in self.trials.values() if record is not None)

    @cached_property
    def environments(self) -> Mapping[int, Environment]:
        """Seed -> what a finished trial ran on."""
        return {
            record.seed: environment
            for record in self.records
            if record.outcome is Outcome.FINISHED and (environment := environment_of(record)) is not None
        }

    @cached_property
    def other_code(self) -> tuple[int, ...]:
        """Seeds whose result was trained by code other than today's (the user said that it stands)."""
        if self.fingerprint is None:
            return ()
        return tuple(record.seed for record in self.records if record.fingerprint != self.fingerprint)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A config that all cells are compared with."""

    name: str
    config: ConfigResult
    paper: float | None  # what the paper prints for it, where one of the study's tables does


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A cell minus another config, seed by seed."""

    name: str  # of the other config
    config_id: str
    paired: Paired
    second: Paired | None  # the same for the second metric
    paper: float | None  # the paper's difference, where it prints both numbers


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One printed entry with its numbers.

    Args:
        values, second_values: Seed -> final number, of finished trials only.
        columns: One summary for each further column of the table.
        comparisons: One for each reference of the table; None where the cell is that reference.
        own: The comparison with the row's own reference, where it has one.
        marks: What a reader must know before reading the numbers: seeds missing, other machines, other code.
    """

    cell: Cell
    config: ConfigResult
    values: Mapping[int, float]
    second_values: Mapping[int, float]
    columns: tuple[Summary, ...]
    comparisons: tuple[Comparison | None, ...]
    own: Comparison | None
    marks: tuple[str, ...]

    @cached_property
    def summary(self) -> Summary:
        """Mean and spread of the printed metric."""
        return summary(self.values.values())

    @cached_property
    def second(self) -> Summary:
        """Mean and spread of the second metric."""
        return summary(self.second_values.values())

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Where the trials stand, in seed order."""
        return tuple(self.config.status(seed) for seed in self.config.trials)

    @property
    def complete(self) -> bool:
        """Whether every seed has a number."""
        return len(self.values) == len(self.config.trials)

    @property
    def all_comparisons(self) -> tuple[Comparison, ...]:
        """With the references, and then with the row's own."""
        return tuple(each for each in (*self.comparisons, self.own) if each is not None)


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """One table with its numbers.

    Args:
        references: What its rows are compared with: the study's references, or none where its axis names a reference
            for each row (`Axis.against`).
        shows_cost: Whether what its rows train may differ in time and memory: else a difference that is measured is
            the machine's.
    """

    table: Table
    metric: str
    cells: tuple[CellResult, ...]
    references: tuple[Reference, ...]
    shows_cost: bool

    @property
    def has_own(self) -> bool:
        """Whether rows have references of their own."""
        return self.table.axis.against is not None

    @property
    def has_paper(self) -> bool:
        """Whether the paper prints something for a row."""
        return bool(self.quoted) or any(cell.cell.paper is not None for cell in self.cells)

    @property
    def baseline(self) -> Reference | None:
        """The first of its references."""
        return self.references[0] if self.references else None

    @property
    def quoted(self) -> tuple[Quoted, ...]:
        """Rows from the literature."""
        return self.table.quoted

    def paper_columns(self, paper: Paper) -> tuple[float | None, ...]:
        """The paper's value of each further column, found by metric key or heading."""
        printed: Mapping[str, float] = paper.columns if isinstance(paper, Published) else {}
        return tuple(printed.get(key, printed.get(heading)) for key, heading in self.table.columns)


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that a report says of a study.

    Args:
        references: In the study's order; the first one is the baseline.
        configs: Config id -> trials, distinct, in printing order.
        main: The other references minus the baseline: what the study is about.
        environments: What the finished trials ran on, the most frequent first.
        launches: How often the study was started.
        slots: How many trials ran at once, 0 where only a cluster knows; distinct.
    """

    study: Study
    seeds: tuple[int, ...]
    tables: tuple[TableResult, ...]
    references: tuple[Reference, ...]
    configs: Mapping[str, ConfigResult]
    main: tuple[Comparison, ...]
    environments: tuple[Environment, ...]
    hosts: tuple[str, ...]
    versions: tuple[Mapping[str, str], ...]
    launches: int
    slots: tuple[int, ...]

    @property
    def metric(self) -> str:
        """The study's metric."""
        return self.study.metric

    @property
    def second_metric(self) -> str | None:
        """The study's second metric."""
        return self.study.second_metric

    @property
    def baseline(self) -> Reference | None:
        """The first reference."""
        return self.references[0] if self.references else None

    @cached_property
    def cells(self) -> tuple[CellResult, ...]:
        """All cells in printing order."""
        return tuple(cell for table in self.tables for cell in table.cells)

    @cached_property
    def intervals(self) -> Mapping[tuple[frozenset[str], str], Paired]:
        """Every different interval of a printed metric, by the two configs and the metric: a - b and b - a are one."""
        return self._intervals(second=False)

    @cached_property
    def second_intervals(self) -> Mapping[tuple[frozenset[str], str], Paired]:
        """Every different interval of the second metric."""
        return self._intervals(second=True)

    def _intervals(self, *, second: bool) -> Mapping[tuple[frozenset[str], str], Paired]:
        found: dict[tuple[frozenset[str], str], Paired] = {}
        base = self.baseline.config.config_id if self.baseline else ""
        every = [(base, each, self.metric) for each in self.main]
        for table in self.tables:
            every += [(c.cell.config_id, each, table.metric) for c in table.cells for each in c.all_comparisons]
        for config, comparison, metric in every:
            paired = comparison.second if second else comparison.paired
            if paired is not None and paired.low is not None:
                other = comparison.config_id
                found.setdefault((frozenset((config, other)), "" if second else metric), paired)
        return found

    @cached_property
    def distinct(self) -> tuple[CellResult, ...]:
        """One cell for each config and metric, in printing order."""
        metrics = {table.table.name: table.metric for table in self.tables}
        found: dict[tuple[str, str], CellResult] = {}
        for cell in self.cells:
            found.setdefault((cell.cell.config_id, metrics[cell.cell.table]), cell)
        return tuple(found.values())

    @cached_property
    def records(self) -> tuple[TrialRecord, ...]:
        """All trials there are, config by config."""
        return tuple(record for config in self.configs.values() for record in config.records)

    @cached_property
    def statuses(self) -> Mapping[Status, int]:
        """How many trials stand where."""
        return Counter(config.status(seed) for config in self.configs.values() for seed in self.seeds)

    def name_of(self, config: str) -> str:
        """The name of a config by its id."""
        return self.study.name_of(config)


def collect(
    study: Study,
    state: LedgerState,
    fingerprints: Mapping[str, str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Results:
    """The numbers of a study.

    Args:
        study: What is printed.
        state: The ledger.
        fingerprints: Config id -> fingerprint of the code as it is now. For one that is not named, the ledger's
            word counts: the code that a driver last declared.
        seeds: Which seeds count; None takes the study's.
    """
    chosen = tuple(study.seeds if seeds is None else seeds)
    cells = {table.name: tuple(study.cells_of(table)) for table in study.tables}
    every = [cell for table in study.tables for cell in cells[table.name]]
    names = study.reference_ids
    ids = [*names.values(), *(cell.config_id for cell in every), *(cell.against for cell in every if cell.against)]
    known = fingerprints or {}
    configs = {each: _config_result(each, state, known.get(each), chosen) for each in dict.fromkeys(ids)}
    papers = {table: _papers(of_table) for table, of_table in cells.items()}
    anywhere = {config: paper for table in reversed(study.tables) for config, paper in papers[table.name].items()}
    references = tuple(
        Reference(name=name, config=configs[each], paper=anywhere.get(each)) for name, each in names.items()
    )
    environments = _environments(configs.values())
    collector = _Collector(study, configs, references, environments, every)
    tables = tuple(collector.table(table, cells[table.name], papers[table.name] or {}) for table in study.tables)
    launches = [each for each in state.launches if (each["study"], each["profile"]) == (study.name, study.profile)]
    return Results(
        study=study,
        seeds=chosen,
        tables=tables,
        references=references,
        configs=configs,
        main=collector.main(),
        environments=environments,
        hosts=tuple(dict.fromkeys(str(each["host"]) for each in launches if each.get("host"))),
        versions=tuple(
            dict(items) for items in dict.fromkeys(_version_items(each.get("versions")) for each in launches)
        ),
        launches=len(launches),
        slots=tuple(dict.fromkeys(int(each.get("slots", 0)) for each in launches)),
    )


def _version_items(versions: Mapping[str, object] | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(version)) for name, version in (versions or {}).items())


@dataclass(frozen=True)
class _Collector:
    """What the cells of all tables share while results are put together."""

    study: Study
    configs: Mapping[str, ConfigResult]
    references: tuple[Reference, ...]
    environments: tuple[Environment, ...]
    cells: Sequence[Cell]

    def table(self, table: Table, cells: Sequence[Cell], papers: Mapping[str, float]) -> TableResult:
        metric = table.metric or self.study.metric
        return TableResult(
            table=table,
            metric=metric,
            cells=tuple(self._cell(cell, table, metric, papers) for cell in cells),
            references=() if table.axis.against is not None else self.references,
            shows_cost=len({self.study.program.cost_class(cell.config) for cell in cells}) > 1,
        )

    def main(self) -> tuple[Comparison, ...]:
        """The other references minus the first."""
        if not self.references:
            return ()
        base, *others = self.references
        second = self.study.second_metric
        return tuple(
            Comparison(
                name=other.name,
                config_id=other.config.config_id,
                paired=_paired(other.config, base.config, self.study.metric),
                second=_paired(other.config, base.config, second) if second else None,
                paper=None if other.paper is None or base.paper is None else other.paper - base.paper,
            )
            for other in others
            if other.config.config_id != base.config.config_id
        )

    def _cell(self, cell: Cell, table: Table, metric: str, papers: Mapping[str, float]) -> CellResult:
        config = self.configs[cell.config_id]
        own = self.configs[cell.against] if cell.against not in (None, cell.config_id) else None
        return CellResult(
            cell=cell,
            config=config,
            values=config.finals(metric),
            second_values=config.finals(self.study.second_metric) if self.study.second_metric else {},
            columns=tuple(summary(config.finals(key).values()) for key, _ in table.columns),
            comparisons=()
            if table.axis.against is not None
            else tuple(
                self._comparison(cell, reference.config, reference.name, metric, papers)
                if reference.config.config_id != cell.config_id
                else None
                for reference in self.references
            ),
            own=None if own is None else self._comparison(cell, own, self.study.name_of(own.config_id), metric, papers),
            marks=_marks(config, metric, self.environments),
        )

    def _comparison(
        self, cell: Cell, other: ConfigResult, name: str, metric: str, papers: Mapping[str, float]
    ) -> Comparison:
        config = self.configs[cell.config_id]
        second = self.study.second_metric
        here = paper_number(cell.paper)
        there = papers.get(other.config_id, self._paper_anywhere(other.config_id))
        return Comparison(
            name=name,
            config_id=other.config_id,
            paired=_paired(config, other, metric),
            second=_paired(config, other, second) if second else None,
            paper=None if here is None or there is None else here - there,
        )

    def _paper_anywhere(self, config: str) -> float | None:
        numbers = (paper_number(cell.paper) for cell in self.cells if cell.config_id == config)
        return next((number for number in numbers if number is not None), None)


def _paired(a: ConfigResult, b: ConfigResult, metric: str) -> Paired:
    return paired_difference(a.finals(metric), b.finals(metric))


def _papers(cells: Sequence[Cell]) -> dict[str, float]:
    numbers = ((cell.config_id, paper_number(cell.paper)) for cell in cells)
    return {config: number for config, number in numbers if number is not None}


def _config_result(config: str, state: LedgerState, fingerprint: str | None, seeds: Sequence[int]) -> ConfigResult:
    record = state.configs.get(config)
    return ConfigResult(
        config_id=config,
        trials={seed: state.counts(config, seed, fingerprint) for seed in seeds},
        fingerprint=fingerprint,
        classes=record.classes if record else (),
    )


def _environments(configs: Iterable[ConfigResult]) -> tuple[Environment, ...]:
    counts = Counter(each for config in configs for each in config.environments.values())
    return tuple(sorted(counts, key=lambda each: (-counts[each], each)))


def _marks(config: ConfigResult, metric: str, environments: Sequence[Environment]) -> tuple[str, ...]:
    """What a reader must know before reading the numbers of a cell."""
    numbers = config.finals(metric)
    without: dict[str, list[int]] = {}
    for seed in config.trials:
        if seed not in numbers:
            without.setdefault(status_text(config, seed), []).append(seed)
    marks = [f"{_seeds(seeds)} {text}" for text, seeds in without.items()]
    elsewhere: dict[Environment, list[int]] = {}
    for seed, environment in config.environments.items():
        if environment != environments[0]:
            elsewhere.setdefault(environment, []).append(seed)
    marks += [f"{_seeds(seeds)} ran on machine {letter(environments, each)}" for each, seeds in elsewhere.items()]
    if config.other_code:
        marks.append(f"{_seeds(config.other_code)} trained by earlier code")
    return tuple(marks)


def letter(environments: Sequence[Environment], environment: Environment) -> str:
    """The letter that marks an environment: A is the most frequent one; Z stands for all from the 26th on."""
    return chr(ord("A") + min(environments.index(environment), 25))


def status_text(config: ConfigResult, seed: int) -> str:
    """Where a trial without a number stands, with its step where that helps: `stopped early at step 120 of 400`."""
    record, status = config.trials[seed], config.status(seed)
    if status is Status.FINISHED:
        return "finished without a number"
    steps = (Status.STOPPED, Status.DIVERGED, Status.OPEN)
    word: str = status.value
    if record is None or status not in steps or not record.planned_steps:
        return word
    return f"{word} at step {record.step} of {record.planned_steps}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
