"""Models that trials were exported as: MLflow's logged models, with the params of their run and their own scores.

An export leaves a note in the storage folder (`mfm_tune.ledger.storage.Export`); the mirror finds it there as it finds
reports. A model is found again by the tag that it is born with. When all of it is there its run gets a mark, by which a
model that somebody deleted stays deleted until it is exported anew.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, RunTag

from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.storage import Export
from mfm_tune.program import SCORED
from mfm_tune.tracking.artifacts import Place
from mfm_tune.tracking.params import clean_key
from mfm_tune.tracking.runs import NOTE, Run
from mfm_tune.tracking.store import MODEL_MARK, Experiment, Handle, TrackingStore
from mfm_tune.tracking.trouble import as_trouble

FORBIDDEN = str.maketrans(dict.fromkeys("/:", "-") | dict.fromkeys(".%\"'", "_"))  # in a model's name


@dataclass(frozen=True, kw_only=True)
class Model:
    """A logged model as it should be.

    Args:
        name: As MLflow allows it.
        scores: Those of the exported network at the step, the finite ones: of a model, MLflow keeps NaN as 0. `time` is
            that of their report.
        scored: What the scores were measured on (`mfm_tune.program.DataSet`); empty where that is not known.
        files: Name -> path.
        loader: The module that reads them, where there is one.
    """

    key: str
    step: int
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    scores: Mapping[str, float]
    time: int
    scored: Mapping[str, Any]
    files: Mapping[str, Path]
    loader: str | None

    @property
    def mark(self) -> str:
        """The tag of the run that has it."""
        return f"{MODEL_MARK}{self.step}"

    def digest(self) -> str:
        """Twelve digits that change when its files are written anew.

        Raises:
            OSError: They are not there any more.
        """
        states = {name: path.stat() for name, path in self.files.items()}
        lines = (f"{name} {state.st_size} {state.st_mtime_ns}\n" for name, state in states.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]

    def metrics(self, run_id: str, model_id: str) -> list[Metric]:
        """Its scores, linked to it; those of the run, which has them already, are the same rows."""
        return [
            Metric(
                clean_key(name),
                value,
                self.time,
                self.step,
                model_id=model_id,
                dataset_name=self.scored.get("name"),
                dataset_digest=self.scored.get("digest"),
                run_id=run_id,
            )
            for name, value in self.scores.items()
        ]


def exported_model(record: TrialRecord, export: Export, run: Run, time: int | None) -> Model:
    """The model that a trial was exported as.

    Args:
        run: Of the trial.
        time: Of the trial's report at the model's step, in milliseconds since the epoch; None where it has none.

    Raises:
        OSError: Its folder cannot be read.
    """
    key = f"model/{record.key}/{export.step}"
    own = {name: text for name, text in run.tags.items() if name.startswith("mfm.") and name != "mfm.step"}
    reported = next((report["metrics"] for report in record.reports if report["step"] == export.step), {})
    return Model(
        key=key,
        step=export.step,
        name=run.tags["mlflow.runName"].translate(FORBIDDEN),
        tags={**own, "mfm.kind": "model", "mfm.key": key, "mfm.exported_to": str(export.model), NOTE: run.tags[NOTE]},
        params={**run.params, "step": str(export.step)},
        scores={name: value for name, value in reported.items() if name.startswith(export.scores) and isfinite(value)},
        time=time or 0,
        scored=next((each for each in record.data if each["use"] == SCORED), {}),
        files={path.name: path for path in sorted(export.model.iterdir()) if path.name in export.files},
        loader=export.loader,
    )


def begin_model(
    store: TrackingStore, experiment: Experiment, run: Handle, model: Model, digest: str
) -> LoggedModel | None:
    """Find or make a model with all but its files. None where it was delivered, and somebody deleted it.

    Raises:
        TroubleError: Try again later.
        RefusedError: MLflow will never take it.
    """
    made = _found(store, experiment, model)
    if made is None and run.tags.get(model.mark) == digest:
        return None
    if made is None:
        with store.writing():
            made = store.client.create_logged_model(
                experiment.id, model.name, run.run_id, tags=dict(model.tags), params=dict(model.params)
            )
    with as_trouble():
        outputs = store.client.get_run(run.run_id).outputs
    if outputs is None or made.model_id not in {each.model_id for each in outputs.model_outputs}:
        with store.writing():
            store.client.log_outputs(run.run_id, [LoggedModelOutput(made.model_id, model.step)])
    if model.scores:
        with store.writing():
            store.client.log_batch(run.run_id, metrics=model.metrics(run.run_id, made.model_id))
    return made


def place_of(made: LoggedModel, run: Handle) -> Place:
    """Where its files go."""
    return Place(run.run_id, made.artifact_location, made.model_id)


def contents(model: Model, made: LoggedModel) -> dict[str, bytes | Path]:
    """Its files, and what tells `mlflow.pyfunc.load_model` what reads them: YAML, of which JSON is a part."""
    if model.loader is None:
        return dict(model.files)
    flavour = {"loader_module": model.loader, "python_version": platform.python_version()}
    described = {
        "model_id": made.model_id,
        "run_id": made.source_run_id,
        "mlflow_version": mlflow.__version__,
        "flavors": {"python_function": flavour},
    }
    return {**model.files, "MLmodel": json.dumps(described, indent=1).encode()}


def finish_model(store: TrackingStore, run: Handle, made: LoggedModel, model: Model, digest: str) -> None:
    """Note that all of a model is there."""
    if made.status is not LoggedModelStatus.READY:
        with store.writing():
            store.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    with store.writing():
        store.client.log_batch(run.run_id, tags=[RunTag(model.mark, digest)])
    run.tags[model.mark] = digest


def _found(store: TrackingStore, experiment: Experiment, model: Model) -> LoggedModel | None:
    """The model of this key. More than one is left by a request that succeeded after all: the others are deleted."""
    search = f"tags.`mfm.key` = '{model.key}' AND tags.`mfm.ledger` = '{store.ledger}'"
    with as_trouble():
        found = store.client.search_logged_models([experiment.id], search)
    in_order = sorted(found, key=lambda each: (each.creation_timestamp, each.model_id))
    for other in in_order[1:]:
        with store.writing():
            store.client.delete_logged_model(other.model_id)
    return in_order[0] if in_order else None
