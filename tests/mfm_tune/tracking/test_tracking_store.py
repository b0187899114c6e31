"""Whatever the store does, MLflow ends with exactly the ledger's rows: none missing, none twice."""

from __future__ import annotations

import errno
import itertools
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mfm_tune import sync
from mfm_tune.ledger.records import trial_key
from mfm_tune.tracking import process as tracking_process
from mfm_tune.tracking.mirror import Target, caught_up, ledger_identity
from mfm_tune.tracking.process import Mirroring
from mfm_tune.tracking.reader import BrokenLedgerError
from mfm_tune.tracking.runs import trial_run_key
from mfm_tune.tracking.views import TAG, ViewKind, table_view
from tests.mfm_tune.tracking.tracking_ledger import (
    BENCHMARK,
    DACS,
    DATA,
    DEFAULT,
    FINGERPRINT,
    Fiction,
    expected,
    forget_marks,
    retrained,
    rows,
    stored,
    tags_of,
    write,
)
from tests.mfm_tune.tracking.tracking_places import storage_with

pytestmark = pytest.mark.usefixtures("environment_of_mirrors")
DACS_0 = trial_key(DACS, 0, FINGERPRINT)


@pytest.fixture
def storage(empty_database: Path, tmp_path: Path) -> Path:
    """A storage folder with a ledger and an empty MLflow database."""
    folder = storage_with(empty_database, tmp_path / "storage")
    write(folder, Fiction(seeds=2, reports=2, outcomes={(DACS, 1): "failed", (DEFAULT, 1): "oom"}).events())
    return folder


def run_id(storage: Path, key: str) -> str:
    """The MLflow run of a trial."""
    query = "SELECT run_uuid FROM tags WHERE key = 'mfm.key' AND value = ?"
    ((found,),) = rows(storage / "mlflow.db", query, trial_run_key(key))
    return str(found)


def active(storage: Path, kind: str) -> int:
    """How many active runs of a kind there are."""
    query = """SELECT count(*) FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid
        WHERE t.key = 'mfm.kind' AND t.value = ? AND r.lifecycle_stage = 'active'"""
    ((count,),) = rows(storage / "mlflow.db", query, kind)
    return int(count)


def is_exact(storage: Path) -> bool:
    """Whether MLflow has the ledger's rows, and one run a trial, cell and study."""
    counts = [active(storage, kind) for kind in ("trial", "cell", "study")]
    return stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl") and counts == [8, 4, 1]


def test_everything_is_mirrored(storage: Path) -> None:
    """Runs with rows, tags, params, status, times; the config and the confusion matrix as artefacts."""
    Mirroring(Target(storage)).catch_up()
    assert is_exact(storage)
    database = storage / "mlflow.db"
    states = rows(database, "SELECT status, count(*) FROM runs GROUP BY status ORDER BY status")
    assert states == [("FAILED", 2), ("FINISHED", 9), ("RUNNING", 2)]  # open: one cell and its study
    tags = tags_of(database, trial_run_key(DACS_0))
    assert tags["mfm.step"] == "20/20"
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "confusion/student.json", "type": "table"}]
    ((uri, start, end),) = rows(
        database, "SELECT artifact_uri, start_time, end_time FROM runs WHERE run_uuid = ?", run_id(storage, DACS_0)
    )
    events = [json.loads(line) for line in (storage / "ledger.jsonl").read_text().splitlines()]
    own = [event["time"] for event in events if event.get("key") == DACS_0]
    assert (start, end) == (own[0], own[-1])
    folder = storage / "artifacts" / uri.removeprefix("mlflow-artifacts:/").lstrip("/")
    assert json.loads((folder / "config.json").read_text())["class"] == "Stub"
    table = json.loads((folder / "confusion/student.json").read_text())
    assert table["data"][0] == ["road", 5, 1, 0]
    query = """SELECT d.name, d.digest, t.value, d.dataset_profile FROM inputs i
        JOIN datasets d ON d.dataset_uuid = i.source_id JOIN input_tags t ON t.input_uuid = i.input_uuid
        WHERE t.name = 'mlflow.data.context' AND i.destination_id = ?"""
    found = rows(database, query, run_id(storage, DACS_0))
    wanted = [(each["name"], each["digest"], each["use"], json.dumps(each["facts"])) for each in DATA]
    assert sorted(found) == sorted(wanted)
    cell = tags_of(database, "cell/fiction/smoke/a/128")
    assert (cell["mfm.dim"], cell["mfm.seeds"], cell["mfm.paper"]) == ("128", "2/2", "50.5")


