"""The events that a driver writes; `schema` lists what they may hold. (A selection is built beside its terms.)"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from mfm_tune.criteria import criterion_of
from mfm_tune.identity import canonical
from mfm_tune.ledger.records import Trial
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.stages import FirstStage
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.uri import without_password
from mfm_tune.program import Outcome, Probe, Report
from mfm_tune.published import OOM, paper_number
from mfm_tune.search_space import Choice, Distribution, Float, Integer, Printed, Search
from mfm_tune.space import Cell, Study, Table

RECORDED_VERSIONS = ("mfm_tune", "torch", "torchvision", "timm", "numpy", "ray", "optuna", "mlflow")


def launch_event(declared: Study | Search, launch: str, argv: Sequence[str], slots: int) -> Event:
    """A driver began. `slots` is how many trials run at once, 0 where only the cluster knows."""
    return {
        "event": "launch",
        "launch": launch,
        "study": declared.name,
        "profile": declared.profile,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "argv": [without_password(word) for word in argv],
        "versions": versions_of(RECORDED_VERSIONS),
        "slots": slots,
    }


def code_events(files: Mapping[str, Mapping[str, str]], state: LedgerState) -> Iterator[Event]:
    """The code that the ledger does not have yet.

    Args:
        files: Digest of a fingerprint -> its files, each with its own digest.
    """
    for digest, of_digest in files.items():
        if digest not in state.codes:
            yield {"event": "code", "fingerprint": digest, "files": dict(of_digest)}


def study_event(study: Study, state: LedgerState, fingerprints: Mapping[str, str]) -> Event | None:
    """What a study declares, or None where the ledger's last word on it says the same.

    Args:
        fingerprints: Config id -> fingerprint of the code that trains it. They say which trials count.
    """
    event: Event = {
        "event": "study",
        "study": study.name,
        "profile": study.profile,
        "title": study.title,
        "benchmark": _benchmark(study),
        "metric": study.metric,
        "second_metric": study.second_metric,
        "seeds": list(study.seeds),
        "references": dict(study.reference_ids),
        "tables": [_table(study, table) for table in study.tables],
        "fingerprints": dict(fingerprints),
    }
    return _unless_last(event, state.studies.get((study.name, study.profile)))


def first_stage_event(stages: Sequence[FirstStage]) -> Event:
    """First stages of one study that ended, with one half-width and one largest number of seeds."""
    alike = stages[0]
    return {
        "event": "first_stage",
        "study": alike.name.study,
        "profile": alike.name.profile,
        "metric": alike.name.metric,
        "half_width": alike.half_width,
        "max_seeds": alike.max_seeds,
        "differences": [
            {
                "configs": sorted(each.name.configs),
                "seeds": list(each.seeds),
                "pairs": list(each.pairs),
                "std": each.std,
                "needed": each.needed,
                "keys": sorted(each.keys),
            }
            for each in stages
        ],
    }


def search_event(search: Search, state: LedgerState) -> Event | None:
    """What a search declares, or None where the ledger's last word on it says the same."""
    event: Event = {
        "event": "search",
        "search": search.name,
        "profile": search.profile,
        "title": search.title,
        "parameters": {name: _distribution(distribution) for name, distribution in search.parameters.items()},
        "baselines": dict(search.baseline_ids),
        "criterion": search.criterion.key,
        "larger_is_better": search.criterion.larger_is_better,
        "metric": search.metric,
        "second_metric": search.second_metric,
        "trials": search.trials,
        "explore_seed": search.explore_seed,
        "confirm": search.confirm,
        "seeds": list(search.seeds),
        "sampler": str(search.sampler),
        "scheduler": "none" if search.scheduler is None else str(search.scheduler),
    }
    return _unless_last(event, state.searches.get((search.name, search.profile)))


def larger_is_better(search: Event) -> bool:
    """Whether more is better of the criterion of a search that a ledger declares; earlier versions' leave it open."""
    declared: bool | None = search.get("larger_is_better")
    return criterion_of(search["criterion"]).larger_is_better if declared is None else declared


