"""The criterion of a search against its parameters: one at a time, and two at a time as filled contours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mfm_tune.exploration import Explored, values_text
from mfm_tune.report_figures import PANEL, Figure
from mfm_tune.report_svg import (
    Drawing,
    left_axis,
    legend,
    legend_height,
    round_step,
    scale,
    shortened,
    text_width,
    tick_text,
)
from mfm_tune.report_text import criterion_number
from mfm_tune.search_results import SearchResults, final
from mfm_tune.search_space import Choice, Distribution, Integer, Printed

SEARCH = "search"  # group of figures
BANDS = 5  # of a contour plot
LEFT = 54.0  # where a slice begins: its strip has a name
STRIP = 30.0  # height of the strip of stopped trials below a slice

Scored = list[tuple[Explored, float]]  # finished points with their value


@dataclass(frozen=True, kw_only=True)
class Along:
    """A parameter's values along pixels: options at equal distances, a range by its numbers or their logarithms."""

    distribution: Distribution
    start: float
    end: float

    def share(self, value: Printed) -> float:
        """Where a value lies in its range, 0 to 1."""
        if isinstance(self.distribution, Choice):
            options = [self.distribution.printed(option) for option in self.distribution.options]
            return (options.index(value) + 0.5) / len(options)
        low, high, number = float(self.distribution.low), float(self.distribution.high), float(value)
        if self.distribution.log:
            low, high, number = math.log(low), math.log(high), math.log(number)
        return (number - low) / (high - low)

    def place(self, share: float) -> float:
        """In pixels; the ends of the range lie a little inwards."""
        return self.start + (0.04 + 0.92 * share) * (self.end - self.start)

    def __call__(self, value: Printed) -> float:
        """Where a value lies, in pixels."""
        return self.place(self.share(value))

    def ticks(self) -> list[tuple[float, str]]:
        """(pixels, text) pairs."""
        if isinstance(self.distribution, Choice):
            options = [self.distribution.printed(option) for option in self.distribution.options]
            return [(self(option), str(option)) for option in options]
        low, high = float(self.distribution.low), float(self.distribution.high)
        if self.distribution.log:
            return [(self(value), f"{value:g}") for value in _log_ticks(low, high)]
        step = round_step((high - low) / 5)
        if isinstance(self.distribution, Integer):
            step = max(1.0, step)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [(self(index * step), tick_text(index * step, step)) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """At most about six round numbers: powers of ten, between them 2 and 5 where there is room, or the ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    within = [value for value in fine if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    coarse = [value for value in within if math.isclose(math.log10(value), round(math.log10(value)))]
    chosen = within if len(within) <= 6 else coarse[:: 1 + len(coarse) // 7]
    return chosen or [low, high]


def slice_plot(found: SearchResults, name: str) -> Figure:
    """The criterion of the finished trials against one parameter; stopped trials lie in a strip of their own."""
    search, criterion = found.search, found.search.criterion
    pairs = finished_values(found)
    baseline = next((each for each in found.baselines if each.explored is not None), None)
    entries = [
        ("dot", "finished"),
        *([("dot hollow", "stopped early, no value of the last step")] if found.stopped else []),
    ]
    entries += [("base", f"{baseline.name}, same seed")] if baseline else []
    top = legend_height(entries, PANEL - LEFT) + 8
    bottom = top + 170 + (STRIP if found.stopped else 0)
    drawing = Drawing(width=PANEL, height=bottom + 38)
    known = [value for _, value in pairs] + ([baseline.explored] if baseline and baseline.explored is not None else [])
    up = scale(known, top + 164, top)
    along = Along(distribution=search.parameters[name], start=LEFT + 2, end=PANEL - 8)
    legend(drawing, entries, LEFT - 4, 10, PANEL)
    left_axis(drawing, up, LEFT, PANEL - 8)
    _parameter_axis(drawing, along, top, bottom, name)
    if baseline and baseline.explored is not None:
        drawing.line(LEFT, up(baseline.explored), PANEL - 8, up(baseline.explored), "base")
    for each, value in pairs:
        drawing.dot(along(each.values[name]), up(value), "dot", _title(each, value, found))
    if found.stopped:
        drawing.line(LEFT, top + 172, PANEL - 8, top + 172, "zero")
        drawing.text(LEFT - 4, top + 190, "stopped", "tick", "end")
        for each in found.stopped:
            drawing.dot(along(each.values[name]), top + 186, "dot hollow", stopped_title(each))
    said = "; ".join(f"{each.values[name]}: {criterion_number(value, criterion)}" for each, value in pairs)
    stopped = (
        f"; stopped early at {', '.join(str(each.values[name]) for each in found.stopped)}" if found.stopped else ""
    )
    title = f"{capital(criterion.label)} against {name}"
    return Figure(group=SEARCH, title=title, description=f"{said}{stopped}", drawing=drawing)


def contour_plot(found: SearchResults, first: str, second: str) -> Figure:
    """The criterion over two parameters, interpolated linearly between the finished trials alone."""
    criterion, parameters = found.search.criterion, found.search.parameters
    scored = finished_values(found)
    levels = _levels([value for _, value in scored])
    bands = [
        (f"bar band{index}", f"{criterion_number(low, criterion)} to {criterion_number(high, criterion)}")
        for index, (low, high) in enumerate(pairwise(levels))
    ]
    entries = [*bands, ("dot over", "finished"), *([("dot hollow", "stopped early")] if found.stopped else [])]
    top = legend_height(entries, PANEL - 40) + 8
    bottom = top + 210
    drawing = Drawing(width=PANEL, height=bottom + 38)
    vertical = parameters[second]
    labels = [text for _, text in Along(distribution=vertical, start=0, end=1).ticks()]
    left = min(110.0, 14 + max((text_width(text) for text in labels), default=20))
    across = Along(distribution=parameters[first], start=left, end=PANEL - 8)
    up = Along(distribution=vertical, start=bottom, end=top)
    legend(drawing, entries, 0, 10, PANEL)
    spots = {
        (across.share(each.values[first]), up.share(each.values[second])): value
        for each, value in _means(scored, first, second)
    }
    for index, outlines in _bands(spots, levels):
        drawing.area(
            [[(across.place(x), up.place(y)) for x, y in line] for line in outlines], f"band{index}", bands[index][1]
        )
    _parameter_axis(drawing, across, top, bottom, first)
    for y, text in up.ticks():
        drawing.line(left, y, PANEL - 8, y, "grid")
        drawing.text(left - 6, y + 4, shortened(text, left - 8), "tick", "end")
    for each in found.stopped:
        drawing.dot(across(each.values[first]), up(each.values[second]), "dot hollow", stopped_title(each), radius=3)
    for each, value in scored:
        drawing.dot(across(each.values[first]), up(each.values[second]), "over", _title(each, value, found))
    return Figure(
        group=SEARCH,
        title=f"{capital(criterion.label)} over {first} (across) and {second} (up)",
        description="; ".join(
            f"{first} {each.values[first]}, {second} {each.values[second]}: {criterion_number(value, criterion)}"
            for each, value in scored
        ),
        drawing=drawing,
    )


def _means(scored: Scored, first: str, second: str) -> Scored:
    """One entry a place: trials at the same two values give their mean."""
    places: dict[tuple[Printed, Printed], Scored] = {}
    for each, value in scored:
        places.setdefault((each.values[first], each.values[second]), []).append((each, value))
    return [(group[0][0], sum(value for _, value in group) / len(group)) for group in places.values()]


def _levels(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    room = (high - low) * 1e-9 or 1e-9
    return [low - room + (high - low + 2 * room) * index / BANDS for index in range(BANDS + 1)]


Outline = list[tuple[float, float]]


def _bands(spots: Mapping[tuple[float, float], float], levels: Sequence[float]) -> list[tuple[int, list[Outline]]]:
    """Filled areas between levels, in the unit square; none where all spots lie on one line."""
    import numpy as np
    from matplotlib.figure import Figure as Canvas

    x, y = [place[0] for place in spots], [place[1] for place in spots]
    if len(spots) < 3:
        return []
    try:
        filled = Canvas().add_subplot().tricontourf(x, y, list(spots.values()), levels=levels)
    except (ValueError, RuntimeError):  # no triangle can be drawn
        return []
    found = []
    for index, path in enumerate(filled.get_paths()):
        outlines = [[(a, b) for a, b in np.asarray(outline).tolist()] for outline in path.to_polygons()]
        if outlines:
            found.append((index, outlines))
    return found


def _parameter_axis(drawing: Drawing, along: Along, top: float, bottom: float, name: str) -> None:
    ticks = along.ticks()
    room = (along.end - along.start) / max(1, len(ticks))
    for x, text in ticks:
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, bottom + 14, shortened(text, room), "tick", "middle")
    drawing.text((along.start + along.end) / 2, bottom + 30, name, "label", "middle")


def finished_values(found: SearchResults) -> Scored:
    """The finished points with their value of the search's criterion."""
    pairs = ((each, final(each, found.search.criterion)) for each in found.points)
    return [(each, value) for each, value in pairs if value is not None]


def stopped_title(point: Explored) -> str:
    """What a pointer on a stopped trial shows: no value, because it is of an earlier step."""
    record = point.record
    at = "" if record is None else f" at step {record.step} of {record.planned_steps}"
    return f"trial {point.number}, {values_text(point.values)}: stopped early{at}"


def capital(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _title(point: Explored, value: float, found: SearchResults) -> str:
    return f"trial {point.number}, {values_text(point.values)}: {criterion_number(value, found.search.criterion)}"