def test_means_hold_results_of_one_code(empty_database: Path, tmp_path: Path) -> None:
    """Other code, stopped after its first seed: that seed is the mean, and the other cells have none."""
    folder = storage_with(empty_database, tmp_path / "storage")
    write(folder, retrained(declared=True))
    Mirroring(Target(folder)).catch_up()
    before = contents(folder)
    Mirroring(Target(folder), from_start=True).catch_up()
    assert contents(folder) == before
    query = """SELECT t.value, m.key, m.value, m.is_nan FROM latest_metrics m
        JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'mfm.key' WHERE m.key IN ('mean', 'n_seeds', 'std')"""
    latest = {(cell, key): None if nan else value for cell, key, value, nan in rows(folder / "mlflow.db", query)}
    numbers = {cell: [latest[cell, key] for key in ("n_seeds", "mean", "std")] for cell, _ in latest}
    assert numbers.pop("cell/fiction/smoke/b/Baseline") == [1, 90, None]
    assert list(numbers.values()) == [[0, None, None]] * 3
    assert tags_of(folder / "mlflow.db", "cell/fiction/smoke/a/128")["mfm.outcome"] == "not started"


def test_delivering_again_changes_nothing(storage: Path) -> None:
    """Lost marks cost time, not correctness: every table of the store is then as it was."""
    target = Target(storage)
    Mirroring(target).catch_up()
    before = contents(storage)
    forget_marks(storage / "mlflow.db")
    Mirroring(target).catch_up()
    assert contents(storage) == before
    Mirroring(target, from_start=True).catch_up()
    assert contents(storage) == before


def contents(storage: Path) -> dict[str, list[Any]]:
    """What the store holds."""
    tables = (
        "metrics",
        "latest_metrics",
        "params",
        "tags",
        "runs",
        "experiment_tags",
        "datasets",
        "inputs",
        "input_tags",
    )
    return {name: sorted(map(repr, rows(storage / "mlflow.db", f"SELECT * FROM {name}"))) for name in tables}


class Fault(Exception):
    """The process was killed here."""


class Faulty:
    """A client that dies at random, before or after what it was asked for."""

    def __init__(self, client: Any, draws: random.Random) -> None:
        self._client = client
        self._draws = draws

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            fate = self._draws.random()
            if fate < 0.08:
                raise Fault(f"before {name}")
            answer = method(*args, **kwargs)
            if fate > 0.92:
                raise Fault(f"after {name}")
            return answer

        return call


