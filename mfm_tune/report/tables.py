"""Tables of the report as headings and entries of text, which Markdown, LaTeX, HTML and the terminal print alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from mfm_tune.criteria import criterion_of, digits_of
from mfm_tune.fields import hyphened
from mfm_tune.published import Paper, paper_notes, paper_number, paper_text
from mfm_tune.report.columns import Kind
from mfm_tune.report.grids import Grid
from mfm_tune.report.numbers import (
    NOTHING,
    cell_text,
    column_text,
    counted,
    difference,
    interval_name,
    mean_std,
    metric_name,
    number,
    signed,
)
from mfm_tune.report.sentences import best_level, caveats, two_levels_in_words
from mfm_tune.results.statistics import Verdict
from mfm_tune.results.study import OWN, Baseline, CellResult, Results, TableResult
from mfm_tune.space import Quoted


@dataclass(frozen=True)
class Entry:
    """One printed entry; a verdict where it is a difference, and a detail for where there is room for it. `best`: no
    other row of the column has a better mean."""

    text: str
    verdict: Verdict | None = None
    detail: str = ""
    best: bool = False


EMPTY = Entry("")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One printed row; `notes` are the numbers of the footnotes that hold for it."""

    level: str
    trained: str
    entries: tuple[Entry, ...]
    notes: tuple[int, ...] = ()
    quoted: bool = False


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A table ready to be printed.

    Args:
        caption: What a paper prints above it, with what the numbers are and at which scale.
        about_differences: What it adds where columns of differences are shown.
        label: By which a paper refers to it.
        kinds, headings: Of the entries; the level and, where `has_trained`, what was trained for it come before them.
        rows: In the order of the axis, quoted rows first.
        footnotes: Numbered from 1.
        note: What the study writes under the table.
        remarks: What the report says of its numbers.
    """

    name: str
    title: str
    caption: str
    about_differences: str
    label: str
    axis: str
    metric: str
    has_trained: bool
    kinds: tuple[Kind, ...]
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    note: str
    remarks: tuple[str, ...]

    @property
    def left_headings(self) -> tuple[str, ...]:
        """What comes before the entries."""
        return (self.axis, "trained") if self.has_trained else (self.axis,)

    def left(self, row: Row) -> tuple[str, ...]:
        """A row's texts before the entries."""
        return (row.level, row.trained) if self.has_trained else (row.level,)

    @property
    def glance(self) -> Grid:
        """The table as the paper prints it: level, ours, the paper's."""
        width = 2 if Kind.PAPER in self.kinds else 1
        rows = [(row.level, *(entry.text for entry in row.entries[:width])) for row in self.rows if not row.quoted]
        return Grid(headings=(self.axis, self.metric, "paper")[: width + 1], rows=tuple(rows))


@dataclass(frozen=True)
class _Column:
    """A column: what it prints of a cell, and of a row from the literature."""

    kind: Kind
    heading: str
    entry: Callable[[CellResult], Entry]
    quoted: Callable[[Quoted], Entry] = lambda _: EMPTY
    mean: Callable[[CellResult], float | None] = lambda _: None
    metric: str = ""  # what the mean is of

    def entries(self, cells: Sequence[CellResult]) -> tuple[Entry, ...]:
        """Of each cell, the best means marked: all that are printed alike, where there are two at least."""
        digits = digits_of(self.metric)
        means = [mean for cell in cells if (mean := self.mean(cell)) is not None]
        best = number(max(means, key=criterion_of(self.metric).oriented), digits) if len(means) > 1 else None
        return tuple(
            replace(self.entry(cell), best=best is not None and number(self.mean(cell), digits) == best)
            for cell in cells
        )


def printed(results: Results, table: TableResult) -> Printed:
    """A table with all its columns: value, paper, differences, second metric, cost, memory."""
    columns = tuple(_columns(results, table))
    entries = zip(*(column.entries(table.cells) for column in columns), strict=True)
    quoted_notes = [paper_notes(row.paper) for row in table.table.quoted]
    cell_notes = [caveats(results, cell) for cell in table.cells]
    footnotes = tuple(dict.fromkeys(chain.from_iterable((*quoted_notes, *cell_notes))))
    quoted = [
        Row(
            level=row.label,
            trained="",
            entries=tuple(column.quoted(row) for column in columns),
            notes=tuple(footnotes.index(note) + 1 for note in notes),
            quoted=True,
        )
        for row, notes in zip(table.table.quoted, quoted_notes, strict=True)
    ]
    rows = [
        Row(
            level=cell.cell.level,
            trained=cell.cell.trained or cell.cell.level,
            entries=of_cell,
            notes=tuple(footnotes.index(note) + 1 for note in notes),
        )
        for cell, of_cell, notes in zip(table.cells, entries, cell_notes, strict=True)
    ]
    return Printed(
        name=table.table.name,
        title=table.table.title,
        caption=_caption(results, table),
        about_differences=_about_differences(results, table),
        label=f"tab:{results.study.name}-{table.table.name}",
        axis=table.table.axis.name,
        metric=metric_name(table.metric),
        has_trained=any(cell.cell.trained not in (None, cell.cell.level) for cell in table.cells),
        kinds=tuple(column.kind for column in columns),
        headings=tuple(column.heading for column in columns),
        rows=(*quoted, *rows),
        footnotes=footnotes,
        note=table.table.note,
        remarks=tuple(_remarks(table)),
    )


