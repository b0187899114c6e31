"""From a ledger to the numbers of a report: the mean of each cell, its differences to baselines, what is missing.

Everything here is data; the report puts it into sentences and tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from mfm_tune.ledger.records import Status, TrialRecord
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.standing import Stages
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome
from mfm_tune.published import Paper, Published, paper_number
from mfm_tune.results.statistics import Paired, Summary, paired_difference, summary
from mfm_tune.results.trials import ConfigResult, Environment, Mark, environments_of, marks
from mfm_tune.results.two_levels import TwoLevels, two_levels
from mfm_tune.space import Cell, Study, Table


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A config minus its baseline, seed by seed.

    Args:
        paired, second: Of `metric` and of the study's second metric.
        paper: The paper's difference, where it prints both numbers.
    """

    config: ConfigResult
    baseline: ConfigResult
    metric: str
    paired: Paired
    second: Paired | None
    paper: float | None

    @property
    def configs(self) -> frozenset[str]:
        """The ids of the two: a - b and b - a are one comparison."""
        return frozenset((self.config.config_id, self.baseline.config_id))


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the rows of a table are compared with in one column.

    Args:
        config: The reference that is the same for all rows; None where each row has its own (`Axis.against`).
    """

    name: str
    config: ConfigResult | None


OWN = Baseline(name="the row's baseline", config=None)


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One printed entry with its numbers.

    Args:
        values: Seed -> final number, of finished trials only.
        second: Mean and spread of the second metric.
        columns: One summary for each further column of the table.
        comparisons: One for each baseline of the table; None where the cell is the baseline, or has none.
        marks: What a reader must know before reading the numbers: seeds missing, other machines, other code.
    """

    cell: Cell
    config: ConfigResult
    values: Mapping[int, float]
    second: Summary
    columns: tuple[Summary, ...]
    comparisons: tuple[Comparison | None, ...]
    marks: tuple[Mark, ...]

    @cached_property
    def summary(self) -> Summary:
        """Mean and spread of the printed metric."""
        return summary(self.values.values())

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The status of each trial, in seed order."""
        return tuple(self.config.status(seed) for seed in self.config.trials)

    @property
    def complete(self) -> bool:
        """Whether every seed has a number."""
        return len(self.values) == len(self.config.trials)


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """One table with its numbers.

    Args:
        baselines: What its rows are compared with: the study's references, or each row's own (`OWN` alone).
        shows_cost: Whether what its rows train may differ in time and memory: else a difference that is measured is
            the machine's.
    """

    table: Table
    metric: str
    cells: tuple[CellResult, ...]
    baselines: tuple[Baseline, ...]
    shows_cost: bool

    @property
    def has_paper(self) -> bool:
        """Whether the paper prints something for a row."""
        return bool(self.table.quoted) or any(cell.cell.paper is not None for cell in self.cells)

    @property
    def begun(self) -> bool:
        """Whether a trial of a row has begun."""
        return any(cell.config.records for cell in self.cells)

    @property
    def baseline(self) -> ConfigResult | None:
        """The first of the baselines that all rows share."""
        return self.baselines[0].config if self.baselines else None

    @property
    def comparisons(self) -> tuple[tuple[CellResult, Baseline, Comparison], ...]:
        """Every difference of the table, row by row."""
        pairs = ((cell, *pair) for cell in self.cells for pair in zip(self.baselines, cell.comparisons, strict=True))
        return tuple((cell, baseline, each) for cell, baseline, each in pairs if each is not None)

    @cached_property
    def two_levels(self) -> TwoLevels | None:
        """Of rows that are draws of one thing: how much varies between them and between seeds within them, of the
        differences to their baselines (their first stages alone), or of the values where they have none. None for other
        rows, for too few numbers, and where rows share a baseline."""
        pairs = [each.paired.of_first_stage for _, _, each in self.comparisons]
        if not self.table.draws_of or self.share_baseline:
            return None
        return two_levels(pairs or [cell.values for cell in self.cells])

    @property
    def share_baseline(self) -> bool:
        """Whether rows are compared with one config, so that its noise is in all of their differences."""
        return len({each.baseline.config_id for _, _, each in self.comparisons}) < len(self.comparisons)

    def paper_columns(self, paper: Paper) -> tuple[float | None, ...]:
        """The paper's value of each further column, found by metric key or heading."""
        printed: Mapping[str, float] = paper.columns if isinstance(paper, Published) else {}
        return tuple(printed.get(key, printed.get(heading)) for key, heading in self.table.columns)