@pytest.mark.slow
def test_dying_at_any_request_loses_and_doubles_nothing(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that ends at random requests, marks lost in some rounds while the ledger grows, ends exact; so do its
    cells."""
    from mfm_tune.tracking import store as tracking_store

    draws = random.Random(7)
    path = storage / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]))
    Mirroring(Target(storage)).catch_up()  # a database with a run is never taken for one half made
    real = tracking_store.MlflowClient
    monkeypatch.setattr(tracking_store, "MlflowClient", lambda **given: Faulty(real(**given), draws))
    target, faults = Target(storage), 0
    for begin in range(6, len(lines), 8):
        with path.open("ab") as file:
            file.write(b"".join(lines[begin : begin + 8]))
        while True:
            try:
                Mirroring(target).catch_up()
                break
            except Fault:
                faults += 1
            if draws.random() < 0.1:
                forget_marks(storage / "mlflow.db")
    assert faults >= 15
    assert is_exact(storage)
    damaged = contents(storage)
    monkeypatch.setattr(tracking_store, "MlflowClient", real)
    Mirroring(target, from_start=True).catch_up()
    assert contents(storage) == damaged


class Slow:
    """A client of a server that takes no more than 60 numbers in time; it stores what timed out all the same."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_batch(self, run: str, metrics: Any = (), **rest: Any) -> None:
        from mlflow.exceptions import MlflowException

        self._client.log_batch(run, metrics, **rest)
        if len(metrics) > 60:
            raise MlflowException("Read timed out.")


@pytest.mark.slow
def test_a_slow_server_gets_everything_in_smaller_pieces(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that time out are made smaller until they are taken; what was stored meanwhile is not there twice."""
    from mfm_tune.tracking import store as tracking_store
    from mfm_tune.tracking.trouble import TroubleError

    write(storage, Fiction(seeds=2, reports=4, metrics=100, benchmark="large").events())
    real = tracking_store.MlflowClient
    monkeypatch.setattr(tracking_store, "MlflowClient", lambda **given: Slow(real(**given)))
    mirroring = Mirroring(Target(storage))
    for _ in (1000, 250, 62):
        with pytest.raises(TroubleError):
            mirroring.catch_up()
    mirroring.catch_up()
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")


class Served:
    """A client of a server, which is a SQLite file here.

    Args:
        database: The file.
        fails: Asked before each request: whether this one gets no answer.

    Attributes:
        files: (run id, path) of the files it was given.
    """

    def __init__(self, database: Path, fails: Callable[[str], bool]) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        self._fails = fails
        self.files: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._ask(name)
            return method(*args, **kwargs)

        return call

    def log_artifact(self, run: str, path: str, folder: str | None) -> None:
        self._ask("log_artifact")
        self.files.append((run, str(Path(folder or "", Path(path).name))))

    def _ask(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        if self._fails(name):
            raise MlflowException(f"http request {name}: Read timed out.")


def served(storage: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> tuple[Mirroring, Served]:
    """A mirror of a storage folder to a server."""
    client = Served(storage / "mlflow.db", fails)
    monkeypatch.setattr("mfm_tune.tracking.store.MlflowClient", lambda **_: client)
    return Mirroring(Target(storage, "http://127.0.0.1:9")), client


def passes(mirroring: Mirroring, most: int) -> int:
    """How many passes it takes to catch up."""
    from mfm_tune.tracking.trouble import TroubleError

    for number in range(1, most + 1):
        try:
            mirroring.catch_up()
        except TroubleError:
            continue
        return number
    raise AssertionError(f"{most} passes were not enough")


def test_a_server_that_misses_one_request_in_seven_gets_everything(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass goes on where the last one ended, so that a batch of many requests is done some time; no file is left out
    for that, and none is sent twice."""
    write(storage, Fiction(seeds=2, reports=4, metrics=100, benchmark="large").events())
    requests = itertools.count(1)
    mirroring, client = served(storage, monkeypatch, lambda _: next(requests) % 7 == 0)
    assert passes(mirroring, 300) > 10
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")
    assert len(client.files) == len(set(client.files)) == 8 * 2  # config and confusion matrix


def test_as_long_as_a_server_takes_something_it_is_asked_again_soon(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits that grow are for a server that takes nothing: neither a mirror nor `sync` gives up on one that does."""
    waits: list[float] = []

    class Clock:
        def monotonic(self) -> float:
            return sum(waits)

        def sleep(self, seconds: float) -> None:
            waits.append(seconds)

    class Gone:
        def is_set(self) -> bool:
            return caught_up(mirroring.target)

        def wait(self, seconds: float) -> None:
            waits.append(seconds)

    write(storage, Fiction(seeds=2, reports=4, metrics=100, benchmark="large").events())
    requests = itertools.count(1)
    mirroring, _ = served(storage, monkeypatch, lambda _: next(requests) % 7 == 0)
    driver = SimpleNamespace(gone=Gone(), is_overdue=lambda _: False)
    assert tracking_process._follow(mirroring.target, driver, mirroring) == 0  # type: ignore[arg-type]
    assert len(waits) > 10
    assert max(waits) == 1.0
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")

    waits.clear()
    forget_marks(storage / "mlflow.db")
    monkeypatch.setattr(sync, "time", Clock())
    assert sync.synchronise(mirroring.target, patience_s=3.0) > 0
    assert sum(waits) > 3.0
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")


def test_files_are_not_left_out_because_the_server_is_down(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that goes away just before a file, and stays away for long, gets it when it comes back."""
    path = storage / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))  # a trial has begun
    down = False

    def fails(name: str) -> bool:
        nonlocal down
        down = down or (name == "log_artifact" and not client.files)
        return down

    mirroring, client = served(storage, monkeypatch, fails)
    with pytest.raises(AssertionError, match="not enough"):
        passes(mirroring, 6)
    monkeypatch.setattr(client, "_fails", lambda _: False)
    mirroring.catch_up()
    assert client.files == [(run_id(storage, DACS_0), "config.json")]


def test_files_wait_for_a_full_disk(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long there is no space: the word is `full`, and every file is there in the end."""
    from mfm_tune.tracking.trouble import TroubleError

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    mirroring = Mirroring(Target(storage))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for _ in range(6):
            with pytest.raises(TroubleError) as caught:
                mirroring.catch_up()
            assert caught.value.word == "full"
    mirroring.catch_up()
    assert len(list(storage.glob("artifacts/*/*/artifacts/config.json"))) == 8


def test_a_server_that_takes_no_files_gets_the_runs(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are tried a few times, and then left out."""
    mirroring, client = served(storage, monkeypatch, lambda name: name == "log_artifact")
    assert passes(mirroring, 40) <= 1 + 3 * 8
    assert client.files == []
    assert is_exact(storage)


def test_a_ledger_that_grows_is_followed(storage: Path) -> None:
    """Lines are delivered as they come, and a trial that goes on is running again until it ends."""
    path = storage / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]))
    mirroring = Mirroring(Target(storage))
    mirroring.catch_up()
    assert tags_of(storage / "mlflow.db", trial_run_key(DACS_0))["mfm.outcome"] == "running"
    for begin in range(6, len(lines), 9):
        with path.open("ab") as file:
            file.write(b"".join(lines[begin : begin + 9]))
        mirroring.catch_up()
    assert is_exact(storage)
    again = json.loads(next(line for line in lines if b'"start"' in line))
    write(storage, [again])
    mirroring.catch_up()
    ((status,),) = rows(storage / "mlflow.db", "SELECT status FROM runs WHERE run_uuid = ?", run_id(storage, DACS_0))
    assert status == "RUNNING"


