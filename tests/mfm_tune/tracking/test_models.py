"""Trials that were exported are models in MLflow: one each, with scores and files, however often it is delivered."""

from __future__ import annotations

import json
import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mfm_tune.ledger.records import trial_key
from mfm_tune.ledger.storage import Storage
from mfm_tune.tracking import store as tracking_store
from mfm_tune.tracking.delivery import Delivery
from mfm_tune.tracking.mirror import Target, caught_up, ledger_identity
from mfm_tune.tracking.models import exported_model
from mfm_tune.tracking.process import Mirroring
from mfm_tune.tracking.reader import LedgerReader
from mfm_tune.tracking.runs import trial_run
from tests.mfm_tune.tracking.test_tracking_store import Fault, contents
from tests.mfm_tune.tracking.tracking_ledger import DACS, DATA, DEFAULT, FINGERPRINT, Fiction, forget_marks, rows, write
from tests.mfm_tune.tracking.tracking_places import Shown, export_model, storage_with

pytestmark = pytest.mark.usefixtures("environment_of_mirrors")
DACS_0 = trial_key(DACS, 0, FINGERPRINT)
DEFAULT_0 = trial_key(DEFAULT, 0, FINGERPRINT)
TABLES = ("logged_models", "logged_model_metrics", "logged_model_params", "logged_model_tags", "inputs")


@pytest.fixture
def storage(empty_database: Path, tmp_path: Path) -> Path:
    """A storage folder with four trials, of which DACS was exported."""
    folder = storage_with(empty_database, tmp_path / "storage")
    write(folder, Fiction(seeds=1, reports=2).events())
    export_model(folder, DACS_0, tmp_path / "dacs", step=20)
    (tmp_path / "dacs" / "diary.txt").write_text("what else lies there is nobody's business")
    return folder


def everything(storage: Path) -> dict[str, Any]:
    """What the store holds of runs and models, and the files of models."""
    models = {name: sorted(map(repr, rows(storage / "mlflow.db", f"SELECT * FROM {name}"))) for name in TABLES}
    return {**contents(storage), **models, "files": files(storage)}


def files(storage: Path) -> dict[str, str]:
    """Name -> content of the artefacts of all models."""
    return {path.name: path.read_text() for path in storage.glob("artifacts/*/models/*/artifacts/*")}


def test_an_exported_trial_is_a_model_with_its_scores(storage: Path, tmp_path: Path) -> None:
    """Below its run, ready, with its level, its own scores at its step on the data they are of, and its files."""
    Mirroring(Target(storage)).catch_up()
    ((model, name, status, run),) = rows(
        storage / "mlflow.db", "SELECT model_id, name, status, source_run_id FROM logged_models"
    )
    assert (name, status) == ("DACS-s0", 2)  # ready
    ((key,),) = rows(storage / "mlflow.db", "SELECT value FROM tags WHERE run_uuid = ? AND key = 'mfm.trial_key'", run)
    assert key == DACS_0
    params = dict(rows(storage / "mlflow.db", "SELECT param_key, param_value FROM logged_model_params"))
    assert (params["case"], params["seed"], params["step"]) == ("Baseline", "0", "20")
    scores = rows(
        storage / "mlflow.db", "SELECT metric_name, metric_value, dataset_digest, metric_step FROM logged_model_metrics"
    )
    events = map(json.loads, (storage / "ledger.jsonl").read_text().splitlines())
    last = next(each["metrics"] for each in events if each.get("key") == DACS_0 and each.get("step") == 20)
    of_student = {name for name in last if name.startswith("student/")}
    nowhere = {"student/iou/traffic light"}  # NaN, which MLflow would show as an IoU of 0
    assert {name for name, *_ in scores} == of_student - nowhere  # the teacher's are not the model's
    assert ("student/miou", last["student/miou"], DATA[1]["digest"], 20) in scores
    assert files(storage) == {"config.json": "{}", "model.safetensors": "weights"}
    outputs = rows(
        storage / "mlflow.db", "SELECT source_id, destination_id FROM inputs WHERE source_type = 'RUN_OUTPUT'"
    )
    assert outputs == [(run, model)]

    before = everything(storage)
    Mirroring(Target(storage), from_start=True).catch_up()
    forget_marks(storage / "mlflow.db")
    Mirroring(Target(storage)).catch_up()
    assert everything(storage) == before


def test_a_model_has_the_tags_of_its_run_but_its_step(storage: Path) -> None:
    """That of an axis which is called `steps`, too."""
    reader = LedgerReader(storage / "ledger.jsonl")
    reader.read()
    record, export = reader.state.trials[DACS_0], Storage(storage).export_of(DACS_0)
    assert export is not None
    run = trial_run(reader.state, record, "ledger", ())
    model = exported_model(record, export, replace(run, tags={**run.tags, "mfm.steps": "600"}), None)
    of_run = {name for name in run.tags if name.startswith("mfm.")}
    assert model.tags.keys() >= (of_run | {"mfm.steps"}) - {"mfm.step"}
    assert "mfm.step" not in model.tags


