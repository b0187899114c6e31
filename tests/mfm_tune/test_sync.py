"""`python -m mfm_tune.sync`: says in one sentence what is wrong, and delivers what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from mfm_tune import sync, ui
from mfm_tune.errors import StorageError
from mfm_tune.tracking.mirror import Target, caught_up
from tests.mfm_tune.tracking.tracking_ledger import BENCHMARK, Fiction, expected, stored, write
from tests.mfm_tune.tracking.tracking_places import answering_server, dead_address, draw_pictures, storage_with


def test_it_delivers_and_says_how_much(
    empty_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time all numbers, the second time none; an experiment that was deleted in MLflow gets none and is named
    until it is restored."""
    from mlflow import MlflowClient

    monkeypatch.setattr(sync, "SIGN_S", 600.0)
    storage = storage_with(empty_database, tmp_path / "storage")
    path = write(storage, Fiction(seeds=1, reports=2, widths=(128,)).events())
    assert sync.main(["--storage", str(storage)]) == 0
    assert stored(storage / "mlflow.db") == expected(path)
    assert sync.main(["--storage", str(storage)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "up to date with the ledger" in first
    assert "(0 numbers delivered now)" in second
    client = MlflowClient(tracking_uri=Target(storage).uri)
    (experiment,) = (each for each in client.search_experiments() if each.name == f"{BENCHMARK} (smoke)")
    client.delete_experiment(experiment.experiment_id)
    write(storage, Fiction(seeds=2, reports=2, widths=(128,)).events())
    assert sync.main(["--storage", str(storage)]) == 0
    assert capsys.readouterr().out.startswith(
        f"Experiments that were deleted in MLflow get nothing: '{BENCHMARK} (smoke)' (id {experiment.experiment_id}); "
    )
    client.restore_experiment(experiment.experiment_id)
    assert sync.main(["--storage", str(storage)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert stored(storage / "mlflow.db") == expected(path)


def test_a_delivery_that_lasts_shows_how_far_it_is(
    empty_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the numbers, then the files of trials; the counts rise to what there is."""
    monkeypatch.setattr(sync, "SIGN_S", 0.001)
    storage = storage_with(empty_database, tmp_path / "storage")
    path = write(storage, Fiction(seeds=1, reports=2, widths=(128,), pictures=True).events())
    draw_pictures(path)
    numbers = sync.synchronise(Target(storage))
    said = capsys.readouterr().out
    counts = [int(count) for count in re.findall(rf"^\d\d:\d\d:\d\d (\d+) of {numbers} numbers delivered$", said, re.M)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] < numbers
    assert re.search(rf" {numbers} of {numbers} numbers delivered, files of [123] of 3 trials$", said, re.M)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "There is no ledger in"),
        (["--tracking-uri", "nowhere"], "--tracking-uri must be the address"),
        (["--tracking-uri", "http://[::1"], "--tracking-uri must be the address"),
        (["--tracking-uri", "http://127.0.0.1:port"], "--tracking-uri must be the address"),
        (["--port", "3"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    """Exit code 2, one line, no traceback."""
    assert sync.main(["--storage", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_a_server_that_is_dead_is_named(tmp_path: Path) -> None:
    """The sentence names the address, and that nothing is lost."""
    write(tmp_path, Fiction(seeds=1).events())
    with pytest.raises(StorageError, match=r"is unreachable .* nothing is lost"):
        sync.synchronise(Target(tmp_path, dead_address()), patience_s=0.0)


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (200, b"{}", "failing"),
        (200, b"[]", "failing"),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}', "refused"),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}', "unreachable"),
        (404, b"", "refused"),
    ],
)
def test_a_server_that_is_no_mlflow_has_taken_nothing(tmp_path: Path, status: int, body: bytes, word: str) -> None:
    """However it answers: one sentence, and nothing counts as delivered."""
    write(tmp_path, Fiction(seeds=1, reports=1, widths=(128,)).events())
    with answering_server(status, body) as address:
        with pytest.raises(StorageError, match=f"is {word} .* nothing is lost"):
            sync.synchronise(Target(tmp_path, address), patience_s=0.0)
        assert not caught_up(Target(tmp_path, address))


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """As where its driver is not installed; the sentence has the reason, and not the password."""
    write(tmp_path, Fiction(seeds=1, reports=1, widths=(128,)).events())
    with pytest.raises(StorageError, match=r"me:\*\*\*@host/name is failing \(NoSuchModuleError: .*nothing is lost"):
        sync.synchronise(Target(tmp_path, "mssql+nodriver://me:secret@host/name"), patience_s=0.0)


def test_a_mirror_at_work_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a run's mirror holds the lock, nothing is delivered a second time beside it."""
    write(tmp_path, Fiction(seeds=1).events())
    monkeypatch.setattr(sync, "LOCK_S", 0.1)
    target = Target(tmp_path)
    target.folder.mkdir()
    with FileLock(target.lock):
        assert sync.main(["--storage", str(tmp_path)]) == 2
    assert "The mirror of a run is at work" in capsys.readouterr().err


@pytest.mark.parametrize("main", [sync.main, ui.main])
def test_a_ledger_of_another_version_is_refused_before_there_is_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int]
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event": "ledger", "version": 99}\n')
    assert main(["--storage", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"The ledger {path} must begin with version")
    assert told.endswith("got 99; use the version of mfm_tune that wrote it, or another --storage.\n")
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_ledger_is_named_by_its_place(tmp_path: Path, empty_database: Path) -> None:
    """What is before the broken line is delivered; the sentence names the byte and the remedy."""
    storage = storage_with(empty_database, tmp_path / "storage")
    path = write(storage, Fiction(seeds=1, reports=1, widths=(128,)).events())
    whole = expected(path)
    with path.open("ab") as file:
        file.write(b"broken\n")
    with pytest.raises(StorageError, match=r"byte \d+ .* Restore the file from a copy"):
        sync.synchronise(Target(storage))
    assert stored(storage / "mlflow.db") == whole