def test_a_broken_line_that_is_removed_while_a_mirror_runs_costs_no_row(storage: Path) -> None:
    """What stands before the line is delivered, and after its removal all that follows."""
    path = storage / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:20], b"broken\n", *lines[20:]]))
    mirroring = Mirroring(Target(storage))
    with pytest.raises(BrokenLedgerError):
        mirroring.catch_up()
    path.write_bytes(b"".join(lines))
    mirroring.catch_up()
    assert is_exact(storage)


def test_a_cell_loses_the_papers_number_when_its_study_does(storage: Path) -> None:
    """And what its level is said to train."""
    cell, database = "cell/fiction/smoke/a/128", storage / "mlflow.db"
    mirroring = Mirroring(Target(storage))
    mirroring.catch_up()
    assert {"mfm.paper", "mfm.trained"} <= tags_of(database, cell).keys()
    study = Fiction().study()
    for each in study["tables"][0]["cells"]:
        each |= {"paper": None, "trained": None}
    write(storage, [study])
    mirroring.catch_up()
    assert not {"mfm.paper", "mfm.trained"} & tags_of(database, cell).keys()
    assert "mfm.minus DACS" in tags_of(database, cell)


def test_a_run_that_the_user_deleted_stays_deleted(storage: Path) -> None:
    """Neither its rows nor a second run appear, and everything else goes on; also where it happens under way."""
    from mlflow import MlflowClient

    path = storage / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]))
    mirroring = Mirroring(Target(storage))
    mirroring.catch_up()
    MlflowClient(tracking_uri=Target(storage).uri).delete_run(run_id(storage, DACS_0))
    with path.open("ab") as file:
        file.write(b"".join(lines[6:]))
    mirroring.catch_up()
    Mirroring(Target(storage), from_start=True).catch_up()
    wanted = expected(path)
    del wanted[DACS_0]
    assert stored(storage / "mlflow.db") == wanted
    assert active(storage, "trial") == 7


