"""Saved views of MLflow's UI, as data: what is filtered, grouped, drawn. Imports no MLflow.

A saved view is an experiment's tag `mlflow.sharedViewState.<key>`, in a form that is MLflow's own and not documented.
It was tried with the versions in `TRIED`, and is written where one of them shows the runs. Links that filter are there
for every version. Keys begin with `mfm-`; other people's views are never touched.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from mfm_tune.ledger.cells import declared_cells
from mfm_tune.ledger.schema import Event
from mfm_tune.program import COVERAGE, PRECISION, Outcome
from mfm_tune.tracking.params import axis_param, clean_key
from mfm_tune.tracking.pictures import MONTAGE
from mfm_tune.tracking.runs import Kind, table_tag

TAG = "mlflow.sharedViewState."
TRIED = ((3, 17),)  # (major, minor) of MLflow
MOST_RUNS = 30  # drawn in one chart
MOST_PICTURES = 24
MOST_BY_CLASS = 300  # charts; MLflow takes 20,000 characters a view
LONGEST_NOTE = 19_000  # characters; MLflow takes 20,000
NAMES = uuid.UUID("0f2b2f3c-54c0-5d64-8a6e-6d666d766965")

SECTION = {
    "uuid": "main",
    "name": "Main",
    "display": True,
    "isReordered": True,
    "deleted": False,
    "isGenerated": False,
    "columns": 2,
    "cardHeight": 480,  # pixels
}
BY_CLASS = {**SECTION, "uuid": "by-class", "name": "Pseudo-labels by class", "cardHeight": 300}
UNFILTERED = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "runsHiddenMode": "SHOW_ALL",
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "isAccordionReordered": True,
}

Chart = Mapping[str, Any]


class ViewKind(Enum):
    """What a table's view shows."""

    CELLS = "cells"
    SEEDS = "seeds"
    CURVES = "curves"


