"""A table of the report as headings and entries of text, which Markdown, LaTeX, HTML and the terminal print alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfm_tune.report.numbers import NOTHING, cell_text, column_text, difference, mean_std, metric_name, number, signed
from mfm_tune.results.statistics import Verdict
from mfm_tune.results.study import OWN, CellResult, Comparison, Results, TableResult
from mfm_tune.space import paper_text


@dataclass(frozen=True)
class Entry:
    """One printed entry; a verdict where it is a difference, and a detail for where there is room for it."""

    text: str
    verdict: Verdict | None = None
    detail: str = ""


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
        headings: Of the entries; the level and, where `has_trained`, what was trained for it stand before them.
        rows: In the order of the axis, quoted rows first.
        footnotes: Numbered from 1.
    """

    name: str
    title: str
    axis: str
    metric: str
    has_trained: bool
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    note: str

    @property
    def left_headings(self) -> tuple[str, ...]:
        """What stands before the entries."""
        return (self.axis, "trained") if self.has_trained else (self.axis,)

    def left(self, row: Row) -> tuple[str, ...]:
        """A row's texts before the entries."""
        return (row.level, row.trained) if self.has_trained else (row.level,)


def printed(results: Results, table: TableResult) -> Printed:
    """A table with all its columns: value, paper, differences, second metric, cost, memory."""
    footnotes: list[str] = []
    rows = [_quoted_row(results, table, index) for index in range(len(table.table.quoted))]
    for cell in table.cells:
        for mark in cell.marks:
            if str(mark) not in footnotes:
                footnotes.append(str(mark))
        rows.append(_row(results, table, cell, footnotes))
    return Printed(
        name=table.table.name,
        title=table.table.title,
        axis=table.table.axis.name,
        metric=metric_name(table.metric),
        has_trained=any(cell.cell.trained not in (None, cell.cell.level) for cell in table.cells),
        headings=_headings(results, table),
        rows=tuple(rows),
        footnotes=tuple(footnotes),
        note=table.table.note,
    )


def _headings(results: Results, table: TableResult) -> tuple[str, ...]:
    names = [f"minus {baseline.name}" for baseline in table.baselines]
    headings = [metric_name(table.metric), *(["paper"] if table.has_paper else [])]
    headings += names  # before the further columns, which may be many
    headings += [heading for _, heading in table.table.columns]
    if results.second_metric is not None:
        second = metric_name(results.second_metric)
        headings += [second, *(f"{second} {name}" for name in names)]
    return (*headings, *cost_headings(table))


def _row(results: Results, table: TableResult, cell: CellResult, footnotes: Sequence[str]) -> Row:
    seeds = len(results.seeds)
    entries = [Entry(cell_text(cell))]
    if table.has_paper:
        entries.append(Entry(paper_text(cell.cell.paper)))
    compared = zip(table.baselines, cell.comparisons, strict=True)
    entries += [_compared(each, named=baseline is OWN) for baseline, each in compared]
    papers = table.paper_columns(cell.cell.paper)
    for column, paper in zip(cell.columns, papers, strict=True):
        entries.append(Entry(column_text(column, seeds), detail="" if paper is None else f"paper {number(paper)}"))
    if results.second_metric is not None:
        entries.append(Entry(mean_std(cell.second, seeds)))
        entries += map(_second, cell.comparisons)
    return Row(
        level=cell.cell.level,
        trained=cell.cell.trained or cell.cell.level,
        entries=(*entries, *_costs(table, cell)),
        notes=tuple(footnotes.index(str(mark)) + 1 for mark in cell.marks),
    )


def _second(comparison: Comparison | None) -> Entry:
    if comparison is None or comparison.second is None:
        return Entry("")
    return Entry(difference(comparison.second), comparison.second.verdict)


def _compared(comparison: Comparison | None, *, named: bool) -> Entry:
    if comparison is None:
        return Entry("")
    details = [f"to {comparison.baseline.name}"] if named else []
    if comparison.paper is not None:
        details.append(f"paper {signed(comparison.paper)}")
    if comparison.paired.smallest_visible is not None:
        details.append(f"visible from {number(comparison.paired.smallest_visible)}")
    return Entry(difference(comparison.paired), comparison.paired.verdict, "; ".join(details))


def cost_headings(table: TableResult) -> tuple[str, ...]:
    """`ms/step` and `peak MiB`, where the rows may differ in them and they were measured."""
    if not table.shows_cost:
        return ()
    return ("ms/step", *(["peak MiB"] if any(cell.config.peak_mib is not None for cell in table.cells) else []))


def step_text(step_ms: tuple[float, float] | None) -> str:
    """`48.7 to 53.1`, `120 to 131`; a dash where it was not measured."""
    if step_ms is None:
        return NOTHING
    texts = [number(each, 1 if step_ms[1] < 100 else 0) for each in step_ms]
    return " to ".join(dict.fromkeys(texts))


def _costs(table: TableResult, cell: CellResult) -> list[Entry]:
    texts = (step_text(cell.config.step_ms), number(cell.config.peak_mib, 0))
    return [Entry(text) for _, text in zip(cost_headings(table), texts, strict=False)]


def _quoted_row(results: Results, table: TableResult, index: int) -> Row:
    """A row from the literature: the paper's numbers, and nothing else."""
    row = table.table.quoted[index]
    entries = [Entry(""), Entry(number(row.paper.miou)), *[Entry("")] * len(table.baselines)]
    for paper in table.paper_columns(row.paper):
        entries.append(Entry("", detail="" if paper is None else f"paper {number(paper)}"))
    entries += [Entry("")] * (len(_headings(results, table)) - len(entries))
    return Row(level=row.label, trained="", entries=tuple(entries), quoted=True)