@dataclass(frozen=True, kw_only=True)
class Results:
    """All numbers of a study's report, each worked out when it is asked for.

    Args:
        configs: Config id -> trials, distinct, in printing order.
        launches: The events of the study's launches.
        stages: First stages of differences that were compared in two stages.
        other_seeds: Seeds of finished trials of these configs that are no part of the report.
    """

    study: Study
    configs: Mapping[str, ConfigResult]
    launches: tuple[Event, ...]
    stages: Stages
    other_seeds: tuple[int, ...] = ()

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The study's seeds, then those of second stages, which only some configs have."""
        return tuple(dict.fromkeys((*self.study.seeds, *chain.from_iterable(map(_seeds, self.configs.values())))))

    @property
    def metric(self) -> str:
        """The study's metric."""
        return self.study.metric

    @property
    def second_metric(self) -> str | None:
        """The study's second metric."""
        return self.study.second_metric

    @cached_property
    def references(self) -> tuple[ConfigResult, ...]:
        """In the study's order; the first one is the baseline of the others."""
        named = self.study.reference_ids.items()
        return tuple(replace(self.configs[config], name=name) for name, config in named)

    @cached_property
    def environments(self) -> tuple[Environment, ...]:
        """What the finished trials ran on, the most frequent first."""
        return environments_of(self.configs.values())

    def paired(self, config: ConfigResult, other: ConfigResult, metric: str) -> Paired:
        """One config minus another in a metric, seed by seed: in two stages where the two were compared so."""
        first = self.stages.of(config.config_id, other.config_id, metric)
        return paired_difference(config.finals(metric), other.finals(metric), first)

    @cached_property
    def alike(self) -> Mapping[str, tuple[str, ...]]:
        """Config id -> names of others that have exactly its numbers at every evaluation of every seed: what tells them
        apart had no effect. Configs that no other equals are left out."""
        groups: dict[tuple[tuple[tuple[int, float], ...], ...], list[ConfigResult]] = {}
        for config in self.configs.values():
            if config.finals(self.metric).keys() >= set(self.study.seeds):
                curves = config.curve(self.metric)
                groups.setdefault(tuple(curves[seed] for seed in self.study.seeds), []).append(config)
        return {
            config.config_id: tuple(each.name for each in group if each is not config)
            for group in groups.values()
            if len(group) > 1
            for config in group
        }

    @cached_property
    def main(self) -> tuple[Comparison, ...]:
        """The other references minus the first: what the study is about."""
        metric, papers = self.metric, self._papers(self.metric)
        return tuple(
            self._comparison(other, self.references[0], metric, papers.get(other.config_id), papers)
            for other in self.references[1:]
            if other.config_id != self.references[0].config_id
        )

    @cached_property
    def tables(self) -> tuple[TableResult, ...]:
        """In the study's order."""
        return tuple(map(self._table, self.study.tables))

    @cached_property
    def cells(self) -> tuple[CellResult, ...]:
        """All cells in printing order."""
        return tuple(cell for table in self.tables for cell in table.cells)

    @cached_property
    def intervals(self) -> Mapping[tuple[frozenset[str], str], Paired]:
        """Every different interval of a printed metric, by the two configs and the metric: a - b and b - a are one."""
        found: dict[tuple[frozenset[str], str], Paired] = {}
        for each in self.comparisons:
            if each.paired.low is not None:
                found.setdefault((each.configs, each.metric), each.paired)
        return found

    @cached_property
    def second_intervals(self) -> Mapping[frozenset[str], Paired]:
        """Every different interval of the second metric, by the two configs."""
        found: dict[frozenset[str], Paired] = {}
        for each in self.comparisons:
            if each.second is not None and each.second.low is not None:
                found.setdefault(each.configs, each.second)
        return found

    @cached_property
    def two_stage(self) -> tuple[Comparison, ...]:
        """Every different comparison whose interval is that of the two-stage procedure, in printing order."""
        found = {each.configs: each for each in reversed(self.comparisons) if each.paired.first is not None}
        return tuple(reversed(found.values()))

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every difference between references and every one of the tables."""
        return (*self.main, *(each for table in self.tables for _, _, each in table.comparisons))

    @cached_property
    def numbered(self) -> tuple[tuple[ConfigResult, str], ...]:
        """Every config with each metric that the tables print of it, in printing order, then baselines that are no row
        with the metrics in which rows are compared with them."""
        rows = ((cell.cell.config_id, table.metric) for table in self.tables for cell in table.cells)
        baselines = ((each.baseline.config_id, each.metric) for each in self.comparisons)
        return tuple((self.configs[config], metric) for config, metric in dict.fromkeys((*rows, *baselines)))

    @cached_property
    def records(self) -> tuple[TrialRecord, ...]:
        """All trials there are, config by config."""
        return tuple(record for config in self.configs.values() for record in config.records)

    @cached_property
    def statuses(self) -> Counter[Status]:
        """How many trials have each status."""
        return Counter(config.status(seed) for config in self.configs.values() for seed in config.trials)

    def _papers(self, metric: str) -> Mapping[str, float]:
        """Config id -> the paper's number in the first table of a metric that has one."""
        tables = (table for table in reversed(self.study.tables) if (table.metric or self.metric) == metric)
        return dict(chain.from_iterable(_papers(self.study, table).items() for table in tables))

    def _table(self, table: Table) -> TableResult:
        cells, metric = self.study.cells_of(table), table.metric or self.study.metric
        own = table.axis.against is not None
        baselines = (OWN,) if own else tuple(Baseline(name=each.name, config=each) for each in self.references)
        papers = {**self._papers(metric), **_papers(self.study, table)}
        return TableResult(
            table=table,
            metric=metric,
            cells=tuple(self._cell(cell, table, metric, baselines, papers) for cell in cells),
            baselines=baselines,
            shows_cost=len({self.study.program.cost_class(cell.config) for cell in cells}) > 1,
        )

    def _cell(
        self, cell: Cell, table: Table, metric: str, baselines: Sequence[Baseline], papers: Mapping[str, float]
    ) -> CellResult:
        config, second = self.configs[cell.config_id], self.study.second_metric
        others = [self.configs.get(cell.against or "") if each is OWN else each.config for each in baselines]
        return CellResult(
            cell=cell,
            config=config,
            values=config.finals(metric),
            second=summary(config.finals(second).values() if second else ()),
            columns=tuple(summary(config.finals(key).values()) for key, _ in table.columns),
            comparisons=tuple(
                None
                if other is None or other.config_id == cell.config_id
                else self._comparison(config, other, metric, paper_number(cell.paper), papers)
                for other in others
            ),
            marks=marks(config, metric, self.environments),
        )

    def _comparison(
        self, config: ConfigResult, other: ConfigResult, metric: str, paper: float | None, papers: Mapping[str, float]
    ) -> Comparison:
        second, there = self.study.second_metric, papers.get(other.config_id)
        return Comparison(
            config=config,
            baseline=other,
            metric=metric,
            paired=self.paired(config, other, metric),
            second=self.paired(config, other, second) if second else None,
            paper=None if paper is None or there is None else paper - there,
        )


