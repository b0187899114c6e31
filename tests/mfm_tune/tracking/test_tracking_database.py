"""The mirror's SQLite file: made anew where it is damaged, and found whatever the storage folder is called."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from mfm_tune import run, sync, ui
from mfm_tune.ledger.state import read_ledger
from mfm_tune.tracking.database import LONGEST_PATH, damage, set_aside, sqlite_path, sqlite_uri
from mfm_tune.tracking.links import links
from mfm_tune.tracking.mirror import Target, caught_up, ledger_identity, quiet_environment, start_mirror
from mfm_tune.tracking.server import server
from tests.mfm_tune.stub_space import forgotten_after, write_space
from tests.mfm_tune.tracking.tracking_ledger import Fiction, expected, stored, write
from tests.mfm_tune.tracking.tracking_places import asked, storage_with

SECONDS = 120.0


@pytest.fixture
def storage(empty_database: Path, tmp_path: Path) -> Path:
    """A storage folder with a ledger and an empty MLflow database."""
    folder = storage_with(empty_database, tmp_path / "storage")
    write(folder, Fiction(seeds=1, reports=1, widths=(128,)).events())
    return folder


def synchronised(storage: Path) -> subprocess.CompletedProcess[str]:
    """`mfm_tune.sync` as a process of its own: MLflow keeps a file open that a process has once opened."""
    command = [sys.executable, "-m", "mfm_tune.sync", "--storage", str(storage)]
    return subprocess.run(command, capture_output=True, text=True, env=quiet_environment(), check=False)


def with_garbage(database: Path) -> None:
    database.write_bytes(b"garbage" * 5000)


def cut_in_half(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2)


def with_zeros_after_its_header(database: Path) -> None:
    content = database.read_bytes()
    database.write_bytes(content[:100] + bytes(len(content) - 100))


def with_zeros_in_the_middle(database: Path) -> None:
    content = database.read_bytes()
    database.write_bytes(content[:40960] + bytes(8192) + content[49152:])


def turned_into_a_folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


DAMAGES = (with_garbage, cut_in_half, with_zeros_after_its_header, with_zeros_in_the_middle, turned_into_a_folder)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", DAMAGES)
def test_a_damaged_database_is_kept_and_made_anew(
    damaged: Callable[[Path], None], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence says so, and MLflow has the whole ledger afterwards."""
    database = storage / "mlflow.db"
    damaged(database)
    before = database.read_bytes() if database.is_file() else b""
    assert sync.main(["--storage", str(storage)]) == 0
    assert stored(database) == expected(storage / "ledger.jsonl")
    (kept,) = storage.glob("mlflow.db.damaged-*")
    assert (kept.read_bytes() if kept.is_file() else b"") == before
    said = capsys.readouterr().out
    assert "it is a mirror of the ledger and was made anew" in said
    assert kept.name in said


def test_what_sqlite_keeps_beside_a_file_goes_with_it(tmp_path: Path) -> None:
    """Else a journal that stayed behind would be played into the next file of the name."""
    for name in ("mlflow.db", "mlflow.db-journal", "mlflow.db-wal", "other.db"):
        (tmp_path / name).write_text(name)
    kept = set_aside(tmp_path / "mlflow.db")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    parts = {f"{kept.name}{part}": f"mlflow.db{part}" for part in ("", "-journal", "-wal")}
    assert found == {**parts, "other.db": "other.db"}


