"""Pseudo-labels over the steps: how many a teacher is sure of, how many of these are right, and what follows from it.

A trial reports the metrics where the target's training images have labels; they serve this section and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean

from matplotlib.ticker import MaxNLocator

import mfm_tune.report.charts as charts
from mfm_tune.criteria import criterion_of, digits_of
from mfm_tune.program import COVERAGE, PRECISION
from mfm_tune.report.charts import Figure, Style
from mfm_tune.report.numbers import number
from mfm_tune.report.text import Section
from mfm_tune.results.statistics import Verdict
from mfm_tune.results.study import CellResult, Results, TableResult
from mfm_tune.results.trials import ConfigResult

KEY = "pseudo_labels"  # of the section, and of the figures under it
SOURCE_ONLY, ADABN = "source-only", "AdaBN"  # rows of a table, where it has them
HARDLY = 5.0  # percent of coverage under which self-training has next to nothing to learn from
MOVED = 5.0  # percentage points from the first evaluation to the last that are named
STATISTICS = 1.0  # mIoU by which re-estimated statistics alone change source-only
HOW = (
    "Counted at each evaluation on a few training images of the target, with their labels, which nothing is trained on "
    "or chosen by. Coverage is the share of a class's pseudo-labels whose confidence reaches the threshold, precision "
    "the share of these that are right. Coverage that grows while precision falls is a teacher that is sure and wrong."
)


def pseudo_label_section(results: Results) -> Section | None:
    """What the figures of `pseudo_label_figures` mean, and warnings; None where no trial measured it."""
    warnings = pseudo_label_warnings(results)
    if not warnings and not _measured(results):
        return None
    return Section(key=KEY, title="Pseudo-labels while training", sentences=(*warnings, HOW))


def pseudo_label_warnings(results: Results) -> tuple[str, ...]:
    """A sentence for each table with a source-only row that self-training ends worse than."""
    return tuple(sentence for table in results.tables for sentence in _warnings(table))


@charts.house_style
def pseudo_label_figures(results: Results) -> dict[str, Figure]:
    """Two charts of each reference and of each row that loses: coverage and precision by class over the steps, means
    over seeds."""
    return {
        f"{KEY}-{index}-{metric.rpartition('/')[2]}": _figure(config, metric)
        for index, config in enumerate(_measured(results), 1)
        for metric in (COVERAGE, PRECISION)
    }


def pseudo_label_metrics(config: ConfigResult) -> tuple[str, ...]:
    """Names of what a trial of the config may report of its pseudo-labels: of all pixels, then of each class."""
    names = ("", *(f"/{name}" for name in config.classes))
    return tuple(f"{metric}{name}" for metric in (COVERAGE, PRECISION) for name in names)


def _measured(results: Results) -> list[ConfigResult]:
    """The references, and rows that end below their baselines with the whole interval: what their teachers were sure of
    may show why."""
    every = (each for table in results.tables for _, _, each in table.comparisons)
    lost = (each.config for each in every if each.paired.verdict(each.metric) is Verdict.WORSE)
    found: dict[str, ConfigResult] = {}
    for config in (*results.references, *lost):
        if config.curve(COVERAGE):
            found.setdefault(config.config_id, config)
    return list(found.values())


def _mean(config: ConfigResult, metric: str) -> list[tuple[int, float]]:
    """The metric over the steps, the mean of the seeds that have a number there."""
    values: dict[int, list[float]] = {}
    for line in config.curve(metric).values():
        for step, value in line:
            values.setdefault(step, []).append(value)
    return [(step, fmean(values[step])) for step in sorted(values)]


def _figure(config: ConfigResult, metric: str) -> Figure:
    """A line for each class, and a thick one for all pixels."""
    axes = charts.chart(260, "training step")
    whole = _mean(config, metric)
    axes.set(xlim=charts.limits([step for step, _ in whole]), ylim=(-3, 103))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ends = []
    for index, name in enumerate(config.classes):
        line = _mean(config, f"{metric}/{name}")
        dashes = charts.DASHES[index // len(charts.SERIES) % len(charts.DASHES)]
        style: Style = {"color": charts.SERIES[index % len(charts.SERIES)], "lw": 1.5, "ls": dashes}
        charts.line(axes, line, style, f"{name}: {_ends(line)}", name)
        ends.append(f"{name} {_ends(line)}")
    charts.line(axes, whole, {"color": charts.INK, "lw": 3}, f"all pixels: {_ends(whole)}", "all pixels")
    title = f"{config.name}: {metric.rpartition('/')[2]} of pseudo-labels, %"
    words = f"From the first evaluation to the last: all pixels {_ends(whole)}; {', '.join(ends)}"
    return charts.figure(axes, KEY, title, words)


def _ends(line: list[tuple[int, float]]) -> str:
    return f"{number(line[0][1])} to {number(line[-1][1])}" if line else "no pixel"


# --------------------------------------------------------------------------------------------------------------------
# Warnings
# --------------------------------------------------------------------------------------------------------------------


def _warnings(table: TableResult) -> Iterator[str]:
    """One sentence for all rows that end worse than source-only, with the causes of the worst."""
    cells = {cell.cell.level: cell for cell in table.cells}
    source = cells[SOURCE_ONLY].summary.mean if SOURCE_ONLY in cells else None
    if source is None:
        return
    measured = {level: cell.summary.mean for level, cell in cells.items() if cell.config.curve(COVERAGE)}
    criterion, digits = criterion_of(table.metric), digits_of(table.metric)
    gains = {level: criterion.oriented(mean - source) for level, mean in measured.items() if mean is not None}
    worse = {level: gain for level, gain in gains.items() if gain < 0}
    if not worse:
        return
    worst = min(worse, key=lambda level: worse[level])
    rows = ", ".join(f"{level} ({number(measured[level], digits)})" for level in worse)
    side = "under" if criterion.larger_is_better else "above"
    causes = list(_causes(cells[worst], cells)) or ["no cause that these numbers show"]
    yield (
        f"Warning: {side} source-only ({number(source, digits)}, {table.table.title}) end {rows}, so differences "
        f"between methods that build on them say little. What the numbers of {worst} point to: {'; '.join(causes)}."
    )


def _causes(cell: CellResult, cells: Mapping[str, CellResult]) -> Iterator[str]:
    source, statistics = cells[SOURCE_ONLY].summary.mean, cells.get(ADABN)
    if source is not None and statistics is not None and statistics.summary.mean is not None:
        change = statistics.summary.mean - source
        if abs(change) >= STATISTICS:
            yield f"BatchNorm, as re-estimated statistics alone change source-only by {change:+.1f}"
    coverage = _mean(cell.config, COVERAGE)
    if coverage[-1][1] < HARDLY:
        yield f"coverage near 0 ({number(coverage[-1][1])} % of the pixels)"
    wrong = [found for name in cell.config.classes if (found := _sure_and_wrong(cell.config, name))]
    if wrong:
        yield f"precision falls while coverage grows in {', '.join(wrong)}"


def _sure_and_wrong(config: ConfigResult, name: str) -> str:
    """The class with its figures if its precision falls while its coverage grows; else nothing."""
    precision, coverage = (_mean(config, f"{metric}/{name}") for metric in (PRECISION, COVERAGE))
    if not precision or not coverage:
        return ""
    if coverage[-1][1] - coverage[0][1] < MOVED or precision[0][1] - precision[-1][1] < MOVED:
        return ""
    return f"{name} (precision {_ends(precision)}, coverage {_ends(coverage)})"