def collect(study: Study, state: LedgerState, fingerprints: Mapping[str, str] | None = None) -> Results:
    """The numbers of a study.

    Args:
        study: What is printed.
        state: The ledger.
        fingerprints: Config id -> fingerprint of the code as it is now. For one that is not named, the code that a
            driver last declared counts.
    """
    known = fingerprints or {}
    stages = Stages(state=state, study=study.name, profile=study.profile, codes=known)
    configs = {
        config: ConfigResult(
            config_id=config,
            name=study.name_of(config),
            trials={seed: state.counts(config, seed, known.get(config)) for seed in stages.every(config, study.seeds)},
            fingerprint=known.get(config),
            classes=state.configs[config].classes if config in state.configs else (),
        )
        for config in study.configs()
    }
    launches = (each for each in state.launches if (each["study"], each["profile"]) == (study.name, study.profile))
    others = {
        record.seed
        for record in list(state.trials.values())  # at once: another thread may be adding to them
        if record.outcome is Outcome.FINISHED
        and record.config_id in configs
        and record.seed not in configs[record.config_id].trials
    }
    return Results(
        study=study, configs=configs, launches=tuple(launches), stages=stages, other_seeds=tuple(sorted(others))
    )


def _seeds(config: ConfigResult) -> tuple[int, ...]:
    return tuple(config.trials)


def _papers(study: Study, table: Table) -> dict[str, float]:
    numbers = ((cell.config_id, paper_number(cell.paper)) for cell in study.cells_of(table))
    return {config: number for config, number in numbers if number is not None}
