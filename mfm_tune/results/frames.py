"""A ledger as pandas frames: trials, the cells of tables, learning curves, configs. Imports pandas.

Which trial counts for a config and seed is the ledger's one rule (`LedgerState.counts`); means and differences are
those of reports: of finished trials that count, paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mfm_tune.ledger.cells import DeclaredCell, declared_cells
from mfm_tune.ledger.records import TrialRecord, status_of
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.standing import seeds_of
from mfm_tune.ledger.state import LedgerState
from mfm_tune.results.differences import cell_difference
from mfm_tune.results.names import names
from mfm_tune.results.statistics import summary

Row = dict[str, Any]

TRIAL_COLUMNS = (
    *("key", "config_id", "name", "study", "profile", "seed", "counts", "status", "step", "planned_steps"),
    *("executed_steps", "seconds", "attempts", "started", "ended", "error", "folder", "fingerprint"),
)
CELL_COLUMNS = (
    *("study", "profile", "table", "title", "axis", "level", "trained", "config_id", "name", "metric", "paper"),
    *("seeds", "n", "mean", "std", "baseline", "difference", "low", "high", "pairs"),
)
CURVE_COLUMNS = ("key", "config_id", "name", "seed", "counts", "step", "metric", "value")
CONFIG_COLUMNS = ("config_id", "name", "labels", "benchmark", "planned_steps", "cost_class", "config")


@dataclass(frozen=True)
class Frames:
    """A ledger's numbers, T trials, N cells, C configs, as tables for a notebook.

    Attributes:
        trials: [T, 18 + metrics] One row a trial, whatever code trained it and however it ended. `counts`: whether it
            is the one that counts for its config and seed. `status` as in reports (`finished`, `stopped early`, ...).
            `seconds` over all attempts; `started` and `ended` in UTC. Then a column for each metric, as
            `student/miou`, with its value at the last step reported, NaN where there is none; that of a metric which is
            called as a column before it is `metric/step`.
        cells: [N, 20] One row for each row of a table, in printing order: `mean`, `std` and `n` of `metric` over its
            `seeds` that finished; `paper` is the paper's number (NaN: none, or OOM); `difference` to
            `baseline` with its 95 % interval `low` to `high` over `pairs` seeds, where `baseline` is the row's own, or
            else the study's first reference.
        curves: [reports x metrics, 8] One row for each number that a trial reported: `step`, `metric`, `value`.
        configs: [C, 7] One row a config: what it is called (`labels`, the first one is `name`), and `config`, its
            canonical form as a nested dict.
    """

    trials: pd.DataFrame
    cells: pd.DataFrame
    curves: pd.DataFrame
    configs: pd.DataFrame


def frames(state: LedgerState) -> Frames:
    """The frames of a ledger; one without trials or studies gives empty frames with the same columns."""
    labels = _labels(state)
    counting = {
        record.key
        for config, seed in dict.fromkeys((record.config_id, record.seed) for record in state.trials.values())
        if (record := state.counts(config, seed)) is not None
    }
    trials = _frame([_trial(record, labels, counting) for record in state.trials.values()], TRIAL_COLUMNS)
    for name in ("started", "ended"):
        trials[name] = pd.to_datetime(trials[name], unit="ms", utc=True)
    curves = [row for record in state.trials.values() for row in _curve(record, labels, counting)]
    return Frames(
        trials=trials,
        cells=_frame([row for study in state.studies.values() for row in _cells(study, state, labels)], CELL_COLUMNS),
        curves=_frame(curves, CURVE_COLUMNS),
        configs=_frame(list(_configs(state, labels)), CONFIG_COLUMNS),
    )


def _frame(rows: list[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    """Rows with these columns first, further ones behind in the order in which they occur."""
    every = dict.fromkeys((*columns, *(name for row in rows for name in row)))
    return pd.DataFrame(rows, columns=list(every))


def _labels(state: LedgerState) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for named in names(state):
        found.setdefault(named.config_id, {})[named.label] = None
    return {config: tuple(labels) for config, labels in found.items()}


def _name(config: str, labels: Mapping[str, tuple[str, ...]]) -> str:
    return labels.get(config, (config,))[0]


def _trial(record: TrialRecord, labels: Mapping[str, tuple[str, ...]], counting: set[str]) -> Row:
    about = (
        *("key", "config_id", "study", "profile", "seed", "step", "planned_steps", "executed_steps", "seconds"),
        *("attempts", "started", "ended", "error", "folder", "fingerprint"),
    )
    return {
        **{name: getattr(record, name) for name in about},
        "name": _name(record.config_id, labels),
        "counts": record.key in counting,
        "status": status_of(record).value,
        **{f"metric/{name}" if name in TRIAL_COLUMNS else name: value for name, value in record.metrics.items()},
    }


def _curve(record: TrialRecord, labels: Mapping[str, tuple[str, ...]], counting: set[str]) -> Iterator[Row]:
    alike: Row = {name: getattr(record, name) for name in ("key", "config_id", "seed")}
    alike |= {"name": _name(record.config_id, labels), "counts": record.key in counting}
    for report in record.reports:
        for metric, value in report["metrics"].items():
            yield {**alike, "step": report["step"], "metric": metric, "value": value}


def _cells(study: Event, state: LedgerState, labels: Mapping[str, tuple[str, ...]]) -> Iterator[Row]:
    titles = {table["name"]: table["title"] for table in study["tables"]}
    first = next(iter(study["references"].values()), None)
    for cell in declared_cells(study):
        about = ("study", "profile", "table", "axis", "level", "trained", "config_id", "metric")
        yield {
            **{name: getattr(cell, name) for name in about},
            "seeds": seeds_of(state, cell, cell.config_id),
            "title": titles[cell.table],
            "name": _name(cell.config_id, labels),
            "paper": cell.paper if isinstance(cell.paper, int | float) else math.nan,
            **_numbers(cell, cell.against or first, state, labels),
        }


def _numbers(
    cell: DeclaredCell, baseline: str | None, state: LedgerState, labels: Mapping[str, tuple[str, ...]]
) -> Row:
    values = state.finals(cell.config_id, seeds_of(state, cell, cell.config_id), cell.metric)
    own = summary(values.values())
    row: Row = {"n": own.n, "mean": _or_nan(own.mean), "std": _or_nan(own.std)}
    if baseline is None or baseline == cell.config_id:
        return {**row, "baseline": None, "difference": math.nan, "low": math.nan, "high": math.nan, "pairs": 0}
    paired = cell_difference(state, cell, baseline)
    ends = {"low": _or_nan(paired.low), "high": _or_nan(paired.high), "pairs": paired.n}
    return {**row, "baseline": _name(baseline, labels), "difference": _or_nan(paired.mean), **ends}


def _configs(state: LedgerState, labels: Mapping[str, tuple[str, ...]]) -> Iterator[Row]:
    for config, record in state.configs.items():
        about = {name: getattr(record, name) for name in ("benchmark", "planned_steps", "cost_class")}
        called = {"name": _name(config, labels), "labels": labels.get(config, ())}
        yield {"config_id": config, **called, **about, "config": dict(record.config)}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
