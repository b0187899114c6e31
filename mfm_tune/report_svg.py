"""Small SVG drawings: marks, text, and axes with round ticks. Colours come from `templates/chart.css`.

A drawing is built of strings; all text is escaped here. Coordinates are pixels at the drawing's natural size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import escape

TEMPLATES = Path(__file__).parent / "templates"
CHARACTER = 6.3  # pixels that a character of the charts' 11-pixel type takes, on average


def text_width(text: str) -> float:
    """About how wide a text is drawn, in pixels."""
    return CHARACTER * len(text)


def shortened(text: str, width: float) -> str:
    """A text cut to about a width in pixels."""
    room = max(4, int(width / CHARACTER))
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"


@dataclass(kw_only=True)
class Drawing:
    """Marks in drawing order. `title` is what a pointer that rests on a mark shows."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def path(self, points: Sequence[tuple[float, float]], kind: str, title: str = "") -> None:
        """A line through points."""
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{steps}">{_title(title)}</polyline>')

    def dot(self, x: float, y: float, kind: str, title: str = "", radius: float = 3.5) -> None:
        """A filled circle."""
        self.parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_title(title)}</circle>')

    def diamond(self, x: float, y: float, kind: str, title: str = "") -> None:
        """A square on its corner."""
        points = f"{x:.1f},{y - 5:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 5:.1f} {x - 5:.1f},{y:.1f}"
        self.parts.append(f'<polygon class="{kind}" points="{points}">{_title(title)}</polygon>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str, title: str = "") -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}">'
            f"{_title(title)}</rect>"
        )

    def area(self, outlines: Sequence[Sequence[tuple[float, float]]], kind: str, title: str = "") -> None:
        """A filled area between closed outlines; one within another is a hole."""
        path = " ".join(f"M{' L'.join(f'{x:.1f},{y:.1f}' for x, y in outline)} Z" for outline in outlines)
        self.parts.append(f'<path class="{kind}" fill-rule="evenodd" d="{path}">{_title(title)}</path>')

    def text(self, x: float, y: float, text: str, kind: str = "label", anchor: str = "start") -> None:
        """A text on one line."""
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Numbers from `low` to `high` along pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a number lies, in pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """About `count` round numbers within the scale."""
        step = round_step((self.high - self.low) / max(1, count))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(index * step for index in range(first, last + 1))


def scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that holds all finite values with a little room; around 0 where there are none."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = 0.06 * (high - low) or max(1.0, abs(high) * 0.05)
    return Scale(low=low - room, high=high + room, start=start, end=end)


def round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def tick_text(value: float, step: float) -> str:
    """A tick's number with as many decimals as its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    text = f"{value:.{decimals}f}"
    return "0" if not text.strip("-0.") else text.replace("-", "−")


def bottom_axis(drawing: Drawing, across: Scale, top: float, bottom: float, name: str) -> None:
    """Vertical grid lines with numbers below, and the axis's name."""
    ticks = across.ticks(5)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    for tick in ticks:
        drawing.line(across(tick), top, across(tick), bottom, "grid")
        drawing.text(across(tick), bottom + 14, tick_text(tick, step), "tick", "middle")
    drawing.text((across.start + across.end) / 2, bottom + 30, name, "label", "middle")


def left_axis(drawing: Drawing, up: Scale, left: float, right: float) -> None:
    """Horizontal grid lines with numbers at the left."""
    ticks = up.ticks(5)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    for tick in ticks:
        drawing.line(left, up(tick), right, up(tick), "grid")
        drawing.text(left - 6, up(tick) + 4, tick_text(tick, step), "tick", "end")


def legend(drawing: Drawing, entries: Sequence[tuple[str, str]], left: float, top: float, right: float) -> float:
    """Swatches with names, in as many lines as needed. Returns where the legend ends.

    Args:
        entries: (kind of line, name) pairs; a kind that starts with `dot`, `diamond` or `bar` is drawn as such.
    """
    x, y = left, top
    for kind, name in entries:
        width = 22 + text_width(name) + 12
        if x > left and x + width > right:
            x, y = left, y + 16
        _swatch(drawing, kind, x, y)
        drawing.text(x + 22, y + 4, shortened(name, right - x - 24), "tick")
        x += width
    return y + 14


def legend_height(entries: Sequence[tuple[str, str]], room: float) -> float:
    """How high a legend will be."""
    return legend(Drawing(width=0, height=0), entries, 0, 0, room)


def _swatch(drawing: Drawing, kind: str, x: float, y: float) -> None:
    shape = kind.split()[0]
    if shape == "dot":
        drawing.dot(x + 9, y, kind)
    elif shape == "diamond":
        drawing.diamond(x + 9, y, kind)
    elif shape == "bar":
        drawing.bar(x + 2, y - 5, 14, 10, kind)
    else:
        drawing.line(x + 1, y, x + 17, y, kind)


def inline(drawing: Drawing, identity: str, title: str, description: str) -> str:
    """A drawing as an element of a page; `identity` is unique on it."""
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {drawing.width:g} {drawing.height:g}" '
        f'aria-labelledby="{escape(identity)}-t {escape(identity)}-d">'
        f'<title id="{escape(identity)}-t">{escape(title)}</title>'
        f'<desc id="{escape(identity)}-d">{escape(description)}</desc>{"".join(drawing.parts)}</svg>'
    )


def standalone(drawing: Drawing, title: str, description: str) -> str:
    """A drawing as a file."""
    style = (TEMPLATES / "chart.css").read_text(encoding="utf-8")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{drawing.width:g}" height="{drawing.height:g}" '
        f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc><style>{style}</style>"
        f'<rect class="page" width="100%" height="100%"/>{"".join(drawing.parts)}</svg>\n'
    )