def proposal_event(
    search: Search, *, number: int, values: Mapping[str, Printed], config: str, key: str, sampler: Mapping[str, Any]
) -> Event:
    """A point of a search, proposed; it is written before its trial begins."""
    return {
        "event": "proposal",
        "search": search.name,
        "profile": search.profile,
        "number": number,
        "values": dict(values),
        "config_id": config,
        "seed": search.explore_seed,
        "key": key,
        "sampler": dict(sampler),
    }


def probe_event(trial: Trial, measured: Probe) -> Event:
    """What was measured of a trial's cost class."""
    return {
        "event": "probe",
        "benchmark": trial.benchmark,
        "cost_class": trial.cost_class,
        "config_id": trial.config_id,
        "fingerprint": trial.fingerprint,
        "planned_steps": trial.planned_steps,
        **measured,
    }


def config_event(trial: Trial) -> Event:
    """The config of a trial in its canonical form."""
    return {
        "event": "config",
        "config_id": trial.config_id,
        "config": canonical(trial.config),
        "benchmark": trial.benchmark,
        "classes": list(trial.classes),
        "planned_steps": trial.planned_steps,
        "cost_class": trial.cost_class,
    }


def start_event(trial: Trial, *, launch: str, attempt: int, study: str, profile: str) -> Event:
    """A trial began or resumed; `attempt` counts from 1 in this launch."""
    return {
        "event": "start",
        "key": trial.key,
        "config_id": trial.config_id,
        "seed": trial.seed,
        "fingerprint": trial.fingerprint,
        "launch": launch,
        "folder": trial.folder,
        "attempt": trial.attempts + attempt,
        "benchmark": trial.benchmark,
        "study": study,
        "profile": profile,
        "data": [dict(each) for each in trial.data],
    }


def report_event(trial: Trial, report: Report) -> Event:
    """A trial finished an evaluation interval."""
    return {
        "event": "report",
        "key": trial.key,
        "step": report["step"],
        "planned_steps": report.get("planned_steps", trial.planned_steps),
        "executed_steps": report.get("executed_steps", report["step"]),
        "metrics": report.get("metrics", {}),
        "confusion": report.get("confusion", {}),
        "pictures": report.get("pictures", {}),
        "machine": report.get("machine", {}),
        **{name: report[name] for name in ("outcome", "notice") if report.get(name)},
    }


def end_event(
    trial: Trial, outcome: Outcome, *, step: int, error: str, wall_s: float, rung: int | None = None
) -> Event:
    """A trial has an outcome; `rung` is that of a trial that was stopped early."""
    event: Event = {
        "event": "end",
        "key": trial.key,
        "outcome": outcome.value,
        "step": step,
        "error": error,
        "wall_s": round(wall_s, 3),
    }
    return {**event, "rung": rung} if outcome is Outcome.STOPPED else event


def _unless_last(event: Event, last: Event | None) -> Event | None:
    return None if last is not None and {**last, "time": 0} == {**event, "time": 0} else event


def _distribution(distribution: Distribution) -> dict[str, Any]:
    match distribution:
        case Choice():
            options = [distribution.printed(option) for option in distribution.options]
            return {"kind": "choice", "options": options}
        case Float(low=low, high=high, log=log):
            return {"kind": "float", "low": low, "high": high, "log": log}
        case Integer(low=low, high=high, step=step, log=log):
            return {"kind": "integer", "low": low, "high": high, "step": step, "log": log}


def _table(study: Study, table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "axis": table.axis.name,
        "metric": table.metric or study.metric,
        "plot": table.plot,
        "cells": [_cell(cell) for cell in study.cells_of(table)],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "level": cell.level,
        "trained": cell.trained,
        "paper": OOM.value if cell.paper is OOM else paper_number(cell.paper),
        "config_id": cell.config_id,
        "against": cell.against,
    }


def _benchmark(study: Study) -> str:
    """The benchmark of the study's configs; several are named together."""
    names = dict.fromkeys(study.program.benchmark(cell.config) for cell in study.cells())
    return ", ".join(names)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The version of Python, and of each package that is installed: training needs neither ray nor mlflow."""
    versions = {"python": platform.python_version()}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
