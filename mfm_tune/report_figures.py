"""What a report draws of its tables: the seeds behind each mean, differences with intervals, curves, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mfm_tune.report_svg import (
    Drawing,
    Scale,
    bottom_axis,
    inline,
    left_axis,
    legend,
    legend_height,
    scale,
    shortened,
    standalone,
    text_width,
)
from mfm_tune.report_text import cell_text, in_words, metric_name, number, short_status, signed
from mfm_tune.results import CellResult, Comparison, ConfigResult, Results, TableResult, paper_number
from mfm_tune.statistics import Summary, summary

PANEL = 380.0  # width of the panels that stand side by side on a wide page, one below the other on a narrow one
WIDE = 440.0
ROW = 24.0
COLOURS = 9


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its words. `table` is the table that it belongs to; `group` is where the page puts it."""

    group: str  # seeds, plot, curves, classes (`report_classes`)
    title: str
    description: str
    drawing: Drawing
    table: str | None = None

    def inline(self, identity: str) -> str:
        """As an element of a page."""
        return inline(self.drawing, identity, self.title, self.description)

    def file(self) -> str:
        """As an SVG file."""
        return standalone(self.drawing, self.title, self.description)


def figures(results: Results) -> dict[str, Figure]:
    """The figures of the tables by file name; what has no numbers yet is not drawn."""
    return dict(_figures(results))


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    for table in results.tables:
        name = table.table.name
        if not any(cell.values for cell in table.cells):
            continue
        if table.table.plot:
            yield f"{name}-plot", _plot(results, table)
        yield f"{name}-seeds", _seeds(table)
        for index, reference in enumerate(table.references):
            comparisons = [(cell, cell.comparisons[index]) for cell in table.cells]
            drawn = _differences(table, reference.name, comparisons)
            if drawn is not None:
                yield f"{name}-difference-{index}", drawn
        own = _differences(table, "its own reference", [(cell, cell.own) for cell in table.cells])
        if own is not None:
            yield f"{name}-difference-own", own
    yield from _curves(results)


# --------------------------------------------------------------------------------------------------------------------
# The seeds behind each mean
# --------------------------------------------------------------------------------------------------------------------


def _seeds(table: TableResult) -> Figure:
    cells = table.cells
    entries = [("dot", "a seed"), ("mean", "mean")]
    base = table.baseline
    base_mean = None if base is None else summary(base.config.finals(table.metric).values()).mean
    if base is not None and base_mean is not None:
        entries.append(("base", f"{base.name} {number(base_mean)}"))
    values = [value for cell in cells for value in cell.values.values()]
    rows = _Rows(cells, values if base_mean is None else [*values, base_mean], entries, metric_name(table.metric))
    if base_mean is not None:
        rows.drawing.line(rows.across(base_mean), rows.top, rows.across(base_mean), rows.bottom, "base")
    for cell, y in rows:
        for seed, value in cell.values.items():
            title = f"{cell.cell.level}, seed {seed}: {number(value, 2)}"
            rows.drawing.dot(rows.across(value), y, "dot", title)
        if cell.summary.mean is not None:
            x = rows.across(cell.summary.mean)
            rows.drawing.line(x, y - 8, x, y + 8, "mean")
        else:
            rows.say(rows.across.start, y, "no number")
    description = "; ".join(f"{cell.cell.level}: {_listed(cell.values)}" for cell in cells)
    return Figure(
        group="seeds",
        title=f"{table.table.title}: {metric_name(table.metric)} of each seed",
        description=description,
        drawing=rows.drawing,
        table=table.table.name,
    )


