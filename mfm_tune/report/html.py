"""The report as one HTML page: no network, no scripts, light and dark, wide and narrow.

`templates/report.html` says how the page is laid out; here is what it shows. Jinja escapes everything that is not
marked as safe, and only drawings (escaped when they were drawn) and the style sheets are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mfm_tune.report.charts import TEMPLATES, Figure
from mfm_tune.report.csv_files import classes_csv, networks, table_csv, trials_csv
from mfm_tune.report.latex import latex
from mfm_tune.report.numbers import cell_text, metric_name, number, trial_text
from mfm_tune.report.pictures import Strip
from mfm_tune.report.sections import Words, words
from mfm_tune.report.tables import Entry, Printed, printed
from mfm_tune.results.statistics import Verdict, summary
from mfm_tune.results.study import Results, TableResult
from mfm_tune.space import paper_text

_CLASSES = {Verdict.BETTER: "better", Verdict.WORSE: "worse", Verdict.NOT_SHOWN: "", None: ""}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure on the page."""

    title: str
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that the page carries in itself."""

    name: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A table as the paper prints it: level, ours, the paper's."""

    title: str
    axis: str
    has_paper: bool
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table with what stands around it."""

    printed: Printed
    glance: Glance
    plots: tuple[Drawn, ...]
    seeds: tuple[Drawn, ...]
    curves: tuple[Drawn, ...]
    downloads: tuple[Download, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of texts."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def html(
    results: Results,
    figures: Mapping[str, Figure],
    strips: Sequence[Strip],
    said: Words | None = None,
    files: Mapping[str, str] | None = None,
) -> str:
    """The whole page.

    Args:
        results: The numbers.
        figures: By name.
        strips: Pictures of predictions.
        said: The words; None takes those of a study.
        files: Further downloads, name -> text.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["css_class"] = _css_class
    return environment.get_template("report.html").render(
        study=results.study,
        words=words(results) if said is None else said,
        drawn={name: _drawn(name, each) for name, each in figures.items()},
        tables=[_table(results, table, figures) for table in results.tables],
        classes=[_drawn(name, each) for name, each in figures.items() if each.group == "classes"],
        class_grids=[(network, grid) for network in networks(results) if (grid := _class_grid(results, network)).rows],
        trials=_trial_grid(results),
        strips=strips,
        colours=dict(pair for each in strips for pair in each.colours),
        downloads=[
            _download(name, text)
            for name, text in {
                "trials.csv": trials_csv(results),
                "classes.csv": classes_csv(results),
                **(files or {}),
            }.items()
        ],
        chart_css=_style("chart.css"),
        page_css=_style("report.css"),
    )


def _css_class(entry: Entry) -> str:
    return _CLASSES[entry.verdict]


def _style(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _drawn(name: str, figure: Figure) -> Drawn:
    return Drawn(title=figure.title, svg=Markup(figure.inline(f"figure-{name}")))


def _table(results: Results, table: TableResult, figures: Mapping[str, Figure]) -> PageTable:
    ready = printed(results, table)
    own = [(name, each) for name, each in figures.items() if each.table == table.table.name]
    drawn = {
        group: tuple(_drawn(name, each) for name, each in own if each.group == group)
        for group in ("plot", "seeds", "curves")
    }
    return PageTable(
        printed=ready,
        glance=Glance(
            title=ready.title,
            axis=ready.axis,
            has_paper=table.has_paper,
            rows=tuple((cell.cell.level, cell_text(cell), paper_text(cell.cell.paper)) for cell in table.cells),
        ),
        plots=drawn["plot"],
        seeds=drawn["seeds"],
        curves=drawn["curves"],
        downloads=(
            _download(f"{ready.name}.csv", table_csv(results, table)),
            _download(f"{ready.name}.tex", latex(ready)),
        ),
    )


def _download(name: str, text: str) -> Download:
    kind = "text/csv" if name.endswith(".csv") else "text/plain"
    return Download(name=name, data=f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}")


def _trial_grid(results: Results) -> Grid:
    """Every config with the number of each seed, or where that trial stands."""
    rows = [
        (
            cell.config.name,
            *(trial_text(cell.config, seed, results.metric) for seed in results.seeds),
            cell.cell.config_id,
        )
        for cell in results.distinct
    ]
    return Grid(headings=("config", *(f"seed {seed}" for seed in results.seeds), "config id"), rows=tuple(rows))


def _class_grid(results: Results, network: str) -> Grid:
    """Mean IoU of each class, a row a config."""
    classes = next((config.classes for config in results.configs.values() if config.classes), ())
    rows = []
    for config in results.configs.values():
        means = [summary(config.finals(f"{network}/iou/{name}").values()).mean for name in classes]
        overall = summary(config.finals(f"{network}/miou").values()).mean
        if any(mean is not None for mean in means):
            rows.append((config.name, *(number(mean) for mean in (*means, overall))))
    return Grid(headings=("config", *classes, metric_name(f"{network}/miou")), rows=tuple(rows))
