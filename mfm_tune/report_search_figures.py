"""What the report of a search draws: what the choice was worth, slices, contours, pruning, label-free criteria."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from mfm_tune.criteria import TARGET_MIOU
from mfm_tune.exploration import Explored
from mfm_tune.program import Outcome
from mfm_tune.report_figures import PANEL, ROW, WIDE, Figure
from mfm_tune.report_importance import Importance
from mfm_tune.report_search_slices import SEARCH, capital, contour_plot, slice_plot
from mfm_tune.report_svg import (
    Drawing,
    Scale,
    bottom_axis,
    left_axis,
    legend,
    legend_height,
    scale,
    shortened,
    text_width,
)
from mfm_tune.report_text import criterion_number
from mfm_tune.search_results import ChosenBy, Retold, SearchResults, final

PAIRED = 3  # parameters whose pairs are drawn as contours
LEAST_FOR_CONTOURS = 6  # finished trials


def search_figures(found: SearchResults, importances: Sequence[Importance]) -> dict[str, Figure]:
    """All figures by file name; what has no numbers yet is not drawn."""
    return dict(_figures(found, importances))


def _figures(found: SearchResults, importances: Sequence[Importance]) -> Iterator[tuple[str, Figure]]:
    retold = [*found.confirmed, *found.baselines]
    if any(each.change is not None for each in retold):
        yield "search-optimism", _optimism(found, retold)
    if importances:
        yield "search-importance", _importance(importances, len(found.finished))
    if found.finished:
        names = [each.name for each in importances]
        rest = [name for name in found.search.parameters if name not in names]
        for index, name in enumerate([*names, *rest]):
            yield f"search-slice-{index}", slice_plot(found, name)
    if len(found.finished) >= LEAST_FOR_CONTOURS:
        for index, (first, second) in enumerate(combinations([each.name for each in importances[:PAIRED]], 2)):
            yield f"search-contour-{index}", contour_plot(found, first, second)
    if found.pruning.finished or found.pruning.stopped:
        yield "search-pruning", _pruning(found)
    for index, chosen in enumerate(found.chosen_by):
        yield f"search-criterion-{index}", _criterion(found, chosen)


# --------------------------------------------------------------------------------------------------------------------
# What the choice was worth
# --------------------------------------------------------------------------------------------------------------------


def _optimism(found: SearchResults, retold: Sequence[Retold]) -> Figure:
    """A row for each confirmed config: the number it was chosen with, and those of fresh seeds."""
    criterion = found.search.criterion
    entries = [("diamond", "while exploring"), ("dot", "a fresh seed"), ("mean", "mean of fresh seeds")]
    values = [value for each in retold for value in (*each.fresh.values(), each.explored) if value is not None]
    left = min(0.4 * PANEL, 14 + max(text_width(each.name) for each in retold))
    top = legend_height(entries, PANEL) + 8
    bottom = top + ROW * len(retold)
    drawing = Drawing(width=PANEL, height=bottom + 38)
    across = scale(values, left, PANEL - 10)
    legend(drawing, entries, 0, 10, PANEL)
    bottom_axis(drawing, across, top, bottom, criterion.label)
    said = []
    for index, each in enumerate(retold):
        y = top + ROW * (index + 0.5)
        drawing.line(left, y, PANEL - 10, y, "row")
        drawing.text(left - 8, y + 4, shortened(each.name, left - 10), "label", "end")
        for seed, value in each.fresh.items():
            drawing.dot(across(value), y, "dot", f"{each.name}, seed {seed}: {criterion_number(value, criterion)}")
        if each.summary.mean is not None:
            drawing.line(across(each.summary.mean), y - 8, across(each.summary.mean), y + 8, "mean")
        if each.explored is not None:
            title = f"{each.name}, while exploring: {criterion_number(each.explored, criterion)}"
            drawing.diamond(across(each.explored), y, "diamond", title)
        told = [criterion_number(value, criterion) for value in (each.explored, each.summary.mean)]
        said.append(f"{each.name}: {told[0]} while exploring, {told[1]} with fresh seeds")
    return Figure(
        group=SEARCH, title=f"{capital(criterion.label)} while exploring and with fresh seeds",
        description="; ".join(said), drawing=drawing,
    )  # fmt: skip


def _importance(importances: Sequence[Importance], n: int) -> Figure:
    left = min(0.4 * PANEL, 14 + max(text_width(each.name) for each in importances))
    entries = [("bar own", "importance"), ("interval", "range when one trial is left out")]
    top = legend_height(entries, PANEL) + 8
    bottom = top + ROW * len(importances)
    drawing = Drawing(width=PANEL, height=bottom + 38)
    across = Scale(low=0.0, high=1.0, start=left, end=PANEL - 12)
    legend(drawing, entries, 0, 10, PANEL)
    bottom_axis(drawing, across, top, bottom, "share of the importance")
    for index, each in enumerate(importances):
        y = top + ROW * (index + 0.5)
        drawing.text(left - 8, y + 4, shortened(each.name, left - 10), "label", "end")
        title = f"{each.name}: {each.share:.2f} ({each.low:.2f} to {each.high:.2f})"
        drawing.bar(across(0), y - 8, across(each.share) - across(0), 10, "own", title)
        drawing.line(across(each.low), y + 6, across(each.high), y + 6, "interval")
    return Figure(
        group=SEARCH, title=f"Importance of each parameter, {n} finished trials",
        description="; ".join(f"{each.name}: {each.share:.2f}" for each in importances), drawing=drawing,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------------------
# Pruning and criteria
# --------------------------------------------------------------------------------------------------------------------


def _pruning(found: SearchResults) -> Figure:
    """The steps of each trial, in the order in which they were proposed."""
    points = [each for each in found.points if each.record is not None and each.outcome is not None]
    entries = [("bar own", "finished"), ("bar base", "stopped early")]
    others = any(each.outcome not in (Outcome.FINISHED, Outcome.STOPPED) for each in points)
    entries += [("diamond", "ended otherwise")] if others else []
    top = legend_height(entries, WIDE - 50) + 8
    bottom = top + 170
    drawing = Drawing(width=WIDE, height=bottom + 38)
    most = max((each.record.planned_steps for each in points if each.record), default=1)
    up = Scale(low=0.0, high=float(max(1, most)) * 1.03, start=bottom, end=top)
    across = Scale(low=-0.5, high=max(each.number for each in points) + 0.5, start=52, end=WIDE - 8)
    width = max(1.0, (across(1) - across(0)) * 0.75)
    legend(drawing, entries, 46, 10, WIDE)
    left_axis(drawing, up, 50, WIDE - 8)
    for tick in across.ticks(8):
        if tick.is_integer() and tick >= 0:
            drawing.text(across(tick), bottom + 14, f"{tick:g}", "tick", "middle")
    drawing.text((across.start + across.end) / 2, bottom + 30, "trial, in the order of proposal", "label", "middle")
    for each in points:
        _steps(drawing, each, across(each.number), up, width)
    told = found.pruning
    saved = "" if told.saved is None else f"; {100 * told.saved:.0f} % of the planned steps saved"
    return Figure(
        group=SEARCH, title="Training steps of each explored trial",
        description=f"{told.finished} finished, {told.stopped} stopped early{saved}", drawing=drawing,
    )  # fmt: skip


def _steps(drawing: Drawing, point: Explored, x: float, up: Scale, width: float) -> None:
    record = point.record
    assert record is not None
    assert record.outcome is not None
    title = f"trial {point.number}, {record.outcome.value} at step {record.step} of {record.planned_steps}"
    if record.outcome in (Outcome.FINISHED, Outcome.STOPPED):
        kind = "own" if record.outcome is Outcome.FINISHED else "base"
        drawing.bar(x - width / 2, up(record.step), width, up(0) - up(record.step), kind, title)
    else:
        drawing.diamond(x, min(up(record.step), up(0) - 5), "diamond", title)


def _criterion(found: SearchResults, chosen: ChosenBy) -> Figure:
    """A label-free criterion against target mIoU, a dot a finished trial."""
    criterion = chosen.criterion
    pairs = [
        (each, value, miou)
        for each in found.points
        if (value := final(each, criterion)) is not None and (miou := final(each, TARGET_MIOU)) is not None
    ]
    entries = [("dot", "a finished trial"), ("diamond", "its choice")]
    top = legend_height(entries, PANEL - 40) + 8
    bottom = top + 170
    drawing = Drawing(width=PANEL, height=bottom + 38)
    across = scale([value for _, value, _ in pairs], 46, PANEL - 8)
    up = scale([miou for _, _, miou in pairs], bottom - 4, top)
    legend(drawing, entries, 40, 10, PANEL)
    direction = "more is better" if criterion.larger_is_better else "less is better"
    bottom_axis(drawing, across, top, bottom, f"{criterion.label} ({direction})")
    left_axis(drawing, up, 44, PANEL - 8)
    for each, value, miou in pairs:
        title = f"trial {each.number}: {criterion_number(value, criterion)}, {TARGET_MIOU.label} {miou:.1f}"
        drawing.dot(across(value), up(miou), "dot", title)
        if each.number == chosen.choice:
            drawing.diamond(across(value), up(miou), "diamond", f"{title}, chosen")
    return Figure(
        group=SEARCH,
        title=f"{capital(TARGET_MIOU.label)} against {criterion.label}",
        description="; ".join(f"{criterion_number(value, criterion)}: {miou:.1f}" for _, value, miou in pairs),
        drawing=drawing,
    )
