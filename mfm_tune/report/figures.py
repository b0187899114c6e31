"""What a report draws of each table: the seeds behind each mean, curves, figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

import mfm_tune.report.charts as charts
from mfm_tune.criteria import digits_of, digits_of_a_seed
from mfm_tune.published import paper_number
from mfm_tune.report.charts import Figure, Style
from mfm_tune.report.numbers import metric_name, number, short_status
from mfm_tune.results.statistics import summary
from mfm_tune.results.study import Results, TableResult
from mfm_tune.results.trials import ConfigResult


@charts.house_style
def figures(results: Results) -> dict[str, Figure]:
    """By file name; what has no numbers yet is not drawn."""
    return dict(_figures(results))


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    for table in results.tables:
        name = table.table.name
        if not any(cell.values for cell in table.cells):
            continue
        if table.table.plot:
            yield f"{name}-plot", _plot(results, table)
        yield f"{name}-seeds", _seeds(table)
    yield from _curves(results)


def _figure(table: TableResult, axes: Axes, group: str, title: str, description: str) -> Figure:
    return charts.figure(axes, group, f"{table.table.title}: {title}", description, table.table.name)


# --------------------------------------------------------------------------------------------------------------------
# The seeds behind each mean
# --------------------------------------------------------------------------------------------------------------------


def _seeds(table: TableResult) -> Figure:
    axes = charts.rows([cell.cell.level for cell in table.cells], metric_name(table.metric), charts.WIDE)
    rows = [(cell.cell.level, cell.values, cell.summary.mean) for cell in table.cells]
    charts.seeds(axes, rows, lambda value: number(value, digits_of_a_seed(table.metric)))
    base = table.baseline
    mean = None if base is None else summary(base.finals(table.metric).values()).mean
    if base is not None and mean is not None:
        axes.axvline(mean, label=f"{base.name} {number(mean, digits_of(table.metric))}", zorder=1, **charts.DASHED)
    for row, cell in enumerate(table.cells):
        if not cell.values:
            charts.say(axes, row, "no number")
    return _figure(table, axes, "seeds", f"{metric_name(table.metric)} of each seed", _listed(table))


def _listed(table: TableResult) -> str:
    """Every seed's number in words."""
    digits = digits_of_a_seed(table.metric)
    return "; ".join(
        f"{cell.cell.level}: "
        + (", ".join(f"seed {seed} {number(value, digits)}" for seed, value in cell.values.items()) or "no number")
        for cell in table.cells
    )


# --------------------------------------------------------------------------------------------------------------------
# A table as a figure
# --------------------------------------------------------------------------------------------------------------------


def _plot(results: Results, table: TableResult) -> Figure:
    """Mean, spread and seeds over the levels (the paper's Figure 4), with the baseline beside them.

    A level without a number interrupts the line, and says how its trials ended.
    """
    axes, places, levels = charts.chart(235, table.table.axis.name, charts.WIDE), _places(table), list(table.cells)
    width = (charts.WIDE - 66) / len(places)
    axes.set_xticks(places, [charts.shortened(cell.cell.level, width) for cell in levels])
    axes.set_xlim(*charts.limits(places))
    axes.grid(visible=False, axis="x")
    means = [np.nan if cell.summary.mean is None else cell.summary.mean for cell in levels]
    spreads = [np.nan if cell.summary.std is None else cell.summary.std for cell in levels]
    axes.errorbar(places, means, spreads, label="mean ± std", elinewidth=1.5, **charts.MEANS)
    seeds = [
        (x, value, f"{cell.cell.level}, seed {seed}: {number(value, digits_of_a_seed(table.metric))}")
        for x, cell in zip(places, levels, strict=True)
        for seed, value in cell.values.items()
    ]
    charts.marks(axes, seeds, charts.DOT, "a seed")
    base = table.baseline
    if base is not None and (finals := base.finals(table.metric)):
        axes.axhline(fmean(finals.values()), label=f"{base.name}, mean", zorder=1, **charts.DASHED)
    if not results.study.comparable:
        numbers = [(x, paper_number(cell.cell.paper)) for x, cell in zip(places, levels, strict=True)]
        papers = [
            (x, value, f"paper: {number(value, digits_of(table.metric))}") for x, value in numbers if value is not None
        ]
        charts.marks(axes, papers, charts.DIAMOND, "paper")
    for x, cell in zip(places, levels, strict=True):
        if not cell.values:
            standing = short_status(cell.config, next(iter(cell.config.trials)))
            axes.text(x, 0.05, standing, ha="center", transform=axes.get_xaxis_transform(), **charts.APART)
    return _figure(table, axes, "plot", metric_name(table.metric), _listed(table))