def _differences(
    table: TableResult, name: str, comparisons: Sequence[tuple[CellResult, Comparison | None]]
) -> Figure | None:
    """Differences to one reference: each seed, the mean, its interval, and the paper's difference."""
    shown = [(cell, each) for cell, each in comparisons if each is not None and each.paired.n]
    if not shown:
        return None
    entries = [("dot", "a seed"), ("mean", "mean"), ("interval", "95 % interval")]
    if any(each.paper is not None for _, each in shown):
        entries.append(("diamond", "paper"))
    values = [0.0, *(value for _, each in shown for value in _extent(each))]
    rows = _Rows(table.cells, values, entries, f"{metric_name(table.metric)} minus {name}")
    zero = rows.across(0)
    rows.drawing.line(zero, rows.top, zero, rows.bottom, "zero")
    for (cell, y), (_, comparison) in zip(rows, comparisons, strict=True):
        if comparison is None:
            rows.say(zero, y, "the reference itself")
        elif comparison.paired.n:
            _one_difference(rows.drawing, rows.across, y, cell, comparison)
        else:
            rows.say(zero, y, "no number")
    return Figure(
        group="seeds",
        title=f"{table.table.title}: difference to {name}",
        description="; ".join(f"{cell.cell.level}: {in_words(each.paired)}" for cell, each in shown),
        drawing=rows.drawing,
        table=table.table.name,
    )


def _extent(comparison: Comparison) -> list[float]:
    """What a row's scale must hold. An interval of two seeds can be 12 times as wide as they are apart: it is cut."""
    paired = comparison.paired
    seeds = list(paired.per_seed.values())
    reach = 3 * max(1.0, max(abs(value) for value in seeds))
    ends = [max(-reach, min(reach, end)) for end in (paired.low, paired.high) if end is not None]
    return [*seeds, *ends, *([] if comparison.paper is None else [comparison.paper])]


def _one_difference(drawing: Drawing, across: Scale, y: float, cell: CellResult, comparison: Comparison) -> None:
    paired = comparison.paired
    if paired.low is not None and paired.high is not None:
        drawing.line(_within(across, paired.low), y, _within(across, paired.high), y, "interval")
    if comparison.paper is not None:
        drawing.diamond(across(comparison.paper), y, "diamond", f"{cell.cell.level}, paper: {signed(comparison.paper)}")
    for seed, value in paired.per_seed.items():
        drawing.dot(across(value), y, "dot", f"{cell.cell.level}, seed {seed}: {signed(value, 2)}")
    if paired.mean is not None:
        drawing.line(across(paired.mean), y - 8, across(paired.mean), y + 8, "mean")


def _within(across: Scale, value: float) -> float:
    return across(max(across.low, min(across.high, value)))


class _Rows:
    """A panel with a row for each cell; iterates over (cell, y)."""

    def __init__(
        self, cells: Sequence[CellResult], values: Sequence[float], entries: Sequence[tuple[str, str]], name: str
    ) -> None:
        left = min(0.4 * PANEL, 14 + max(text_width(cell.cell.level) for cell in cells))
        self.top = legend_height(entries, PANEL) + 8
        self.bottom = self.top + ROW * len(cells)
        self.drawing = Drawing(width=PANEL, height=self.bottom + 38)
        self.across = scale(values, left, PANEL - 10)
        self._cells = cells
        legend(self.drawing, entries, 0, 10, PANEL)
        bottom_axis(self.drawing, self.across, self.top, self.bottom, name)
        for cell, y in self:
            self.drawing.line(left, y, PANEL - 10, y, "row")
            self.drawing.text(left - 8, y + 4, shortened(cell.cell.level, left - 10), "label", "end")

    def say(self, x: float, y: float, text: str) -> None:
        """A word in a row without marks, on that side of x where there is more room."""
        right = x < (self.across.start + self.across.end) / 2
        self.drawing.text(x + 6 if right else x - 6, y + 4, text, "tick", "start" if right else "end")

    def __iter__(self) -> Iterator[tuple[CellResult, float]]:
        return ((cell, self.top + ROW * (index + 0.5)) for index, cell in enumerate(self._cells))


def _listed(values: Mapping[int, float]) -> str:
    return ", ".join(f"seed {seed} {number(value, 2)}" for seed, value in values.items()) or "no number"


# --------------------------------------------------------------------------------------------------------------------
# A table as a figure
# --------------------------------------------------------------------------------------------------------------------


