"""Tracking URIs: their passwords are kept and printed nowhere."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfm_tune import run, sync, ui
from mfm_tune.commands import session
from mfm_tune.commands.options import parse_options
from mfm_tune.errors import OptionError, StorageError
from mfm_tune.ledger.file import encoded, read_events
from mfm_tune.ledger.state import read_ledger
from mfm_tune.ledger.uri import VARIABLE, without_password, without_password_of
from mfm_tune.tracking.links import links
from mfm_tune.tracking.mirror import Target, ledger_identity, start_mirror
from mfm_tune.tracking.server import server_command
from tests.mfm_tune.stub_space import forgotten_after, write_space
from tests.mfm_tune.tracking.tracking_ledger import Fiction, expected, stored, write
from tests.mfm_tune.tracking.tracking_places import Shown, dead_address, storage_with

SECRET = "hunter2/%40secret"
NO_DRIVER = f"mssql+nodriver://me:{SECRET}@host/name"  # a database that cannot be opened here
SECONDS = 120.0


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Path]:
    """A search space of two stub trials."""
    with forgotten_after(tmp_path):
        yield write_space(tmp_path, 'STUDY = study("smoke", seeds=(0,))')


def holding(folder: Path, *secrets: str) -> list[Path]:
    """The files under a folder that hold one of these words."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:se/c@r:et@host/db", "postgresql://me:***@host/db"),
        ("mysql+pymysql://:secret@host/db", "mysql+pymysql://:***@host/db"),
        ("postgresql://host/db?user=me&password=secret&a=b", "postgresql://host/db?user=me&password=***&a=b"),
        ("https://secret@host", "https://***@host"),
        ("--tracking-uri=http://me:secret@host:80/x", "--tracking-uri=http://me:***@host:80/x"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql+psycopg2://user@host/name", "postgresql+psycopg2://user@host/name"),
        ("sqlite:////a:b@c/mlflow.db", "sqlite:////a:b@c/mlflow.db"),
    ],
)
def test_a_uri_is_printed_without_its_password(uri: str, printed: str) -> None:
    """Wherever in it the password stands; what has none stays as it is."""
    assert without_password(uri) == printed


def test_what_a_library_says_is_printed_without_the_password() -> None:
    """Quoted as in the URI, or as it is."""
    assert without_password_of("mysql://me:a%40b@host/db", "no 'a@b' (a%40b)") == "no '***' (***)"
    assert without_password_of(None, "a@b") == "a@b"


