"""All cells of a study against a baseline in one drawing, and what a gain costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

import mfm_tune.report.charts as charts
from mfm_tune.criteria import digits_of, digits_of_a_seed
from mfm_tune.report.charts import Figure
from mfm_tune.report.numbers import in_words, metric_name, number, signed
from mfm_tune.results.cost import gains
from mfm_tune.results.statistics import Paired
from mfm_tune.results.study import OWN, CellResult, Comparison, Results, TableResult

ROW = 20  # pixels


@dataclass(frozen=True)
class _Line:
    """A row of the drawing: a cell, or the title of the table whose cells follow."""

    name: str
    cell: CellResult | None = None
    comparison: Comparison | None = None

    @property
    def title(self) -> str:
        """With what a row of its own baseline is compared with."""
        own = self.comparison is not None and self.cell is not None and self.cell.cell.against is not None
        return f"{self.name} minus {self.comparison.baseline.name}" if own and self.comparison else self.name


@charts.house_style
def forest_figures(results: Results) -> dict[str, Figure]:
    """By file name: all cells against each baseline and in each printed metric, of tables with a trial; what has no
    numbers is not drawn."""
    return dict(_figures(results))


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    wanted: dict[tuple[str, str], list[tuple[TableResult, int]]] = {}
    for table in filter(lambda table: table.begun, results.tables):
        for index, baseline in enumerate(table.baselines):
            wanted.setdefault((baseline.name, table.metric), []).append((table, index))
    drawn = 0
    for (against, metric), tables in wanted.items():
        lines = list(_lines(tables))
        if any(line.comparison is not None and line.comparison.paired.n for line in lines):
            yield f"forest-{drawn}", _forest(metric, against, lines)
            drawn += 1
    cost = _cost(results)
    if cost is not None:
        yield "cost", cost


def _lines(tables: Sequence[tuple[TableResult, int]]) -> Iterator[_Line]:
    """Of each table with the index of the baseline among its own."""
    for table, index in tables:
        yield _Line(table.table.title)
        for cell in table.cells:
            yield _Line(cell.cell.level, cell, cell.comparisons[index])


def _forest(metric: str, baseline: str, lines: Sequence[_Line]) -> Figure:
    """Each seed, the mean, its interval, and the paper's difference, a row a cell."""
    axes = charts.rows([line.title for line in lines], f"{metric_name(metric)} minus {baseline}", charts.WIDE, ROW)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        if line.cell is None:
            label.set(weight="bold", color=charts.SOFT)
    shown = [(row, line.name, line.comparison) for row, line in enumerate(lines) if line.comparison is not None]
    measured = [(row, name, each) for row, name, each in shown if each.paired.n]
    axes.set_xlim(*charts.limits([0.0, *(value for _, _, each in measured for value in _extent(each))]))
    axes.axvline(0, zorder=1, **charts.ZERO)
    _draw_intervals(axes, {row: each.paired for row, _, each in measured})
    paired = {row: each.paired for row, _, each in measured}
    charts.seeds(
        axes,
        [
            (line.name, paired[row].per_seed if row in paired else {}, paired[row].mean if row in paired else None)
            for row, line in enumerate(lines)
        ],
        lambda value: signed(value, digits_of_a_seed(metric)),
    )
    papers = [
        (each.paper, row, f"{name}, paper: {signed(each.paper, digits_of(metric))}")
        for row, name, each in shown
        if each.paper is not None
    ]
    charts.marks(axes, papers, charts.DIAMOND, "paper")
    itself = "compared with none" if baseline == OWN.name else "the baseline itself"
    for row, line in enumerate(lines):
        if line.cell is not None and row not in paired:
            charts.say(axes, row, "no number" if line.comparison is not None else itself)
    words = "; ".join(f"{lines[row].title}: {in_words(each.paired, metric)}" for row, _, each in measured)
    title = f"All cells minus {baseline}, {metric_name(metric)}"
    return charts.figure(axes, "forest", title, words)


def _draw_intervals(axes: Axes, rows: Mapping[int, Paired]) -> None:
    """Each row's interval as far as the axis goes: thick where it excludes 0."""
    for told, style, name in (
        (False, charts.INTERVAL, "95 % interval"),
        (True, charts.TOLD, "95 % interval that excludes 0"),
    ):
        ends = [
            (row, paired.low, paired.high)
            for row, paired in rows.items()
            if paired.low is not None and bool(paired.sign) is told
        ]
        if ends:
            at, low, high = zip(*ends, strict=True)
            axes.hlines(at, *(np.clip(end, *axes.get_xlim()) for end in (low, high)), label=name, **style)


def _extent(comparison: Comparison) -> list[float]:
    return [*_reach(comparison.paired), *([] if comparison.paper is None else [comparison.paper])]


def _reach(paired: Paired) -> list[float]:
    """What a scale must hold. An interval of two seeds can be 12 times as wide as they are apart: it is cut."""
    seeds = list(paired.per_seed.values())
    reach = 3 * max(1.0, max(abs(value) for value in seeds))
    return [*seeds, *(max(-reach, min(reach, end)) for end in (paired.low, paired.high) if end is not None)]


def _cost(results: Results) -> Figure | None:
    """The gain over the first reference against the time a step; None where all cost the same."""
    points = [(ratio, each) for ratio, each in gains(results) if each.paired.mean is not None]
    if not points:
        return None
    base = results.references[0].name
    axes = charts.chart(260, f"time a step, {base} = 1", charts.WIDE)
    axes.set_ylabel(f"{metric_name(results.metric)} minus {base}")
    axes.axhline(0, zorder=1, **charts.ZERO)
    axes.set_ylim(*charts.limits([0.0, *(value for _, each in points for value in _reach(each.paired))]))
    axes.set_xlim(*charts.limits([1.0, *(ratio for ratio, _ in points)]))
    known = [(ratio, each.paired.low, each.paired.high) for ratio, each in points if each.paired.low is not None]
    if known:
        at, low, high = zip(*known, strict=True)
        axes.vlines(at, *(np.clip(end, *axes.get_ylim()) for end in (low, high)), label="95 % interval", **charts.FAINT)
    means = [(ratio, each.paired.mean or 0.0, _cost_title(ratio, each)) for ratio, each in points]
    names = {each.name for each in results.references}
    charts.marks(axes, means, charts.DOT, "a config")
    charts.marks(axes, [(1.0, 0.0, f"{base}: 1.00 times, 0")], charts.DIAMOND, base)
    for (ratio, each), (_, mean, title) in zip(points, means, strict=True):
        if each.config.name in names:
            charts.marks(axes, [(ratio, mean, title)], charts.OVER, each.config.name)
    words = "; ".join(title for _, _, title in means)
    return charts.figure(axes, "cost", f"Gain over {base} against the time a step", words)


def _cost_title(ratio: float, comparison: Comparison) -> str:
    gain = in_words(comparison.paired, comparison.metric)
    return f"{comparison.config.name}: {number(ratio, 2)} times the time, {gain}"
