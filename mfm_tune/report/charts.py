"""Charts by matplotlib, as SVG that follows its page: text stays text, and colours are those of `templates/chart.css`.

Charts are drawn in the light colours; each becomes the CSS property that it is the value of, so that one drawing is
right in light and dark. Lengths are pixels at the drawing's natural size.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

TEMPLATES = Path(__file__).parent / "templates"
PANEL = 380  # width of the panels that stand side by side on a wide page, one below the other on a narrow one
WIDE = 540
INCH = 72  # pixels
CHARACTER = 6.3  # width of a character, on average
LEGEND_LINE = 16  # its height
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"

SHEET = (TEMPLATES / "chart.css").read_text(encoding="utf-8")
COLOUR = dict(re.findall(r"--(\w+): (#\w{6})", SHEET.partition("@media")[0]))
NAME_OF = {value: name for name, value in COLOUR.items()}  # names of one colour in light have one in dark
INK, SOFT, PAGE, BASE, ACCENT = (COLOUR[name] for name in ("ink", "soft", "page", "base", "accent"))
SERIES = [COLOUR[f"s{index}"] for index in range(9)]

UNDATED = dict.fromkeys(("CreationDate", "Creator", "Producer"))  # of a PDF, so that equal drawings are equal files
Style = Mapping[str, Any]
DOT: Style = {"marker": "o", "ls": "", "ms": 7, "mfc": (ACCENT, 0.55), "mec": ACCENT}
OVER: Style = {"marker": "o", "ls": "", "ms": 6, "mfc": PAGE, "mec": INK}
HOLLOW: Style = {"marker": "o", "ls": "", "ms": 5, "mfc": PAGE, "mec": SOFT}
DIAMOND: Style = {"marker": "D", "ls": "", "ms": 6.5, "mfc": PAGE, "mec": COLOUR["s1"], "mew": 1.5}
MEAN: Style = {"marker": "|", "ls": "", "ms": 15, "mew": 3, "color": INK}
MEANS: Style = {"marker": "o", "ls": "-", "ms": 8, "color": SERIES[0], "lw": 2.2}
INTERVAL: Style = {"color": ACCENT, "lw": 2}
TOLD: Style = {"color": ACCENT, "lw": 4}  # an interval that excludes 0
FAINT: Style = {"color": (ACCENT, 0.35), "lw": 2}
DASHED: Style = {"color": BASE, "lw": 2, "ls": (0, (2.5, 2))}
DASHES = ("-", "-.", (0, (1, 1)), (0, (6, 2)))  # neighbours differ for those too who see their colours alike
ZERO: Style = {"color": COLOUR["zero"], "lw": 1.5}
OWN_BAR: Style = {"color": (ACCENT, 0.8)}
APART: Style = {"color": SOFT, "bbox": {"facecolor": PAGE, "lw": 0, "pad": 1}}  # words where marks would stand
BASE_BAR: Style = {"color": (BASE, 0.6)}

house_style = matplotlib.style.context(
    {
        "svg.fonttype": "none", "svg.hashsalt": "mfm_tune", "pdf.fonttype": 42,
        "text.parse_math": False, "text.color": INK,
        "font.family": "DejaVu Sans", "font.size": 11, "axes.labelsize": 11, "axes.labelcolor": INK,
        "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT, "xtick.major.size": 0, "ytick.major.size": 0,
        "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
        "axes.facecolor": "none", "axes.grid": True, "axes.axisbelow": True, "grid.color": COLOUR["rule"],
        "grid.linewidth": 1, "axes.formatter.useoffset": False, "axes.formatter.limits": (-5, 7),
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 3 / INCH, "figure.constrained_layout.w_pad": 3 / INCH,
        "legend.frameon": False, "legend.fontsize": 11, "legend.labelcolor": SOFT, "legend.borderpad": 0,
        "legend.borderaxespad": 0, "legend.labelspacing": 0.3, "legend.handlelength": 1.6,
        "legend.handletextpad": 0.5, "legend.columnspacing": 1.2,
    },
    after_reset=True,
)  # fmt: skip
"""Decorates what makes charts. A machine's matplotlibrc has no say in them."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its words.

    Args:
        group: Where the page puts it: seeds, plot, curves, classes, or the key of a section.
        drawing: Elements of SVG.
        size: Width and height.
        table: The table that it belongs to.
        canvas: What it was drawn on.
    """

    group: str
    title: str
    description: str
    drawing: str
    size: tuple[float, float]
    table: str | None = None
    canvas: Canvas

    def inline(self, identity: str) -> str:
        """As an element of a page; `identity` is unique on it."""
        identity = escape(identity)
        drawing = re.sub('(<path id="|<use href="#)', rf"\g<1>{identity}-", self.drawing)
        return (
            f'<svg class="chart" role="img" viewBox="0 0 {self.size[0]:g} {self.size[1]:g}" '
            f'aria-labelledby="{identity}-t {identity}-d"><title id="{identity}-t">{escape(self.title)}</title>'
            f'<desc id="{identity}-d">{escape(self.description)}</desc>{drawing}</svg>'
        )

    def file(self) -> str:
        """As an SVG file."""
        width, height = self.size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" role="img"><title>{escape(self.title)}</title>'
            f"<desc>{escape(self.description)}</desc><style>{SHEET}</style>"
            f'<rect style="fill: var(--page)" width="100%" height="100%"/>{self.drawing}</svg>\n'
        )

    @house_style
    def pdf(self) -> bytes:
        """As a PDF file for a paper, in the light colours, with fonts that publishers take (TrueType)."""
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            FigureCanvasPdf(self.canvas).print_pdf(file, metadata={**UNDATED, "Title": self.title})
        return file.getvalue()


# --------------------------------------------------------------------------------------------------------------------
# What is drawn
# --------------------------------------------------------------------------------------------------------------------

Mark = tuple[float, float, str]  # x, y, and what a pointer shows that rests on it


def chart(height: float, across: str, width: float = PANEL) -> Axes:
    """An empty chart with the name of its horizontal axis; the legend comes above `height`."""
    axes = Canvas(figsize=(width / INCH, height / INCH)).add_subplot()
    axes.set_xlabel(across)
    axes.locator_params(steps=[1, 2, 5, 10])
    return axes


def rows(names: Sequence[str], across: str, width: float = PANEL, row: float = 24) -> Axes:
    """An empty chart with a named row for each integer from 0 on, downwards."""
    axes = chart(row * len(names) + 42, across, width)
    axes.set_yticks(range(len(names)), [shortened(name, 0.4 * width) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", linestyle=":")
    return axes


def strip_below(axes: Axes, name: str) -> Axes:
    """A row of its own below a chart, along the same axis."""
    grid = axes.figure.add_gridspec(2, 1, height_ratios=[7, 1])
    axes.set_subplotspec(grid[0])
    axes.tick_params(labelbottom=False)
    strip = axes.figure.add_subplot(grid[1], sharex=axes)
    strip.set_yticks([0], [name])
    strip.set_xlabel(axes.get_xlabel())
    axes.set_xlabel("")
    return strip


def marks(axes: Axes, points: Sequence[Mark], style: Style, name: str) -> None:
    """Marks, which the legend names."""
    if points:
        x, y, titles = zip(*points, strict=True)
        axes.plot(x, y, gid=json.dumps(titles), label=name, **style)


def line(axes: Axes, points: Sequence[tuple[float, float]], style: Style, title: str, name: str = "_") -> None:
    """A line; one point alone is a dot, and none at all is in the legend alone."""
    x, y = [point[0] for point in points], [point[1] for point in points]
    marker = "o" if len(points) == 1 else ""
    axes.plot(x, y, gid=json.dumps([title] if points else []), label=name, **{**style, "marker": marker})


def bars(
    axes: Axes, points: Sequence[Mark], thickness: float, style: Style, name: str, *, upright: bool = False
) -> None:
    """Bars to each mark from the left, or from below where they are `upright`."""
    if points:
        x, y, titles = zip(*points, strict=True)
        draw, at, to = (axes.bar, x, y) if upright else (axes.barh, y, x)
        for bar, title in zip(draw(at, to, thickness, label=name, **style), titles, strict=True):
            bar.set_gid(json.dumps([title]))


def seeds(
    axes: Axes,
    told: Sequence[tuple[str, Mapping[int, float], float | None]],
    text: Callable[[float], str],
    names: tuple[str, str] = ("a seed", "mean"),
) -> None:
    """Dots and their mean in each row of (name, seed -> value, mean)."""
    dots = [
        (value, row, f"{name}, seed {seed}: {text(value)}")
        for row, (name, values, _) in enumerate(told)
        for seed, value in values.items()
    ]
    means = [(mean, row, f"{name}, mean: {text(mean)}") for row, (name, _, mean) in enumerate(told) if mean is not None]
    marks(axes, dots, DOT, names[0])
    marks(axes, means, MEAN, names[1])


def beside(axes: Axes, x: float, row: float, text: str, style: Style) -> None:
    """A text at a row, `x` in widths of the drawing."""
    axes.text(x, row, text, va="center", transform=axes.get_yaxis_transform(), **style)


def say(axes: Axes, row: float, text: str) -> None:
    """A word in a row without marks."""
    beside(axes, 0.01, row, text, APART)


def shortened(text: str, width: float) -> str:
    """A text cut to about a width."""
    room = max(4, int(width / CHARACTER))
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that holds all values with a little room; around 0 where there are none."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    room = 0.06 * (high - low) or max(1.0, abs(high) * 0.05)
    return low - room, high + room


# --------------------------------------------------------------------------------------------------------------------
# What becomes of it
# --------------------------------------------------------------------------------------------------------------------


def figure(axes: Axes, group: str, title: str, description: str, table: str | None = None) -> Figure:
    """What was drawn, with a legend of all that has a name, and in words."""
    made = axes.get_figure(root=True)
    assert made is not None
    made.patch.set_visible(False)
    width, height = made.get_size_inches() * INCH
    height += LEGEND_LINE * _add_legend(made, width)
    made.set_size_inches(width / INCH, height / INCH)
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts draw the text
        # not savefig, which draws twice
        FigureCanvasSVG(made).print_svg(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    size = (round(width, 1), round(height, 1))
    drawing = _tidied(file.getvalue())
    return Figure(
        group=group, title=title, description=description, drawing=drawing, size=size, table=table, canvas=made
    )


def _add_legend(made: Canvas, width: float) -> int:
    """Returns how many lines it takes: as few as there is room for."""
    named = [pair for axes in made.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    names = [shortened(name, width - 40) for _, name in named]

    def taken(columns: int) -> float:
        return sum(max(map(len, each)) * CHARACTER + 36 for each in np.array_split(names, columns))

    columns = next((count for count in range(len(names), 1, -1) if taken(count) <= width), 1)
    made.legend([handle for handle, _ in named], names, loc="outside upper left", ncols=columns)
    return -(-len(names) // columns)


def _tidied(svg: str) -> str:
    """The elements of matplotlib's file in the page's colours, with titles, and without what a page has no use for."""
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in [child for child in parent if child.find(f"{SVG}clipPath") is not None]:
            parent.remove(child)
    for element in root.iter():
        if element.tag == f"{SVG}g":
            _add_titles(element, element.attrib.pop("id", ""))
        element.attrib.pop("clip-path", None)
        if f"{XLINK}href" in element.attrib:
            element.attrib = {"href": element.attrib.pop(f"{XLINK}href"), **element.attrib}
        if "style" in element.attrib:
            style = element.attrib["style"].replace("'DejaVu Sans'", "var(--face)")
            element.set("style", re.sub("#[0-9a-f]{6}", _property, style))
        element.tag = element.tag.removeprefix(SVG)
        element.text, element.tail = (element.text or "").strip(), None
    return "".join(ElementTree.tostring(child, encoding="unicode") for child in root)


def _property(colour: re.Match[str]) -> str:
    return f"var(--{NAME_OF.get(colour[0], 'ink')})"


def _add_titles(group: ElementTree.Element, identity: str) -> None:
    """Give a group's marks, or its one line, the titles that stand in its name as JSON."""
    titles = json.loads(identity) if identity.startswith("[") else []
    drawn = list(group.iter(f"{SVG}use")) or list(group.iter(f"{SVG}path"))
    if len(drawn) == len(titles):  # matplotlib leaves out what lies beyond the drawing
        for element, title in zip(drawn, titles, strict=True):
            ElementTree.SubElement(element, "title").text = title
