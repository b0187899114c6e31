"""The report as one HTML page: no network, no scripts, light and dark, wide and narrow.

`templates/report.html` lays the page out. Jinja escapes everything that is not marked as safe, and only drawings
(escaped when they were drawn) and the style sheets are.
"""

from __future__ import annotations

import base64

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mfm_tune.report.charts import TEMPLATES, Figure
from mfm_tune.report.content import Content
from mfm_tune.report.tables import Entry
from mfm_tune.results.statistics import Verdict

_CLASSES = {Verdict.BETTER: "better", Verdict.WORSE: "worse"}


def html(content: Content) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"css_class": _css_class, "drawing": _drawing, "data_uri": _data_uri}
    return environment.get_template("report.html").render(
        content=content,
        bars=[name for name, figure in content.figures.items() if figure.group == "classes"],
        colours=dict(pair for strip in content.strips for pair in strip.colours),
        chart_css=_style("chart.css"),
        page_css=_style("report.css"),
    )


def _css_class(entry: Entry) -> str:
    return _CLASSES.get(entry.verdict, "") if entry.verdict else ""


def _drawing(figure: Figure, name: str) -> Markup:
    return Markup(figure.inline(f"figure-{name}"))


def _data_uri(content: bytes, name: str) -> str:
    """A file as a link that carries it."""
    kind = "text/csv" if name.endswith(".csv") else "text/plain"
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(content).decode()}"


def _style(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
