"""The events that a driver writes at the start of a launch."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from mfm_tune.identity import config_id
from mfm_tune.ledger import Event, LedgerState
from mfm_tune.plan import Plan
from mfm_tune.space import Cell, OutOfMemory, Paper, Published, Study, Table

RECORDED_VERSIONS = ("mfm_tune", "torch", "torchvision", "timm", "numpy", "ray", "optuna", "mlflow")


def launch_event(study: Study, launch: str, argv: Sequence[str], slots: int) -> Event:
    """A driver began. `slots` is how many trials run at once, 0 where only the cluster knows."""
    return {
        "event": "launch",
        "launch": launch,
        "study": study.name,
        "profile": study.profile,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "argv": list(argv),
        "versions": _versions(),
        "slots": slots,
    }


def code_events(plan: Plan, state: LedgerState) -> Iterator[Event]:
    """The fingerprints of a plan that the ledger does not have yet."""
    for digest, fingerprint in plan.fingerprints.items():
        if digest not in state.codes:
            yield {"event": "code", "fingerprint": digest, "files": dict(fingerprint.files)}


def study_event(study: Study, state: LedgerState) -> Event | None:
    """What a study declares, or None where the ledger's last word on it says the same."""
    event: Event = {
        "event": "study",
        "study": study.name,
        "profile": study.profile,
        "title": study.title,
        "benchmark": _benchmark(study),
        "metric": study.metric,
        "second_metric": study.second_metric,
        "seeds": list(study.seeds),
        "references": {name: config_id(config) for name, config in study.references.items()},
        "tables": [_table(study, table) for table in study.tables],
    }
    last = state.studies.get((study.name, study.profile))
    return None if last is not None and {**last, "time": 0} == {**event, "time": 0} else event


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
        "paper": _number(cell.paper),
        "config_id": cell.config_id,
        "against": cell.against,
    }


def _number(paper: Paper) -> float | str | None:
    if isinstance(paper, OutOfMemory):
        return paper.value
    return paper.miou if isinstance(paper, Published) else paper


def _benchmark(study: Study) -> str:
    """The benchmark of the study's configs; several are named together."""
    names = dict.fromkeys(study.program.benchmark(cell.config) for cell in study.cells())
    return ", ".join(names)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in RECORDED_VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # training needs neither ray nor mlflow
    return versions