def test_a_run_leaves_no_password_in_its_storage(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, mirror's files and what is printed have `***` instead, in both ways to give the option."""
    monkeypatch.setattr(session, "MIRROR_S", 0.1)
    address = dead_address().replace("http://", f"http://me:{SECRET}@".replace("/%", "%"))
    storage = tmp_path / "runs"
    for options in (["--tracking-uri", address], [f"--tracking-uri={address}", "--seeds", "1"]):
        assert run.main([str(space), "--storage", str(storage), "--inline", *options]) == 0
    launches = [event for _, event in read_events(storage / "ledger.jsonl") if event["event"] == "launch"]
    assert ["://me:***@127.0.0.1" in " ".join(launch["argv"]) for launch in launches] == [True, True]
    assert holding(storage, "hunter2") == []
    said = capsys.readouterr()
    assert "--tracking-uri 'http://me:***@127.0.0.1" in said.out
    assert "hunter2" not in said.out + said.err


def test_a_mirror_gets_the_password_unseen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its command line, which every user of the machine can read, has none; nor have its log and state."""
    write(tmp_path, Fiction(seeds=1, reports=1).events())
    mirror = start_mirror(tmp_path, NO_DRIVER)
    assert mirror._process is not None
    assert b"hunter2" not in Path(f"/proc/{mirror._process.pid}/cmdline").read_bytes()
    deadline = time.monotonic() + SECONDS
    while mirror.lag() != "failing":  # it has tried to open that very database
        assert time.monotonic() < deadline, f"the mirror says {mirror.lag()!r}"
        time.sleep(0.05)
    mirror.finish(0.1)
    assert "NoSuchModuleError" in mirror.target.log.read_text()
    assert holding(tmp_path, "hunter2") == []
    assert "me:***@host/name" in capsys.readouterr().out


def test_no_sentence_has_the_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not that of an option that is misspelt, nor of a URI that is none, nor of a store that does not answer."""
    write(tmp_path, Fiction(seeds=1, reports=1).events())
    dead = dead_address().replace("http://", "http://me:hunter2@")
    assert sync.main(["--storage", str(tmp_path), "--tracking-urii", NO_DRIVER]) == 2
    assert run.main(["--tracking-urii", NO_DRIVER]) == 2
    assert ui.main(["--storage", str(tmp_path), "--tracking-uri", dead]) == 2
    for uri in (NO_DRIVER.replace("mssql", "oracle"), "http://me:hunter2@host:port", "http://me:hunter2@host\n"):
        with pytest.raises(OptionError, match=r"must be the address of an MLflow server .*me:\*\*\*@") as caught:
            parse_options(["space.py", "--tracking-uri", uri])
        assert "hunter2" not in str(caught.value)
    with pytest.raises(StorageError, match="NoSuchModuleError") as failed:
        sync.synchronise(Target(tmp_path, NO_DRIVER), patience_s=0.0)
    assert "hunter2" not in f"{failed.value}{capsys.readouterr()}"


def test_the_ui_passes_a_password_on_unseen(shown: Shown) -> None:
    """A server's is sent as a header and left out of the links; a database's is not on the command line."""
    address = shown.address.replace("http://", "http://me:hunter2@")
    ledger = shown.storage / "ledger.jsonl"
    found = links(read_ledger(ledger), ledger_identity(ledger), address)
    assert found
    assert all(link.address.startswith(f"{shown.address}/#/") for link in found)
    assert "hunter2" not in " ".join(server_command(Target(shown.storage, NO_DRIVER), 5000))


def test_a_ledger_with_a_password_says_how_to_clean_it(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As early versions wrote it: each run says a command, which takes the password out and nothing else."""
    storage = tmp_path / "the runs"
    command = [str(space), "--storage", str(storage), "--inline", "--no-tracking"]
    assert run.main(command) == 0
    events = [event for _, event in read_events(storage / "ledger.jsonl")]
    clean = [
        {**event, "argv": ["a.py", "--tracking-uri", "mysql://me:***@host/db", "-v"]} if "argv" in event else event
        for event in events
    ]
    told = b"".join(map(encoded, clean)).replace(b"***", b"hunter2/@x")
    (storage / "ledger.jsonl").write_bytes(told)
    capsys.readouterr()
    assert run.main(command) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if "holds the password" in line)
    subprocess.run(said[said.index("sed ") :], shell=True, check=True)
    assert [event for _, event in read_events(storage / "ledger.jsonl")] == clean
    assert run.main(command) == 0
    assert "holds the password" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_and_sync_go_where_mlflows_variable_says(
    space: Path,
    tmp_path: Path,
    empty_database: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line says so; a URI that is given wins, and so does --no-tracking."""
    named, given = storage_with(empty_database, tmp_path / "named"), storage_with(empty_database, tmp_path / "given")
    monkeypatch.setenv(VARIABLE, f"sqlite:///{named / 'mlflow.db'}")
    storage = tmp_path / "runs"
    command = [str(space), "--storage", str(storage), "--inline"]
    assert run.main([*command, "--no-tracking"]) == 0
    assert VARIABLE not in capsys.readouterr().out
    assert stored(named / "mlflow.db") == {}
    assert sync.main(["--storage", str(storage), "--tracking-uri", f"sqlite:///{given / 'mlflow.db'}"]) == 0
    assert VARIABLE not in capsys.readouterr().out
    assert (stored(given / "mlflow.db"), stored(named / "mlflow.db")) == (expected(storage / "ledger.jsonl"), {})
    assert run.main([*command, "--seeds", "0,1"]) == 0
    assert sync.main(["--storage", str(storage)]) == 0  # what a slow machine did not deliver in time
    assert capsys.readouterr().out.count(f"mlflow.db, as {VARIABLE} says; --tracking-uri wins over it.\n") == 2
    assert stored(named / "mlflow.db") == expected(storage / "ledger.jsonl")
    assert not (storage / "mlflow.db").exists()


def test_a_variable_that_is_no_uri_is_refused_where_it_would_count(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence that names it, before anything is written; not by a plan, nor beside --no-tracking."""
    storage = tmp_path / "runs"
    command = [str(space), "--storage", str(storage), "--inline"]
    monkeypatch.setenv(VARIABLE, "databricks://me:hunter2@profile")
    assert [run.main(command), sync.main(command[1:3]), ui.main(command[1:3])] == [2, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(
        line.startswith(f"{VARIABLE} (unset it, or give --tracking-uri, which wins over it) must") for line in said
    )
    assert "hunter2" not in "".join(said)
    assert not storage.exists()
    assert run.main([*command, "--plan"]) == 0
    monkeypatch.setenv(VARIABLE, "")  # as MLflow has it, that is unset
    assert run.main([*command, "--plan"]) == 0
    monkeypatch.setenv(VARIABLE, "mlruns")
    assert run.main([*command, "--no-tracking"]) == 0