def _plot(results: Results, table: TableResult) -> Figure:
    """Mean, spread and seeds over the levels (the paper's Figure 4), with the baseline beside them."""
    base = table.baseline
    base_values = base.config.finals(table.metric) if base else {}
    papers = _paper_points(results, table)
    entries = [("thick s0", "mean ± std"), ("dot", "a seed")]
    entries += [("base", f"{base.name}, mean")] if base and base_values else []
    entries += [("diamond", "paper")] if papers else []
    values = [value for cell in table.cells for value in (*cell.values.values(), *_spread(cell.summary))]
    values += [*base_values.values(), *papers.values()]
    top = legend_height(entries, WIDE - 60) + 8
    drawing = Drawing(width=WIDE, height=top + 250)
    up = scale(values, top + 200, top)
    places = _places(table, 56, WIDE - 20)
    legend(drawing, entries, 50, 10, WIDE)
    left_axis(drawing, up, 44, WIDE - 10)
    for cell, x in zip(table.cells, places, strict=True):
        _centred(drawing, x, top + 218, shortened(cell.cell.level, (WIDE - 66) / len(places)))
    drawing.text(WIDE / 2, top + 238, table.table.axis.name, "label", "middle")
    if base_values:
        mean = fmean(base_values.values())
        drawing.line(44, up(mean), WIDE - 10, up(mean), "base")
    _points(drawing, up, table, places)
    for index, value in papers.items():
        drawing.diamond(places[index], up(value), "diamond", f"paper: {number(value)}")
    description = "; ".join(f"{cell.cell.level}: {_listed(cell.values)}" for cell in table.cells)
    return Figure(
        group="plot",
        title=f"{table.table.title}: {metric_name(table.metric)}",
        description=description,
        drawing=drawing,
        table=table.table.name,
    )


def _points(drawing: Drawing, up: Scale, table: TableResult, places: Sequence[float]) -> None:
    for line in _unbroken(table, places):
        drawing.path([(x, up(mean)) for x, mean in line], "thick s0")
    for cell, x in zip(table.cells, places, strict=True):
        mean, std = cell.summary.mean, cell.summary.std
        if mean is not None and std is not None:
            drawing.line(x, up(mean - std), x, up(mean + std), "spread")
        for seed, value in cell.values.items():
            drawing.dot(x, up(value), "dot", f"{cell.cell.level}, seed {seed}: {number(value, 2)}")
        if mean is not None:
            drawing.dot(x, up(mean), "s0", f"{cell.cell.level}: {cell_text(cell)}", radius=4.5)
        else:
            _centred(drawing, x, up.start - 4, short_status(cell.config, next(iter(cell.config.trials))))


def _centred(drawing: Drawing, x: float, y: float, text: str) -> None:
    """A text below or above x, moved inwards where it would stick out."""
    half = text_width(text) / 2
    drawing.text(min(max(x, half + 2), drawing.width - half - 2), y, text, "tick", "middle")


def _spread(found: Summary) -> tuple[float, ...]:
    """The ends of mean ± std."""
    return () if found.mean is None or found.std is None else (found.mean - found.std, found.mean + found.std)


def _unbroken(table: TableResult, places: Sequence[float]) -> list[list[tuple[float, float]]]:
    """The means as lines that a level without a number interrupts."""
    lines: list[list[tuple[float, float]]] = [[]]
    for cell, x in zip(table.cells, places, strict=True):
        if cell.summary.mean is None:
            lines.append([])
        else:
            lines[-1].append((x, cell.summary.mean))
    return [line for line in lines if line]


def _paper_points(results: Results, table: TableResult) -> dict[int, float]:
    """The paper's numbers by position, where the study says nothing against comparing with them."""
    if results.study.comparable:
        return {}
    numbers = ((index, paper_number(cell.cell.paper)) for index, cell in enumerate(table.cells))
    return {index: value for index, value in numbers if value is not None}


def _places(table: TableResult, left: float, right: float) -> tuple[float, ...]:
    """Where the levels stand: to scale where all are numbers, else at equal distances."""
    levels = [level for level, _ in table.table.axis.levels]
    if len(levels) < 2:
        return ((left + right) / 2,)
    numeric = all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    numbers = [float(level) for level in levels] if numeric else [float(index) for index in range(len(levels))]
    across = Scale(low=min(numbers), high=max(numbers), start=left, end=right)
    return tuple(across(value) for value in numbers)