def _caption(results: Results, table: TableResult) -> str:
    study, numbers = results.study, sorted({len(cell.config.trials) for cell in table.cells})
    seeds = counted(numbers[-1], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
    scale = " ".join((f"Profile {hyphened(study.profile)}.", *study.comparable[:1]))
    return (
        f"{table.table.title}: {metric_name(table.metric)}, mean ± sample standard deviation over "
        f"{seeds}; bold is the best mean, which is no test. {scale}"
    )


def _about_differences(results: Results, table: TableResult) -> str:
    kinds = dict.fromkeys(interval_name(each.paired) for _, _, each in table.comparisons)
    if "two-stage" not in kinds:
        return "Differences are paired by seed, with 95 % t-intervals."
    others = "paired t" in kinds or results.second_metric is not None or bool(table.table.columns)
    where = f" where {metric_name(table.metric)} was compared so, else t-intervals" if others else ""
    return f"Differences are paired by seed, with two-stage 95 % intervals{where}."


def _remarks(table: TableResult) -> Iterator[str]:
    yield from filter(None, (best_level(table), two_levels_in_words(table)))
    if table.shows_cost:
        yield (
            "Times a step are the lowest to the highest over seeds and evaluations, on machines that may have been "
            "busy with other trials."
        )


def _columns(results: Results, table: TableResult) -> Iterator[_Column]:
    yield _Column(
        Kind.VALUE,
        metric_name(table.metric),
        lambda cell: Entry(cell_text(cell, table.metric)),
        mean=lambda cell: cell.summary.mean,
        metric=table.metric,
    )
    if table.has_paper:
        digits = digits_of(table.metric)
        yield _Column(
            Kind.PAPER,
            "paper",
            lambda cell: Entry(paper_text(cell.cell.paper, digits)),
            lambda row: Entry(number(row.paper.miou, digits)),
            mean=lambda cell: paper_number(cell.cell.paper),
            metric=table.metric,
        )
    names = [f"minus {baseline.name}" for baseline in table.baselines]
    for index, baseline in enumerate(table.baselines):  # before the further columns, which may be many
        yield _Column(Kind.DIFFERENCE, names[index], partial(_difference, index, baseline))
    for index, (_, heading) in enumerate(table.table.columns):
        quoted = partial(_quoted_further, table, index)
        yield _Column(Kind.FURTHER, heading, partial(_further, table, index), quoted)
    if results.second_metric is not None:
        second = metric_name(results.second_metric)
        yield _Column(
            Kind.SECOND,
            second,
            partial(_second, results.second_metric),
            mean=lambda cell: cell.second.mean,
            metric=results.second_metric,
        )
        for index, name in enumerate(names):
            of_cell = partial(_second_difference, index, results.second_metric)
            yield _Column(Kind.SECOND_DIFFERENCE, f"{second} {name}", of_cell)
    if table.shows_cost:  # the rows may differ in it
        yield _Column(Kind.COST, "ms/step", lambda cell: Entry(step_text(cell.config.step_ms)))
        if any(cell.config.peak_mib is not None for cell in table.cells):
            yield _Column(Kind.COST, "peak MiB", lambda cell: Entry(number(cell.config.peak_mib, 0)))


def _difference(index: int, baseline: Baseline, cell: CellResult) -> Entry:
    comparison = cell.comparisons[index]
    if comparison is None:
        return EMPTY
    details = [f"to {comparison.baseline.name}"] if baseline is OWN else []
    metric, digits = comparison.metric, digits_of(comparison.metric)
    if comparison.paper is not None:
        details.append(f"paper {signed(comparison.paper, digits)}")
    if comparison.paired.smallest_visible is not None:
        details.append(f"half-width {number(comparison.paired.smallest_visible, digits)}")
    if comparison.paired.first is not None:
        details.append(f"{interval_name(comparison.paired)} interval")
    paired = comparison.paired
    fewer = paired.low is not None and paired.n < cell.summary.n
    text = f"{difference(paired, metric)} ({counted(paired.n, 'seed')})" if fewer else difference(paired, metric)
    return Entry(text, paired.verdict(metric), "; ".join(details))


def _second(metric: str, cell: CellResult) -> Entry:
    return Entry(mean_std(cell.second, len(cell.config.trials), metric))


def _second_difference(index: int, metric: str, cell: CellResult) -> Entry:
    comparison = cell.comparisons[index]
    if comparison is None or comparison.second is None:
        return EMPTY
    return Entry(difference(comparison.second, metric), comparison.second.verdict(metric))


def _further(table: TableResult, index: int, cell: CellResult) -> Entry:
    key, _ = table.table.columns[index]
    text = column_text(cell.columns[index], len(cell.config.trials), key)
    return Entry(text, None, _paper_detail(table, index, cell.cell.paper))


def _quoted_further(table: TableResult, index: int, row: Quoted) -> Entry:
    return Entry("", None, _paper_detail(table, index, row.paper))


def _paper_detail(table: TableResult, index: int, paper: Paper) -> str:
    value, (key, _) = table.paper_columns(paper)[index], table.table.columns[index]
    return "" if value is None else f"paper {number(value, digits_of(key))}"


def step_text(step_ms: tuple[float, float] | None) -> str:
    """`48.7 to 53.1`, `120 to 131`; a dash where it was not measured."""
    if step_ms is None:
        return NOTHING
    texts = [number(each, 1 if step_ms[1] < 100 else 0) for each in step_ms]
    return " to ".join(dict.fromkeys(texts))