@pytest.mark.slow
def test_the_run_that_meets_a_damaged_database_says_so(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its mirror makes it anew, though all was delivered to it; so does the next command."""
    assert synchronised(storage).returncode == 0
    cut_in_half(storage / "mlflow.db")
    write(storage, Fiction(seeds=1, reports=1, widths=(256,), time=2_000_000_000_000).events())
    mirror = start_mirror(storage, None)
    mirror.finish(SECONDS)
    assert "is damaged (database disk image is malformed); it is a mirror" in capsys.readouterr().out
    assert caught_up(mirror.target)
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")


@pytest.mark.slow
def test_the_ui_makes_a_damaged_database_anew_before_it_shows_it(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Though all was delivered to it."""
    assert synchronised(storage).returncode == 0
    with_zeros_after_its_header(storage / "mlflow.db")
    with ui._delivering(Target(storage)) as delivery:
        assert delivery is not None
        assert delivery.wait(120) == 0
    assert "was made anew" in capfd.readouterr().out
    assert damage(storage / "mlflow.db") == ""
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")


def test_a_damaged_database_that_is_not_ours_is_left_alone(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold what no ledger of ours has: one sentence with the remedies, at once."""
    database = tmp_path / "everybody's.db"
    database.write_bytes(b"garbage" * 5000)
    assert sync.main(["--storage", str(storage), "--tracking-uri", f"sqlite:///{database}"]) == 2
    assert "is damaged (file is not a database); restore it from a copy, or move it away" in capsys.readouterr().err
    assert database.read_bytes() == b"garbage" * 5000
    assert not list(tmp_path.glob("*.damaged-*"))


# -- names of storage folders ---------------------------------------------------------------------------------------

NAMES = (
    "what?",
    "a#b",
    "50%",
    "a%20b",
    "quoted ' \" `",
    "two\nlines",
    "x" * 200,
    "semi;colon&and=",
    "ünïcode",
    " ~$HOME\\",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_storage_folder_may_have_any_name(empty_database: Path, tmp_path: Path, name: str) -> None:
    """MLflow writes to the file in it, and nothing is put beside it."""
    storage = storage_with(empty_database, tmp_path / name)
    path = write(storage, Fiction(seeds=1, reports=1, widths=(128,)).events())
    assert sync.main(["--storage", str(storage)]) == 0
    assert stored(storage / "mlflow.db") == expected(path)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_storage_folder_may_be_relative_or_a_link(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are the same folder, with the same mirror."""
    storage = storage_with(empty_database, tmp_path / "here" / "storage?")
    path = write(storage, Fiction(seeds=1, reports=1, widths=(128,)).events())
    (tmp_path / "link%20").symlink_to(storage)
    monkeypatch.chdir(tmp_path / "here")
    assert sync.main(["--storage", "storage?"]) == 0
    assert stored(storage / "mlflow.db") == expected(path)
    write(storage, Fiction(seeds=1, reports=1, widths=(256,), time=2_000_000_000_000).events())
    assert sync.main(["--storage", str(tmp_path / "link%20")]) == 0
    assert stored(storage / "mlflow.db") == expected(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["here", "link%20"]
    assert [each.name for each in (tmp_path / "here").iterdir()] == ["storage?"]


@pytest.mark.slow
def test_the_worst_of_names_serves_for_a_run_and_the_ui(tmp_path: Path) -> None:
    """From a database that is made by the run's mirror to a report that the UI's server serves."""
    storage = tmp_path / "runs" / "50%20 ?#'\"\n;&é"
    with forgotten_after(tmp_path):
        space = write_space(tmp_path, 'STUDY = study("smoke", seeds=(0,))')
        assert run.main([str(space), "--storage", str(storage), "--inline"]) == 0
    synchronised(storage)
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")
    assert [each.name for each in (tmp_path / "runs").iterdir()] == [storage.name]
    with server(Target(storage)) as address:
        assert links(read_ledger(storage / "ledger.jsonl"), ledger_identity(storage / "ledger.jsonl"), address)
        query = {"experiment_ids": ["1"], "filter": "tags.`mfm.kind` = 'study'"}
        found = asked(address, "/api/2.0/mlflow/runs/search", query)["runs"]
        listed = asked(address, f"/api/2.0/mlflow/artifacts/list?run_id={found[0]['info']['run_id']}")["files"]
        assert "report.html" in [file["path"] for file in listed]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("/".join(["x" * 200] * 3), "would have a path of [0-9]+ bytes, and at most 470"),
        (os.fsdecode(b"\xff"), "must be UTF-8"),
    ],
)
def test_a_name_that_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    """One sentence with what would do, from all three commands."""
    storage = tmp_path / "at" / name
    with forgotten_after(tmp_path):
        space = write_space(tmp_path, 'STUDY = study("smoke", seeds=(0,))')
        assert run.main([str(space), "--storage", str(storage), "--inline"]) == 2
    assert sync.main(["--storage", str(storage)]) == 2
    assert ui.main(["--storage", str(storage)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(re.search(sentence, line) for line in said)
    assert not (tmp_path / "at").exists()


def test_the_longest_path_that_is_taken_works(empty_database: Path, tmp_path: Path) -> None:
    """SQLite makes a database and its journal there."""
    room = LONGEST_PATH - len(os.fsencode(tmp_path / "mlflow.db"))
    storage = storage_with(empty_database, tmp_path / ("x" * (room // 2)) / ("y" * (room - room // 2 - 2)))
    assert len(os.fsencode(storage / "mlflow.db")) == LONGEST_PATH
    path = write(storage, Fiction(seeds=1, reports=1, widths=(128,)).events())
    assert sync.main(["--storage", str(storage)]) == 0
    assert stored(storage / "mlflow.db") == expected(path)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/b%20c/d%3F.db?timeout=5", "/a/b c/d?.db"),
        ("sqlite+pysqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("postgresql://host/name", None),
    ],
)
def test_the_file_of_a_uri_is_the_one_that_mlflow_takes(uri: str, path: str | None) -> None:
    """As SQLAlchemy reads it: unquoted, and without the parameters."""
    assert sqlite_path(uri) == (None if path is None else Path(path))
    if path is not None:
        assert make_url(uri).database == path
        assert make_url(sqlite_uri(Path(path))).database == path
