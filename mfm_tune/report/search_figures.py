"""What the report of a search draws: what the choice was worth, slices, contours, pruning, label-free criteria."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import LogLocator, MaxNLocator

import mfm_tune.report.charts as charts
from mfm_tune.criteria import TARGET_MIOU, Criterion
from mfm_tune.program import Outcome
from mfm_tune.report.charts import Figure, Mark
from mfm_tune.report.numbers import criterion_number
from mfm_tune.results.search import ChosenBy, Remeasured, SearchResults
from mfm_tune.search.candidates import Candidate, final, values_text
from mfm_tune.search.importance import Importance
from mfm_tune.search_space import Choice, Distribution, Integer, Printed

PAIRED = 3  # parameters whose pairs are drawn as contours
LEAST_FOR_CONTOURS = 6  # finished trials
BANDS = [(charts.ACCENT, opacity) for opacity in (0.06, 0.18, 0.32, 0.48, 0.68)]  # of a contour plot

Scored = list[tuple[Candidate, float]]  # finished candidates with their value


@charts.house_style
def search_figures(found: SearchResults, importances: Sequence[Importance]) -> dict[str, Figure]:
    """All figures by file name; what has no numbers yet is not drawn."""
    return dict(_figures(found, importances))


def _figures(found: SearchResults, importances: Sequence[Importance]) -> Iterator[tuple[str, Figure]]:
    remeasured = [*found.confirmed, *found.baselines]
    if any(each.change is not None for each in remeasured):
        yield "search-selection-bias", _selection_bias(found.search.criterion, remeasured)
    if importances:
        yield "search-importance", _importance(importances, len(found.finished))
    scored = _scored(found, found.search.criterion)
    if scored:
        names = [each.name for each in importances]
        rest = [name for name in found.search.parameters if name not in names]
        for index, name in enumerate([*names, *rest]):
            yield f"search-slice-{index}", _slice(found, scored, name)
    if len(scored) >= LEAST_FOR_CONTOURS:
        for index, (first, second) in enumerate(combinations([each.name for each in importances[:PAIRED]], 2)):
            yield f"search-contour-{index}", _contour(found, scored, first, second)
    if found.pruning.finished or found.pruning.stopped:
        yield "search-pruning", _pruning(found)
    for index, chosen in enumerate(found.chosen_by):
        yield f"search-criterion-{index}", _criterion(found, chosen)


def capital(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _scored(found: SearchResults, criterion: Criterion) -> Scored:
    pairs = ((each, final(each, criterion)) for each in found.candidates)
    return [(each, value) for each, value in pairs if value is not None]


# --------------------------------------------------------------------------------------------------------------------
# What the choice was worth, and which parameters matter
# --------------------------------------------------------------------------------------------------------------------


def _selection_bias(criterion: Criterion, remeasured: Sequence[Remeasured]) -> Figure:
    """A row for each confirmed config: the number it was chosen with, and those of held-out seeds."""
    axes = charts.rows([each.name for each in remeasured], criterion.label)
    rows = [(each.name, each.held_out, each.summary.mean) for each in remeasured]
    charts.seeds(
        axes, rows, lambda value: criterion_number(value, criterion), ("a held-out seed", "mean of held-out seeds")
    )
    known = [(row, each.name, each.explored) for row, each in enumerate(remeasured) if each.explored is not None]
    chosen = [
        (value, row, f"{name}, while exploring: {criterion_number(value, criterion)}") for row, name, value in known
    ]
    charts.marks(axes, chosen, charts.DIAMOND, "while exploring")
    words = "; ".join(
        f"{each.name}: {criterion_number(each.explored, criterion)} while exploring, "
        f"{criterion_number(each.summary.mean, criterion)} with held-out seeds"
        for each in remeasured
    )
    return charts.figure(
        axes, "selection-bias", f"{capital(criterion.label)} while exploring and with held-out seeds", words
    )


def _importance(importances: Sequence[Importance], n: int) -> Figure:
    axes = charts.rows([each.name for each in importances], "share of the importance")
    axes.set_xlim(0, 1)
    points = [
        (each.share, row - 0.1, f"{each.name}: {each.share:.2f} ({each.low:.2f} to {each.high:.2f})")
        for row, each in enumerate(importances)
    ]
    charts.bars(axes, points, 0.4, charts.OWN_BAR, "importance")
    below = [row + 0.25 for row in range(len(importances))]
    low, high = [each.low for each in importances], [each.high for each in importances]
    axes.hlines(below, low, high, label="range when one trial is left out", **charts.INTERVAL)
    words = "; ".join(f"{each.name}: {each.share:.2f}" for each in importances)
    return charts.figure(axes, "importance", f"Importance of each parameter, {n} finished trials", words)


# --------------------------------------------------------------------------------------------------------------------
# The criterion against parameters
# --------------------------------------------------------------------------------------------------------------------


def _slice(found: SearchResults, scored: Scored, name: str) -> Figure:
    """The criterion of the finished trials against one parameter; stopped trials lie in a strip of their own."""
    criterion, distribution = found.search.criterion, found.search.parameters[name]
    axes = charts.chart(235 if found.stopped else 205, name)
    points = [
        (_place(distribution, each.values[name]), value, _title(each, criterion_number(value, criterion)))
        for each, value in scored
    ]
    charts.marks(axes, points, charts.DOT, "finished")
    _set_ticks(axes.xaxis, distribution)
    axes.set_xlim(-0.04, 1.04)
    if found.stopped:
        ends = [(_place(distribution, each.values[name]), 0.0, _stopped_title(each)) for each in found.stopped]
        strip = charts.strip_below(axes, "stopped")
        charts.marks(strip, ends, charts.HOLLOW, "stopped early, no value of the last step")
    baseline = next((each for each in found.baselines if each.explored is not None), None)
    if baseline and baseline.explored is not None:
        axes.axhline(baseline.explored, label=f"{baseline.name}, same seed", zorder=1, **charts.DASHED)
    words = "; ".join(f"{each.values[name]}: {criterion_number(value, criterion)}" for each, value in scored)
    ended = f"; stopped early at {', '.join(str(each.values[name]) for each in found.stopped)}" if found.stopped else ""
    return charts.figure(axes, "slices", f"{capital(criterion.label)} against {name}", f"{words}{ended}")


def _contour(found: SearchResults, scored: Scored, first: str, second: str) -> Figure:
    """The criterion over two parameters, interpolated linearly between the finished trials alone."""
    criterion, parameters = found.search.criterion, found.search.parameters
    axes = charts.chart(250, first)

    def points(titled: Iterable[tuple[Candidate, str]]) -> list[Mark]:
        return [
            (_place(parameters[first], each.values[first]), _place(parameters[second], each.values[second]), title)
            for each, title in titled
        ]

    finished = points((each, _title(each, criterion_number(value, criterion))) for each, value in scored)
    _fill(axes, finished, [value for _, value in scored], criterion)
    charts.marks(axes, finished, charts.OVER, "finished")
    charts.marks(axes, points((each, _stopped_title(each)) for each in found.stopped), charts.HOLLOW, "stopped early")
    _set_ticks(axes.xaxis, parameters[first])
    _set_ticks(axes.yaxis, parameters[second])
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    words = "; ".join(
        f"{first} {each.values[first]}, {second} {each.values[second]}: {criterion_number(value, criterion)}"
        for each, value in scored
    )
    return charts.figure(axes, "slices", f"{capital(criterion.label)} over {first} (across) and {second} (up)", words)


def _fill(axes: Axes, points: Sequence[Mark], values: Sequence[float], criterion: Criterion) -> None:
    """Areas between levels; trials at one place count with their mean. None where all places lie on one line."""
    spots: dict[tuple[float, float], list[float]] = {}
    for (x, y, _), value in zip(points, values, strict=True):
        spots.setdefault((x, y), []).append(value)
    if len(spots) < 3:
        return
    across, up = zip(*spots, strict=True)
    room = (max(values) - min(values)) * 1e-9 or 1e-9
    levels = np.linspace(min(values) - room, max(values) + room, len(BANDS) + 1)
    try:
        axes.tricontourf(across, up, [fmean(each) for each in spots.values()], levels=levels, colors=BANDS)
    except (ValueError, RuntimeError):  # no triangle can be drawn
        return
    for band, (low, high) in zip(BANDS, pairwise(levels), strict=True):
        axes.fill(
            [], [], color=band, lw=0, label=f"{criterion_number(low, criterion)} to {criterion_number(high, criterion)}"
        )


def _place(distribution: Distribution, value: Printed) -> float:
    """Where a value lies in its range, 0 to 1: options at equal distances, numbers or their logarithms."""
    if isinstance(distribution, Choice):
        options = [distribution.printed(option) for option in distribution.options]
        return (options.index(value) + 0.5) / len(options)
    low, high, number = float(distribution.low), float(distribution.high), float(value)
    if distribution.log:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low)


def _set_ticks(axis: XAxis | YAxis, distribution: Distribution) -> None:
    values: Iterable[Printed]
    if isinstance(distribution, Choice):
        values = [distribution.printed(option) for option in distribution.options]
    else:
        low, high = float(distribution.low), float(distribution.high)
        fine = LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0), numticks=7)
        even = MaxNLocator(6, steps=[1, 2, 5, 10], integer=isinstance(distribution, Integer))
        values = (fine if distribution.log else even).tick_values(low, high)
    places = {_place(distribution, value): value if isinstance(value, str) else f"{value:g}" for value in values}
    within = {place: text for place, text in places.items() if -1e-9 <= place <= 1 + 1e-9}
    width = charts.PANEL / (len(within) + 1)
    axis.set_ticks(list(within), labels=[charts.shortened(text, width) for text in within.values()])


def _title(candidate: Candidate, text: str) -> str:
    return f"{candidate.name}, {values_text(candidate.values)}: {text}"


def _stopped_title(candidate: Candidate) -> str:
    """No value, because it is of an earlier step."""
    record = candidate.record
    return _title(
        candidate, "stopped early" + ("" if record is None else f" at step {record.step} of {record.planned_steps}")
    )


# --------------------------------------------------------------------------------------------------------------------
# Pruning and criteria
# --------------------------------------------------------------------------------------------------------------------


def _pruning(found: SearchResults) -> Figure:
    """The steps of each trial, in the order in which they were proposed."""
    kinds: dict[str, list[Mark]] = {"finished": [], "stopped early": [], "ended otherwise": []}
    names = {Outcome.FINISHED: "finished", Outcome.STOPPED: "stopped early"}
    for each in found.candidates:
        record = each.record
        if record is not None and record.outcome is not None:
            title = f"{each.name}, {record.outcome.value} at step {record.step} of {record.planned_steps}"
            kinds[names.get(record.outcome, "ended otherwise")].append((each.number, record.step, title))
    axes = charts.chart(205, "trial, in the order of proposal", charts.WIDE)
    charts.bars(axes, kinds["finished"], 0.75, charts.OWN_BAR, "finished", upright=True)
    charts.bars(axes, kinds["stopped early"], 0.75, charts.BASE_BAR, "stopped early", upright=True)
    charts.marks(axes, kinds["ended otherwise"], charts.DIAMOND, "ended otherwise")
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    cost = found.pruning
    saved = "" if cost.saved is None else f"; {100 * cost.saved:.0f} % of the planned steps saved"
    words = f"{cost.finished} finished, {cost.stopped} stopped early{saved}"
    return charts.figure(axes, "pruning", "Training steps of each explored trial", words)


def _criterion(found: SearchResults, chosen: ChosenBy) -> Figure:
    """A label-free criterion against target mIoU, a dot a finished trial."""
    criterion = chosen.criterion
    values = {each.number: (value, final(each, TARGET_MIOU)) for each, value in _scored(found, criterion)}
    points = {
        number: (value, miou, f"trial {number}: {criterion_number(value, criterion)}, {TARGET_MIOU.label} {miou:.1f}")
        for number, (value, miou) in values.items()
        if miou is not None
    }
    direction = "more is better" if criterion.larger_is_better else "less is better"
    axes = charts.chart(205, f"{criterion.label} ({direction})")
    charts.marks(axes, list(points.values()), charts.DOT, "a finished trial")
    choice = [(x, y, f"{title}, chosen") for number, (x, y, title) in points.items() if number == chosen.choice]
    charts.marks(axes, choice, charts.DIAMOND, "its choice")
    words = "; ".join(f"{criterion_number(value, criterion)}: {miou:.1f}" for value, miou, _ in points.values())
    return charts.figure(axes, "selection", f"{capital(TARGET_MIOU.label)} against {criterion.label}", words)
