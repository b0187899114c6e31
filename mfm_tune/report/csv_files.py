"""The numbers as CSV, unrounded: one file a table, one of all trials, one of learning curves, one of each class's IoU.

A cell without a number is empty; decimal points and UTF-8, as spreadsheets and pandas read them. Text that a
spreadsheet would take for a formula has an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from mfm_tune.criteria import digits_of
from mfm_tune.program import Outcome
from mfm_tune.published import paper_text
from mfm_tune.report.grids import networks
from mfm_tune.report.numbers import interval_name, metric_name, outcome_text, trial_text
from mfm_tune.report.pseudo_labels import pseudo_label_metrics
from mfm_tune.report.sentences import caveats
from mfm_tune.report.tables import step_text
from mfm_tune.results.search import SearchResults
from mfm_tune.results.statistics import Paired
from mfm_tune.results.study import OWN, CellResult, Results, TableResult
from mfm_tune.results.trials import environment_of

Value = str | int | float | None
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how texts begin that spreadsheets compute


def table_csv(results: Results, table: TableResult) -> str:
    """A table: a row a cell, with the number of each seed and the ends of each interval."""
    return _csv([_cell_row(results, table, cell) for cell in table.cells])


def trials_csv(results: Results) -> str:
    """All trials of the study that were begun."""
    levels = _levels(results)
    rows: list[dict[str, Value]] = []
    for record in results.records:
        environment = environment_of(record)
        rows.append(
            {
                "key": record.key,
                "config_id": record.config_id,
                "name": results.configs[record.config_id].name,
                "seed": record.seed,
                "outcome": outcome_text(record),
                "step": record.step,
                "planned_steps": record.planned_steps,
                "executed_steps": record.executed_steps,
                "seconds": round(record.seconds, 3),
                "attempts": record.attempts,
                "fingerprint": record.fingerprint,
                "machine": str(environment) if environment else "",
                "error": _last_line(record.error),
                **levels[record.config_id],
                **dict(sorted(record.metrics.items())),
            }
        )
    return _csv(rows)


def curves_csv(results: Results) -> str:
    """Printed metrics and pseudo-labels at each evaluation: a row a trial, metric and step, with its levels."""
    levels = _levels(results)
    metrics = dict.fromkeys(
        (results.metric, *filter(None, [results.second_metric]), *(t.metric for t in results.tables))
    )
    rows: list[dict[str, Value]] = []
    for config, each in results.configs.items():
        for metric in (*metrics, *pseudo_label_metrics(each)):
            for seed, line in each.curve(metric).items():
                named: dict[str, Value] = {"config_id": config, "name": each.name, **levels[config], "seed": seed}
                rows += [{**named, "metric": metric, "step": step, "value": value} for step, value in line]
    return _csv(rows)


def _levels(results: Results) -> Mapping[str, Mapping[str, Value]]:
    """Config id -> the level that it is of each axis, by `level AXIS`; empty where it is none of an axis."""
    axes = dict.fromkeys(f"level {cell.cell.axis}" for cell in results.cells)
    found: dict[str, dict[str, Value]] = {config: dict.fromkeys(axes, "") for config in results.configs}
    for cell in results.cells:
        found[cell.cell.config_id][f"level {cell.cell.axis}"] = cell.cell.level
    return found


def classes_csv(results: Results) -> str:
    """The IoU of each class at the last step: a row a finished trial, network and class."""
    rows: list[dict[str, Value]] = []
    for config, each in results.configs.items():
        for network in networks(results):
            for name in each.classes:
                for seed, value in each.finals(f"{network}/iou/{name}").items():
                    named: dict[str, Value] = {"config_id": config, "name": each.name, "seed": seed}
                    rows.append({**named, "network": network, "class": name, "iou": value})
    return _csv(rows)


def explored_csv(found: SearchResults) -> str:
    """All candidates of a search, stopped ones with their outcome; `at the last step` says whether numbers compare."""
    rows: list[dict[str, Value]] = []
    for candidate in found.candidates:
        record = candidate.record
        rows.append(
            {
                "trial": candidate.number,
                **{name: candidate.values[name] for name in found.search.parameters},
                "outcome": outcome_text(record),
                "at the last step": "yes" if candidate.outcome is Outcome.FINISHED else "no",
                "step": record.step if record else 0,
                "planned_steps": record.planned_steps if record else None,
                "seed": candidate.seed,
                "config_id": candidate.config_id,
                "key": candidate.key,
                "seconds": round(record.seconds, 3) if record else None,
                "error": _last_line(record.error if record else ""),
                **(dict(sorted(record.metrics.items())) if record else {}),
            }
        )
    return _csv(rows)


def _last_line(text: str) -> str:
    """The last line as it was written, or nothing."""
    return next(reversed(text.strip().splitlines()), "")


def _cell_row(results: Results, table: TableResult, cell: CellResult) -> dict[str, Value]:
    row: dict[str, Value] = {
        "axis": cell.cell.axis,
        "level": cell.cell.level,
        "trained": cell.cell.trained,
        "config_id": cell.cell.config_id,
        "metric": table.metric,
        "mean": cell.summary.mean,
        "std": cell.summary.std,
        "n": cell.summary.n,
        "paper": paper_text(cell.cell.paper, digits_of(table.metric)),
    }
    for seed in results.seeds:
        absent = seed in cell.config.trials and seed not in cell.values
        row[f"seed {seed}"] = cell.values.get(seed)
        row[f"standing {seed}"] = trial_text(cell.config, seed, table.metric) if absent else ""
    for (key, heading), column in zip(table.table.columns, cell.columns, strict=True):
        row |= {f"{heading} mean": column.mean, f"{heading} std": column.std, f"{heading} key": key}
    compared = {
        "own reference" if baseline is OWN else baseline.name: comparison
        for baseline, comparison in zip(table.baselines, cell.comparisons, strict=True)
    }
    if OWN in table.baselines:
        (own,) = cell.comparisons
        row["own reference"] = own.baseline.name if own else ""
    for name, comparison in compared.items():
        row |= _difference(f"minus {name}", comparison.paired if comparison else None)
        if results.two_stage:
            row[f"minus {name} interval"] = interval_name(comparison.paired) if comparison else ""
        row[f"minus {name} paper"] = comparison.paper if comparison else None
    if results.second_metric is not None:
        second = metric_name(results.second_metric)
        row |= {f"{second} mean": cell.second.mean, f"{second} std": cell.second.std, f"{second} n": cell.second.n}
        for name, comparison in compared.items():
            row |= _difference(f"{second} minus {name}", comparison.second if comparison else None)
    if table.shows_cost:
        row |= {"step ms": step_text(cell.config.step_ms), "peak MiB": cell.config.peak_mib}
    return row | {"notes": "; ".join(caveats(results, cell))}


def _difference(name: str, paired: Paired | None) -> dict[str, Value]:
    parts: dict[str, Value] = dict.fromkeys(("mean", "low", "high", "visible from", "n"))
    if paired is not None:
        numbers = (paired.mean, paired.low, paired.high, paired.smallest_visible, paired.n)
        parts = dict(zip(parts, numbers, strict=True))
    return {f"{name} {part}": value for part, value in parts.items()}


def _csv(rows: Iterable[Mapping[str, Value]]) -> str:
    listed = [{_as_text(name): _as_text(value) for name, value in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in listed for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return file.getvalue()


def _as_text(value: Value) -> Value:
    """The value, unless it is a text that a spreadsheet would compute; a text that is a number stays one."""
    if not isinstance(value, str) or not value.startswith(FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
