"""What a trial was trained and scored on, as MLflow's inputs of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

Key = tuple[str, str]  # name and digest, by which MLflow tells data sets apart


def keys_of(inputs: Iterable[DatasetInput]) -> set[Key]:
    """Which data sets these are."""
    return {(each.dataset.name, each.dataset.digest) for each in inputs}


def as_inputs(data: Sequence[Mapping[str, Any]]) -> list[DatasetInput]:
    """Data as the ledger has them (`mfm_tune.program.DataSet`); one with several uses is one input."""
    uses: dict[Key, list[str]] = {}
    for each in data:
        uses.setdefault((each["name"], each["digest"]), []).append(each["use"])
    first = {(each["name"], each["digest"]): each for each in reversed(data)}
    return [_as_input(first[key], ", ".join(of_key)) for key, of_key in uses.items()]


def _as_input(data: Mapping[str, Any], use: str) -> DatasetInput:
    dataset = Dataset(
        name=data["name"],
        digest=data["digest"],
        source_type="local",
        source=json.dumps({"uri": data["origin"]}),
        profile=json.dumps(data["facts"]),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, use)])