def test_a_run_that_was_made_twice_counts_once(storage: Path) -> None:
    """A request that timed out may have succeeded later: one run is kept, with all rows, and the other put away."""
    from mlflow import MlflowClient

    target = Target(storage)
    Mirroring(target).catch_up()
    client = MlflowClient(tracking_uri=target.uri)
    first = client.get_run(run_id(storage, DACS_0))
    tags = {key: first.data.tags[key] for key in ("mfm.key", "mfm.ledger", "mfm.trial_key", "mfm.kind")}
    for lost in (False, True):
        twin = client.create_run(first.info.experiment_id, tags=tags).info.run_id
        if lost:
            forget_marks(storage / "mlflow.db")
        Mirroring(target).catch_up()
        assert is_exact(storage)
        stages = [client.get_run(each).info.lifecycle_stage for each in (first.info.run_id, twin)]
        assert sorted(stages) == ["active", "deleted"]
        if not lost:
            assert stages[0] == "active"  # the mark shows which one was written to


def test_a_twin_that_the_user_deleted_first_is_left_alone(storage: Path) -> None:
    """A run that was made twice, one of the two deleted by hand: the other one counts, and nothing is in the way."""
    from mlflow import MlflowClient

    target = Target(storage)
    Mirroring(target).catch_up()
    client = MlflowClient(tracking_uri=target.uri)
    first = client.get_run(run_id(storage, DACS_0))
    tags = {key: first.data.tags[key] for key in ("mfm.key", "mfm.ledger", "mfm.trial_key", "mfm.kind")}
    client.delete_run(client.create_run(first.info.experiment_id, tags=tags).info.run_id)
    for lost in (False, True):
        if lost:
            forget_marks(storage / "mlflow.db")
        Mirroring(target).catch_up()
        assert is_exact(storage)