@dataclass(frozen=True, kw_only=True)
class View:
    """A page of the UI.

    Args:
        key: Stable and unique in an experiment.
        name: In the UI's menu.
        search: MLflow's filter.
        columns: Such as ``metrics.`mean` ``.
        order: A column to sort by; by the start's time, the pages would add the runs above those that are found.
        rising: Whether the least comes first.
        group: A tag whose values group the runs.
        charts: In MLflow's form.
        as_charts: Whether the page opens on its charts.
        layout: How many `columns` of charts there are, and their `cardHeight` in pixels, where it differs.
    """

    key: str
    name: str
    search: str
    order: str
    columns: tuple[str, ...] = ()
    rising: bool = True
    group: str | None = None
    charts: tuple[Chart, ...] = field(default=(), hash=False)
    as_charts: bool = False
    layout: Mapping[str, int] = field(default_factory=dict, hash=False)

    def of(self, ledger: str) -> View:
        """The same of one ledger's runs alone: several may be mirrored to one server."""
        return replace(self, key=f"{self.key}-{ledger}", search=f"{self.search} AND tags.`mfm.ledger` = '{ledger}'")

    def tag(self, time: int) -> tuple[str, str]:
        """The experiment's tag that saves the view. `time`, in milliseconds, is when it was last changed."""
        state = {
            "searchFilter": self.search,
            "orderByKey": self.order,
            "orderByAsc": self.rising,
            "selectedColumns": list(self.columns),
            "groupBy": self._group(),
            "compareRunSections": self._sections(),
            "compareRunCharts": [self._chart(number, chart) for number, chart in enumerate(self.charts)],
            "chartsSearchFilter": self._only_own_charts(),
            **UNFILTERED,
        }
        packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
        content = {"name": self.name, "createdAt": time, "updatedAt": time, "state": f"deflate;{packed}"}
        return f"{TAG}{self.key}", json.dumps(content)

    def link(self, experiment: str, *, saved: bool) -> str:
        """The part of the address after the host that opens the saved view, or the same filter without one."""
        plain = {"searchFilter": self.search, "orderByKey": self.order, "orderByAsc": str(self.rising).lower()}
        query = {"viewStateShareKey": self.key} if saved else plain
        query["workflowType"] = "machine_learning"
        if self.as_charts:
            query["compareRunsMode"] = "CHART"
        return f"/#/experiments/{experiment}/runs?{urlencode(query, quote_via=quote)}"

    def _sections(self) -> list[dict[str, Any]]:
        by_class = any(chart.get("metricSectionId") == BY_CLASS["uuid"] for chart in self.charts)
        return [{**SECTION, **self.layout}, *([BY_CLASS] if by_class else [])]

    def _group(self) -> dict[str, Any] | None:
        if self.group is None:
            return None
        return {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": self.group}]}

    def _only_own_charts(self) -> str:
        """A search in the charts that leaves out the one that the UI would add for each metric there is."""
        keys = [key for chart in self.charts for key in (chart.get("metricKey"), *chart.get("imageKeys", ())) if key]
        return f"^({'|'.join(map(re.escape, keys))})$" if keys else ""

    def _chart(self, number: int, chart: Chart) -> dict[str, Any]:
        name = str(uuid.uuid5(NAMES, f"{self.key}/{number}"))
        place = {"metricSectionId": SECTION["uuid"], "deleted": False, "isGenerated": False}
        return {"uuid": name, **place, "runsCountToCompare": MOST_RUNS, **chart}


def reads_views(version: str) -> bool:
    """Whether a version of MLflow reads the saved views in the form that they are written in."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found.group(1)), int(found.group(2))) in TRIED


def table_view(study: Event, table: Mapping[str, Any], kind: ViewKind, pseudo_labels: Collection[str] = ()) -> View:
    """A view of one of a study's tables; its curves are followed by those of these metrics of pseudo-labels."""
    name = study["study"]
    metrics = [clean_key(each) for each in dict.fromkeys(filter(None, (table["metric"], study.get("second_metric"))))]
    tag = table_tag(name, table["name"])
    trials = f"tags.`mfm.kind` = '{Kind.TRIAL.value}' AND tags.`{tag}` IS NOT NULL"
    view = partial(View, key=f"mfm-{name}-{table['name']}-{kind.value}", name=f"{name} {table['title']}: {kind.value}")
    match kind:
        case ViewKind.CELLS:
            return view(
                search=f"tags.`mfm.kind` = '{Kind.CELL.value}' AND tags.`mfm.study` = '{name}' "
                f"AND tags.`mfm.table` = '{table['name']}'",
                columns=_cell_columns(study, axis_param(table["axis"])),
                order="tags.`mfm.order`",
                charts=(_bar("mean"), _bar("std"), _parallel(axis_param(table["axis"]), "mean")),
            )
        case ViewKind.SEEDS:
            finals = [clean_key(f"final/{metric}") for metric in metrics]
            return view(
                search=f"{trials} AND tags.`mfm.outcome` = 'finished'",
                columns=("tags.`mfm.seed`", *(f"metrics.`{final}`" for final in finals)),
                order=f"tags.`{tag}`",
                group=tag,
                charts=tuple(map(_bar, finals)),
            )
        case ViewKind.CURVES:
            return view(
                search=f"{trials} AND {_not_ended_early()}",
                columns=("tags.`mfm.seed`", "tags.`mfm.outcome`", f"metrics.`{metrics[0]}`"),
                order=f"tags.`{tag}`",
                group=tag,
                charts=(*map(_line, metrics), *_pseudo_label_lines(pseudo_labels)),
                as_charts=True,
            )


def failures_view() -> View:
    """All trials of an experiment that ended otherwise than finished."""
    return View(
        key="mfm-failures",
        name="failures",
        search=f"tags.`mfm.kind` = '{Kind.TRIAL.value}' AND tags.`mfm.outcome` != 'finished' "
        "AND tags.`mfm.outcome` != 'running'",
        columns=("tags.`mfm.outcome`", "tags.`mfm.step`", "tags.`mfm.seed`", "tags.`mfm.study`"),
        order="tags.`mfm.outcome`",
    )


def pictures_view(pictures: Mapping[str, int]) -> View:
    """Pictures of the trials of an experiment.

    Args:
        pictures: Name -> the newest step that has one. A montage, which has all of them, is shown alone.
    """
    names = [MONTAGE] if MONTAGE in pictures else sorted(pictures)[:MOST_PICTURES]
    return View(
        key="mfm-pictures",
        name="pictures",
        search=f"tags.`mfm.kind` = '{Kind.TRIAL.value}' AND tags.`mlflow.loggedImages` = 'True'",
        columns=("tags.`mfm.seed`", "tags.`mfm.outcome`"),
        order="tags.`mfm.seed`",
        charts=tuple({"type": "IMAGE", "imageKeys": [name], "step": pictures[name]} for name in names),
        as_charts=True,
        layout={"columns": 1, "cardHeight": 900} if names == [MONTAGE] else {},
    )


def views_of(study: Event, tables: Collection[str], pseudo_labels: Collection[str] = ()) -> list[View]:
    """The views of those of a study's tables that are named; `pseudo_labels` are metrics as in `table_view`."""
    named = [table for table in study["tables"] if table["name"] in tables]
    return [table_view(study, table, kind, pseudo_labels) for table in named for kind in ViewKind]


def table_views(
    study: Event, tables: Collection[str], ledger: str, pseudo_labels: Collection[str] = ()
) -> dict[str, str]:
    """The tags that save these views of a ledger's runs."""
    return dict(view.of(ledger).tag(study["time"]) for view in views_of(study, tables, pseudo_labels))


def is_of_every_ledger(tag: str) -> bool:
    """Whether a tag saves a view of an earlier version, which shows the runs of all ledgers together."""
    kinds = ("failures", "pictures", *(kind.value for kind in ViewKind))
    return tag.startswith(f"{TAG}mfm-") and tag.rpartition("-")[2] in kinds


def experiment_views(pictures: Mapping[str, int], studies: Sequence[Event], ledger: str) -> dict[str, str]:
    """The tags that save an experiment's views of a ledger's failures and pictures."""
    time = max((study["time"] for study in studies), default=0)
    views = [failures_view(), *([pictures_view(pictures)] if pictures else [])]
    return dict(view.of(ledger).tag(time) for view in views)


def experiment_note(experiment: str, studies: Sequence[Event], ledger: str, *, saved: bool) -> str:
    """The text above an experiment's runs: links to the saved views of a ledger's tables, or to their filters."""
    lines = ["Mirror of a mfm_tune ledger; the report, not this page, is the authority for mean ± std.", ""]
    left_out = 0
    for study in studies:
        links = [_table_links(experiment, study, table, ledger, saved=saved) for table in study["tables"]]
        block = [f"**{study['title']}**", *links, ""]
        if sum(map(len, (*lines, *block))) > LONGEST_NOTE:
            left_out += len(links)
        else:
            lines += block
    if left_out:
        lines += [f"and {left_out} tables more" + (", which the menu of views has." if saved else "."), ""]
    failures = failures_view().of(ledger).link(experiment, saved=saved)
    return "\n".join([*lines, f"[failures]({failures.removeprefix('/')})"])


def _table_links(experiment: str, study: Event, table: Mapping[str, Any], ledger: str, *, saved: bool) -> str:
    links = (
        f"[{kind.value}]({table_view(study, table, kind).of(ledger).link(experiment, saved=saved).removeprefix('/')})"
        for kind in ViewKind
    )
    return f"- {table['title']}: {', '.join(links)}"


def _cell_columns(study: Event, axis: str) -> tuple[str, ...]:
    """Few enough to be seen at once (the UI sorts them by name); numbers as printed: metrics have all digits."""
    names = [*study["references"], *(["own"] if any(cell.against for cell in declared_cells(study)) else [])]
    tags = (
        "mfm.mean",
        *(f"mfm.{clean_key(f'minus {name}')}" for name in names),
        "mfm.outcome",
        "mfm.paper",
        "mfm.seeds",
    )
    return (f"params.`{axis}`", f"params.`{axis}_trained`", *(f"tags.`{tag}`" for tag in tags))


def _not_ended_early() -> str:
    """Trials that finished or still run: an average of those that a scheduler let live would tell of the scheduler."""
    early = (outcome for outcome in Outcome if outcome is not Outcome.FINISHED)
    return " AND ".join(f"tags.`mfm.outcome` != '{outcome.value}'" for outcome in early)


def _bar(metric: str) -> Chart:
    return {"type": "BAR", "metricKey": metric}


def _parallel(param: str, metric: str) -> Chart:
    return {"type": "PARALLEL", "selectedParams": [param], "selectedMetrics": [metric], "showAllRuns": True}


def _by_class(name: str) -> tuple[str, str]:
    """A metric of pseudo-labels by its class, then itself: coverage and precision of a class stand side by side."""
    return name.removeprefix(COVERAGE).removeprefix(PRECISION), name


def _pseudo_label_lines(names: Collection[str]) -> Iterator[Chart]:
    """Of all classes among the learning curves, of each class in a section of its own, where they are not too many."""
    for name in sorted(names, key=_by_class):
        if name in (PRECISION, COVERAGE):
            yield _line(clean_key(name))
        elif len(names) <= MOST_BY_CLASS:
            yield {**_line(clean_key(name)), "metricSectionId": BY_CLASS["uuid"]}


def _line(metric: str) -> Chart:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "lineSmoothness": 0,
    }