def _places(table: TableResult) -> list[float]:
    """Where the levels are drawn: to scale where all are finite numbers, else at equal distances."""
    levels = [level for level, _ in table.table.axis.rows]
    numeric = all(
        isinstance(level, int | float) and not isinstance(level, bool) and math.isfinite(level) for level in levels
    )
    return [float(level if numeric else index) for index, level in enumerate(levels)]


# --------------------------------------------------------------------------------------------------------------------
# Learning curves
# --------------------------------------------------------------------------------------------------------------------

Lines = Mapping[int, tuple[tuple[int, float], ...]]  # seed -> (step, value) pairs


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
                drawn = _curve(table, metric, named, curves[metric], charts.limits(values))
                yield f"{table.table.name}-curve-{index}", drawn


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
    if base is None or any(config.config_id == base.config_id for config in cells.values()):
        return cells
    return {base.name: base, **cells}


def _curve(
    table: TableResult,
    metric: str,
    configs: Mapping[str, ConfigResult],
    curves: Mapping[str, Lines],
    ends: tuple[float, float],
) -> Figure:
    """A metric over training steps: the mean of the finished seeds of each level, seeds as thin lines."""
    axes = charts.chart(220, "training step")
    steps = [step for lines in curves.values() for line in lines.values() for step, _ in line]
    axes.set(xlim=charts.limits(steps), ylim=ends)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    styles = _styles(list(configs), outside=len(configs) > len(table.cells))
    finals = []
    for name, lines in curves.items():
        for seed, line in lines.items():
            title = f"{name}, seed {seed}: {number(line[-1][1], digits_of_a_seed(metric))} at step {line[-1][0]}"
            charts.line(axes, line, {**styles[name], "lw": 1, "alpha": 0.35}, title)
        mean = _mean_line(lines, configs[name].finals(metric))
        if lines:
            charts.line(axes, mean, styles[name], name, name)
        if mean:
            finals.append(f"{name} {number(mean[-1][1], digits_of(metric))}")
    words = f"Means of finished seeds at the last step: {', '.join(finals) or 'none'}"
    return _figure(table, axes, "curves", f"{metric_name(metric)} while training", words)


def _styles(names: Sequence[str], *, outside: bool) -> dict[str, Style]:
    """A colour and dashes for each line; the baseline from outside the table is grey and dashed."""
    colours = charts.SERIES
    inside = names[1:] if outside else names
    styles: dict[str, Style] = {
        name: {"color": colours[index % len(colours)], "lw": 2.2, "ls": charts.DASHES[index % len(charts.DASHES)]}
        for index, name in enumerate(inside)
    }
    return {names[0]: charts.DASHED, **styles} if outside else styles


def _mean_line(lines: Lines, finished: Mapping[int, object]) -> list[tuple[int, float]]:
    """The mean of the finished seeds, at the steps that all of them have."""
    whole = [dict(line) for seed, line in lines.items() if seed in finished]
    if not whole:
        return []
    shared = sorted(set.intersection(*(set(line) for line in whole)))
    return [(step, fmean(line[step] for line in whole)) for step in shared]