def test_a_view_that_is_refused_keeps_no_row_waiting(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a server that takes shorter tags: the runs and the other views are written."""
    from mfm_tune.tracking import delivery as tracking_delivery

    monkeypatch.setattr(tracking_delivery, "experiment_note", lambda *_, **__: "x" * 100_000)
    Mirroring(Target(storage)).catch_up()
    assert is_exact(storage)
    keys = rows(storage / "mlflow.db", "SELECT key FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState.%'")
    assert (f"{TAG}mfm-failures-{ledger_identity(storage / 'ledger.jsonl')}",) in keys


def test_a_store_that_was_emptied_is_filled_again(storage: Path, empty_database: Path) -> None:
    """A new database has no run that bears a mark, so all is delivered again."""
    Mirroring(Target(storage)).catch_up()
    shutil.copyfile(empty_database, storage / "mlflow.db")
    Mirroring(Target(storage)).catch_up()
    assert is_exact(storage)


@pytest.mark.parametrize("outcome", ["finished", "failed"])
def test_a_cell_that_its_study_drops_is_not_left_running(empty_database: Path, tmp_path: Path, outcome: str) -> None:
    """One that was complete stays finished; one that still ran is killed, at the time of the new declaration."""
    storage, fiction = storage_with(empty_database, tmp_path / "storage"), Fiction(seeds=1, reports=1)
    fiction.outcomes = {(fiction.config_id(256), 0): outcome}
    write(storage, fiction.events())
    Mirroring(Target(storage)).catch_up()
    query = """SELECT r.status, r.end_time FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
        WHERE t.key = 'mfm.key' AND t.value = 'cell/fiction/smoke/a/256'"""
    (before,) = rows(storage / "mlflow.db", query)
    fiction.widths = (128,)
    write(storage, [declared := fiction.study()])
    Mirroring(Target(storage)).catch_up()
    (after,) = rows(storage / "mlflow.db", query)
    assert tags_of(storage / "mlflow.db", "cell/fiction/smoke/a/256")["mfm.kind"] == "former-cell"
    assert before[0] == ("FINISHED" if outcome == "finished" else "RUNNING")
    assert after == (before if outcome == "finished" else ("KILLED", declared["time"]))


def test_a_ledger_that_was_restored_from_a_copy_is_read_again(storage: Path) -> None:
    """An older copy that has grown longer since, by other lines: none of these counts as delivered."""
    path = storage / "ledger.jsonl"
    content = path.read_bytes()
    Mirroring(Target(storage)).catch_up()
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:9]))
    write(storage, [event for event in Fiction(seeds=2, reports=4).events() if event["event"] != "ledger"])
    assert path.stat().st_size > len(content)
    Mirroring(Target(storage)).catch_up()
    there = stored(storage / "mlflow.db")
    assert all(set(numbers) <= set(there[key]) for key, numbers in expected(path).items())


def test_another_ledger_does_not_touch_our_runs(storage: Path, empty_database: Path, tmp_path: Path) -> None:
    """Two storage folders with the same trials, mirrored to one place, keep their runs apart, and their pages: a mean
    over the trials of both would be one of neither. Pages of an earlier version, which showed both, go."""
    from mlflow import MlflowClient

    other = tmp_path / "other"
    write(other, Fiction(seeds=2, reports=2, time=1_700_000_000_000).events())
    shared = f"sqlite:///{storage / 'mlflow.db'}"
    Mirroring(Target(storage)).catch_up()
    client = MlflowClient(tracking_uri=Target(storage).uri)
    (experiment,) = (each for each in client.search_experiments() if each.name == f"{BENCHMARK} (smoke)")
    client.set_experiment_tag(experiment.experiment_id, f"{TAG}mfm-fiction-a-seeds", "{}")
    Mirroring(Target(other, shared)).catch_up()
    assert active(storage, "trial") == 16
    tags = client.get_experiment(experiment.experiment_id).tags
    for ledger in (ledger_identity(each / "ledger.jsonl") for each in (storage, other)):
        seeds = table_view(Fiction().study(), Fiction().study()["tables"][1], ViewKind.SEEDS).of(ledger)
        found = client.search_runs([experiment.experiment_id], seeds.search)
        assert {run.data.tags["mfm.ledger"] for run in found} == {ledger}
        assert f"{TAG}{seeds.key}" in tags
    assert f"{TAG}mfm-fiction-a-seeds" not in tags
    own = "SELECT count(*) FROM tags WHERE key = 'mfm.ledger' AND value = ?"
    counts = [rows(storage / "mlflow.db", own, ledger_identity(each / "ledger.jsonl")) for each in (storage, other)]
    assert counts == [[(13,)], [(13,)]]


def test_a_locked_file_is_waited_for(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program holds the SQLite file: nothing is lost, the word is `locked`, and it goes on afterwards."""
    from mfm_tune.tracking.trouble import TroubleError

    monkeypatch.setattr("mfm_tune.tracking.database.LOCK_S", 0.1)  # the wait for a lock while opening
    holder = sqlite3.connect(storage / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    mirroring = Mirroring(Target(storage))
    with pytest.raises(TroubleError) as caught:
        mirroring.catch_up()
    assert caught.value.word == "locked"
    holder.rollback()
    holder.close()
    mirroring.catch_up()
    assert is_exact(storage)


@pytest.mark.slow
@pytest.mark.parametrize("left", ["empty", "tables", "text"])
def test_a_database_half_made_is_set_aside(storage: Path, left: str) -> None:
    """Killed while a database was first made: the file is kept under another name, and a whole one made."""
    database = storage / "mlflow.db"
    database.unlink()
    if left == "text":
        database.write_text("no database at all, but long enough to be read as one " * 30)
    else:
        with sqlite3.connect(database) as connection:
            if left == "tables":
                connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
                connection.execute("CREATE TABLE runs (run_uuid TEXT)")
        connection.close()
    Mirroring(Target(storage)).catch_up()
    assert is_exact(storage)
    assert len(list(storage.glob("mlflow.db.damaged-*"))) == 1


def test_a_database_whose_writer_was_killed_is_kept(storage: Path) -> None:
    """A journal that is left in the middle of a transaction is rolled back, and the file goes on being used."""
    Mirroring(Target(storage)).catch_up()
    database = storage / "mlflow.db"
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size = 1'); "
        "c.execute('BEGIN'); c.execute('DELETE FROM metrics'); c.execute('DELETE FROM tags'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(database)], check=False)
    assert Path(f"{database}-journal").stat().st_size > 0
    Mirroring(Target(storage)).catch_up()
    assert is_exact(storage)
    assert not list(storage.glob("*.damaged-*"))


def test_a_database_with_runs_is_never_set_aside(storage: Path) -> None:
    """A file that holds runs and cannot be opened stays where it is: it may need an upgrade, and hold notes."""
    from mfm_tune.tracking.trouble import UnusableError

    Mirroring(Target(storage)).catch_up()
    with sqlite3.connect(storage / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'cc1f77228345'")
    connection.close()
    fresh = shutil.copyfile(storage / "mlflow.db", storage / "old.db")  # MLflow checks each file once a process
    with pytest.raises(UnusableError, match=r"Another version of MLflow wrote .*'mlflow db upgrade', or move it away"):
        Mirroring(Target(storage, f"sqlite:///{fresh}")).catch_up()
    assert not list(storage.glob("*.damaged-*"))


def test_the_report_is_an_artefact_of_the_study(storage: Path) -> None:
    """The study's run holds the report, and a newer one replaces it."""
    report = storage / "reports" / "fiction-smoke" / "report.html"
    report.parent.mkdir(parents=True)
    for text in ("first", "second"):
        report.write_text(text)
        Mirroring(Target(storage)).catch_up()
        (copy,) = storage.glob("artifacts/*/*/artifacts/report.html")
        assert copy.read_text() == text


def test_each_run_bears_the_mark_of_its_last_row(storage: Path) -> None:
    """Its number is that of the run's rows, of trials and cells alike, and the whole ledger counts as delivered."""
    Mirroring(Target(storage)).catch_up()
    assert caught_up(Target(storage))
    database = storage / "mlflow.db"
    marks = dict(rows(database, "SELECT run_uuid, value FROM tags WHERE key = 'mfm.delivered'"))
    counts = dict(rows(database, "SELECT run_uuid, count(*) FROM metrics GROUP BY run_uuid"))
    assert {run: int(mark.partition(":")[0]) for run, mark in marks.items()} == counts
    assert run_id(storage, DACS_0) in marks
    assert len(marks) == 8 + 4


def test_a_mirror_that_begins_anew_delivers_what_is_new_alone(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and files that a run has by its marks are not sent again, by whatever mirror they were sent."""
    path = storage / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12]))
    first, client = served(storage, monkeypatch, lambda _: False)
    first.catch_up()
    assert first.rows > 0
    assert client.files
    path.write_bytes(b"".join(lines))
    second, rest = served(storage, monkeypatch, lambda _: False)
    second.catch_up()
    ((count,),) = rows(storage / "mlflow.db", "SELECT count(*) FROM metrics")
    assert first.rows + second.rows == count
    assert not {run for run, name in client.files if name == "config.json"} & {
        run for run, name in rest.files if name == "config.json"
    }
    third, nothing = served(storage, monkeypatch, lambda _: False)
    third.catch_up()
    assert (third.rows, third.taken, nothing.files) == (0, 0, [])
    assert is_exact(storage)
