"""The report's documents, each printed by its template: the HTML page, Markdown, and a table as LaTeX for booktabs.

Everything that a template prints is escaped for its format, unless it is markup already: drawings, style sheets and
what a template writes itself. The page needs no network, no scripts and no other file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mfm_tune.report.charts import TEMPLATES, Figure
from mfm_tune.report.columns import DIFFERENCES, Kind
from mfm_tune.report.grids import Grid, Shade, Shaded
from mfm_tune.report.pictures import Strip
from mfm_tune.report.tables import Entry, Printed
from mfm_tune.report.text import Text
from mfm_tune.results.statistics import Verdict
from mfm_tune.space import Study

_CLASSES = {Verdict.BETTER: "better", Verdict.WORSE: "worse"}
_DAGGERS = (r"\dag{}", r"\ddag{}", r"\S{}", r"\P{}", r"$\ast$", r"$\star$")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    "Δ": r"$\Delta$",
    "…": r"\dots{}",
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that the page and the Markdown print.

    Args:
        figures: By file name.
        strips: Predictions beside each other.
        classes: Network -> mean IoU of each class.
        class_differences, matrix: Heat maps; None where there is nothing to compare.
        trials: The number of each seed.
        files: What lies beside the report in `tables/`, by name.
    """

    study: Study
    text: Text
    tables: tuple[Printed, ...]
    figures: Mapping[str, Figure]
    strips: tuple[Strip, ...]
    classes: Mapping[str, Grid]
    class_differences: Shaded | None
    matrix: Shaded | None
    trials: Grid
    files: Mapping[str, bytes]

    def group(self, name: str) -> dict[str, Figure]:
        """The figures of one place on the page."""
        return {key: figure for key, figure in self.figures.items() if figure.group == name}

    def files_of(self, table: Printed | None) -> dict[str, bytes]:
        """The files of one table; None: those that are of no table."""
        names = {f"{each.name}.{ending}": each for each in self.tables for ending in ("csv", "tex")}
        return {name: data for name, data in self.files.items() if names.get(name) is table}


def html(content: Content) -> str:
    """The page: light and dark, wide and narrow."""
    return _printed("report.html", None, content=content)


def markdown(content: Content) -> str:
    """The same tables and sentences as the page, with the figures as files beside it."""
    return _printed("report.md", _for_markdown, content=content).rstrip() + "\n"


def latex(table: Printed, kinds: Collection[Kind] = tuple(Kind)) -> str:
    """A table as a float with caption, label and footnotes under daggers, to be read in by \\input.

    Args:
        kinds: The columns that it has, besides the level.
    """
    shown = [index for index, kind in enumerate(table.kinds) if kind in kinds]
    differences = any(table.kinds[index] in DIFFERENCES for index in shown)
    return _printed("table.tex", _for_latex, table=table, shown=shown, differences=differences)


def _printed(template: str, escape: Callable[[str], str] | None, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=escape and partial(_finalized, escape),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "css_class": _css_class,
        "css_shade": _css_shade,
        "drawing": _drawing,
        "data_uri": _data_uri,
        "dagger": _dagger,
        "line": lambda text: Markup(_line(text)),
        "style": lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8")),
    }
    return environment.get_template(template).render(values)


def _finalized(escape: Callable[[str], str], value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def _line(text: str) -> str:
    return " ".join(text.split())


def _for_markdown(text: str) -> str:
    """Text that Markdown prints as it is, on one line and inside a table."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", _line(text))


def _for_latex(text: str) -> str:
    """Text that LaTeX prints as it is; line ends become spaces."""
    return "".join(_LATEX.get(character, character) for character in _line(text))


def _dagger(number: int) -> Markup:
    """The sign of a footnote, counted from 1; from the seventh on they are doubled, and so on."""
    times, index = divmod(number - 1, len(_DAGGERS))
    return Markup(_DAGGERS[index] * (times + 1))


def _css_class(entry: Entry) -> str:
    return _CLASSES.get(entry.verdict, "") if entry.verdict else ""


def _css_shade(shade: Shade) -> str:
    tone = f"{'gain' if shade.level > 0 else 'loss'}{abs(shade.level)}" if shade.level else ""
    return " ".join(filter(None, (tone, "told" if shade.told else "")))


def _drawing(figure: Figure, name: str) -> Markup:
    return Markup(figure.inline(f"figure-{name}"))


def _data_uri(content: bytes, name: str) -> str:
    """A file as a link that carries it."""
    kind = "text/csv" if name.endswith(".csv") else "text/plain"
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(content).decode()}"