# --------------------------------------------------------------------------------------------------------------------
# Learning curves
# --------------------------------------------------------------------------------------------------------------------


def _curves(results: Results) -> Iterator[tuple[str, Figure]]:
    for table in results.tables:
        named = _named_configs(table)
        metrics = _of_each_network(table, named)
        curves = {metric: {name: config.curve(metric) for name, config in named.items()} for metric in metrics}
        values = [
            value for of in curves.values() for each in of.values() for line in each.values() for _, value in line
        ]
        for index, metric in enumerate(metrics):
            if any(curves[metric].values()):
                name = f"{table.table.name}-curve-{index}"
                yield name, _curve(table, metric, named, curves[metric], values)


def _of_each_network(table: TableResult, configs: Mapping[str, ConfigResult]) -> list[str]:
    """The table's metric, and the same number of the other networks: `student/miou`, `teacher/miou`."""
    _, slash, name = table.metric.partition("/")
    reported = (key for config in configs.values() for record in config.records for key in record.metrics)
    others = (key for key in reported if slash and key.partition("/")[1:] == (slash, name))
    return list(dict.fromkeys((table.metric, *others)))


def _named_configs(table: TableResult) -> dict[str, ConfigResult]:
    """The baseline first, where it is none of the cells."""
    cells = {cell.cell.level: cell.config for cell in table.cells}
    base = table.baseline
    if base is None or any(config.config_id == base.config.config_id for config in cells.values()):
        return cells
    return {base.name: base.config, **cells}


Lines = Mapping[int, tuple[tuple[int, float], ...]]


def _curve(
    table: TableResult,
    metric: str,
    configs: Mapping[str, ConfigResult],
    curves: Mapping[str, Lines],
    values: Sequence[float],
) -> Figure:
    """A metric over training steps: the mean of the finished seeds of each level, seeds as thin lines."""
    outside = len(configs) > len(table.cells)
    kinds = _kinds(list(configs), outside=outside)
    entries = [(f"thick {kinds[name]}", name) for name in configs if curves[name]]
    top = legend_height(entries, PANEL - 46) + 8
    drawing = Drawing(width=PANEL, height=top + 220)
    steps = [step for lines in curves.values() for line in lines.values() for step, _ in line]
    across, up = scale(list(map(float, steps)), 40, PANEL - 10), scale(values, top + 176, top)
    legend(drawing, entries, 40, 10, PANEL)
    bottom_axis(drawing, across, top, top + 180, "training step")
    left_axis(drawing, up, 40, PANEL - 10)
    for name, lines in curves.items():
        for seed, line in lines.items():
            title = f"{name}, seed {seed}: {number(line[-1][1], 2)} at step {line[-1][0]}"
            drawing.path([(across(step), up(value)) for step, value in line], f"thin {kinds[name]}", title)
    means = {name: _mean_line(lines, configs[name].finals(metric)) for name, lines in curves.items()}
    for name, mean in means.items():
        drawing.path([(across(step), up(value)) for step, value in mean], f"thick {kinds[name]}", name)
    ends = [f"{name} {number(mean[-1][1])}" for name, mean in means.items() if mean]
    return Figure(
        group="curves",
        title=f"{table.table.title}: {metric_name(metric)} while training",
        description=f"Means of finished seeds at the last step: {', '.join(ends) or 'none'}",
        drawing=drawing,
        table=table.table.name,
    )


def _kinds(names: Sequence[str], *, outside: bool) -> dict[str, str]:
    """A colour for each line; the baseline from outside the table is grey and dashed."""
    inside = names[1:] if outside else names
    kinds = {name: f"s{index % COLOURS}" for index, name in enumerate(inside)}
    return {names[0]: "base", **kinds} if outside else kinds


def _mean_line(lines: Lines, finished: Mapping[int, object]) -> list[tuple[int, float]]:
    """The mean of the finished seeds, at the steps that all of them have."""
    whole = [dict(line) for seed, line in lines.items() if seed in finished]
    if not whole:
        return []
    shared = sorted(set.intersection(*(set(line) for line in whole)))
    return [(step, fmean(line[step] for line in whole)) for step in shared]