def test_a_model_that_is_exported_again_is_brought_up_to_date(storage: Path, tmp_path: Path) -> None:
    """By its files; at a later step it is another one. What lacks its folder costs nothing else."""
    Mirroring(Target(storage)).catch_up()
    assert caught_up(Target(storage))
    export_model(storage, DACS_0, tmp_path / "dacs", step=20, weights="better weights")
    assert not caught_up(Target(storage))
    Mirroring(Target(storage)).catch_up()
    assert files(storage)["model.safetensors"] == "better weights"
    export_model(storage, DACS_0, tmp_path / "earlier", step=10)
    export_model(storage, DEFAULT_0, tmp_path / "default", step=20)
    export_model(storage, "no trial of this ledger", tmp_path / "other", step=20)
    shutil.rmtree(tmp_path / "default")
    (Storage(storage).exports / "broken.json").write_text("{")
    Mirroring(Target(storage)).catch_up()
    steps = rows(storage / "mlflow.db", "SELECT param_value FROM logged_model_params WHERE param_key = 'step'")
    assert sorted(steps) == [("10",), ("20",)]


def test_what_is_exported_while_models_are_delivered_is_not_taken_for_delivered(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a mirror that ends then leaves it to the next one, which is told by `caught_up` that there is work."""
    mirroring, deliver = Mirroring(Target(storage)), Delivery.deliver_models

    def meanwhile(delivery: Delivery) -> None:
        deliver(delivery)
        export_model(storage, DEFAULT_0, tmp_path / "default", step=20)

    monkeypatch.setattr(Delivery, "deliver_models", meanwhile)
    mirroring.catch_up()
    assert not caught_up(Target(storage))
    monkeypatch.undo()
    mirroring.catch_up()  # too short after that to look at models
    assert not caught_up(Target(storage))
    mirroring.look_at_reports()
    mirroring.catch_up()
    assert caught_up(Target(storage))


def test_a_model_that_the_user_deleted_stays_deleted(storage: Path) -> None:
    """Until it is exported anew."""
    from mlflow import MlflowClient

    Mirroring(Target(storage)).catch_up()
    ((model,),) = rows(storage / "mlflow.db", "SELECT model_id FROM logged_models")
    MlflowClient(tracking_uri=Target(storage).uri).delete_logged_model(model)
    for from_start in (False, True):
        Mirroring(Target(storage), from_start=from_start).catch_up()
        assert rows(storage / "mlflow.db", "SELECT lifecycle_stage FROM logged_models") == [("deleted",)]


@pytest.mark.parametrize(("version", "keeps"), [("3.17.2", True), ("10.0", True), ("2.22.0", False), ("", False)])
def test_models_are_given_to_servers_that_are_known_to_keep_them(
    version: str, keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one of before MLflow 3, or of no known version, each request for models would be trouble for ever."""
    monkeypatch.setattr(tracking_store, "server_version", lambda _: version)
    assert tracking_store.TrackingStore(Target(tmp_path, "http://127.0.0.1:9"), "ledger").keeps_models is keeps


class Dying:
    """A client whose process ends when so many requests were answered."""

    def __init__(self, client: Any, left: int) -> None:
        self._client = client
        self._left = left

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            self._left -= 1
            if not self._left:
                raise Fault(f"after {name}")
            return answer

        return call


def test_dying_after_any_request_makes_one_model(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass ends one request later than the last one, until one comes through."""
    Mirroring(Target(storage)).catch_up()
    whole = files(storage)
    export_model(storage, DEFAULT_0, storage.parent / "default", step=20)
    real, faults = tracking_store.MlflowClient, []
    for left in range(1, 20):
        monkeypatch.setattr(tracking_store, "MlflowClient", lambda left=left, **given: Dying(real(**given), left))
        try:
            Mirroring(Target(storage)).catch_up()
            break
        except Fault as fault:
            faults.append(str(fault))
    assert {"after create_logged_model", "after log_outputs", "after finalize_logged_model"} <= set(faults)
    assert sorted(rows(storage / "mlflow.db", "SELECT name, status FROM logged_models")) == [
        ("DACS-s0", 2),
        ("default-s0", 2),
    ]
    assert files(storage) == whole


def test_a_server_has_the_models_files(shown: Shown, tmp_path: Path) -> None:
    """Those that the storage folder had before it was moved, and those that are sent to it."""
    sent = tmp_path / "sent"
    ledger = write(sent, Fiction(seeds=1, reports=1, widths=(), benchmark="sent").events())
    export_model(sent, DACS_0, tmp_path / "dacs", step=10, weights="weights by HTTP")
    Mirroring(Target(sent, shown.address)).catch_up()
    query = """SELECT m.model_id FROM logged_models m JOIN logged_model_tags t ON t.model_id = m.model_id
        WHERE t.tag_key = 'mfm.ledger' AND t.tag_value = ?"""
    for path, wanted in ((ledger, b"weights by HTTP"), (shown.storage / "ledger.jsonl", b"weights")):
        ((model,),) = rows(shown.database, query, ledger_identity(path))
        address = f"{shown.address}/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files"
        with urllib.request.urlopen(f"{address}?artifact_file_path=model.safetensors") as answer:
            assert answer.read() == wanted
