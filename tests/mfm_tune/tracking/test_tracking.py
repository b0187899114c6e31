"""The mirror process: it keeps no trial waiting, ends with its driver, and survives kill -9 without losing a row."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from mfm_tune import run, sync
from mfm_tune.commands import session
from mfm_tune.errors import OptionError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.ledger.state import read_ledger
from mfm_tune.program import Outcome, Report
from mfm_tune.tracking.mirror import (
    Mirror,
    Target,
    caught_up,
    ledger_identity,
    quiet_environment,
    start_mirror,
)
from mfm_tune.tracking.server import server
from tests.mfm_tune.stub_launch import launch, stub_trials
from tests.mfm_tune.stub_program import StubConfig
from tests.mfm_tune.stub_space import forgotten_after, write_space
from tests.mfm_tune.tracking.tracking_ledger import Fiction, Number, expected, forget_marks, rows, stored, write
from tests.mfm_tune.tracking.tracking_places import (
    Shown,
    beyond,
    dead_address,
    failing_server,
    hanging_server,
    storage_with,
    watched,
)

SECONDS = 120.0  # more than a busy machine needs; a test that waits so long has failed


def until(mirror: Mirror, word: str) -> None:
    """Wait until the mirror says a word."""
    deadline = time.monotonic() + SECONDS
    while mirror.lag() != word:
        assert time.monotonic() < deadline, f"the mirror says {mirror.lag()!r}, not {word!r}"
        time.sleep(0.05)


# -- the driver's side ----------------------------------------------------------------------------------------------


def test_the_driver_imports_no_mlflow() -> None:
    """Importing all that a driver needs, and starting a mirror, leaves MLflow to the mirror's own process."""
    code = (
        "import sys, mfm_tune.run, mfm_tune.tracking.mirror\n"
        "print('mlflow' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("uri", ["127.0.0.1:5000", "ftp://host/x", "http://", "mlruns", "databricks"])
def test_an_address_that_is_none_is_refused_in_a_sentence(tmp_path: Path, uri: str) -> None:
    """The sentence names the option, what was given, and an address that would do."""
    with pytest.raises(OptionError, match=r"--tracking-uri must be .*; such as http"):
        start_mirror(tmp_path, uri)


def test_telemetry_is_off_unless_the_user_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror's environment turns it off, and a user's own setting stays."""
    assert quiet_environment()["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert quiet_environment()["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_a_mirror_that_cannot_be_started_costs_no_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a process to spare says `stopped`, and the end of the run says how to deliver later."""
    monkeypatch.setattr(subprocess, "Popen", _no_process)
    storage = tmp_path / "a storage"
    write(storage, Fiction(seeds=1, reports=1).events())
    mirror = start_mirror(storage, None)
    assert mirror.lag() == "stopped"
    mirror.finish(1.0)
    assert f"or: python -m mfm_tune.sync --storage '{storage}'\n" in capsys.readouterr().out


def _no_process(*_: object, **__: object) -> None:
    raise OSError(11, "Resource temporarily unavailable")


# -- with a store ---------------------------------------------------------------------------------------------------


def test_a_run_is_mirrored_while_it_goes_on(empty_database: Path, tmp_path: Path) -> None:
    """A launch with its mirror: at the end MLflow has the ledger's rows, and the mirror is gone."""
    storage = storage_with(empty_database, tmp_path / "storage")
    mirror = start_mirror(storage, None)
    launch(storage, stub_trials([StubConfig(level=1), StubConfig(level=2, fail_at=3)], seeds=(0, 1)), inline=True)
    mirror.finish(SECONDS)
    assert caught_up(mirror.target)
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")
    assert mirror.lag() == "stopped"


@pytest.mark.slow
def test_a_mirror_ends_with_a_driver_that_was_killed(empty_database: Path, tmp_path: Path) -> None:
    """Kill -9 of the driver closes the pipe: the mirror delivers what is in the ledger, and ends by itself."""
    storage = storage_with(empty_database, tmp_path / "storage")
    path = write(storage, Fiction(seeds=1, reports=2).events())
    code = (
        "import sys, time, pathlib; from mfm_tune.tracking.mirror import start_mirror; "
        "m = start_mirror(pathlib.Path(sys.argv[1]), None); print(m._process.pid, flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(storage)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    mirror = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + SECONDS
    while _lives(mirror):
        assert time.monotonic() < deadline, "the mirror outlived its driver"
        time.sleep(0.1)
    assert stored(storage / "mlflow.db") == expected(path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"  # nobody may be there to collect it


@pytest.mark.parametrize("server", [dead_address, failing_server, pytest.param(hanging_server, marks=pytest.mark.slow)])
def test_no_trial_waits_for_a_server_in_trouble(
    server: object, empty_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused, answering 500, or never answering: the trials end, one word and one line say so, and all is delivered
    later to a store that works."""
    storage = storage_with(empty_database, tmp_path / "storage")
    with ExitStack() as stack:
        made = server()  # type: ignore[operator]
        address = made if isinstance(made, str) else stack.enter_context(made)
        mirror = start_mirror(storage, address)
        launch(storage, stub_trials([StubConfig(level=1)], seeds=(0, 1)), inline=True)
        assert not caught_up(mirror.target)  # the trials are over, and nothing was delivered
        until(mirror, "unreachable")
        mirror.finish(0.1)
    said = capsys.readouterr().out
    assert f"python -m mfm_tune.sync --storage {storage} --tracking-uri {address}" in said
    assert sync.main(["--storage", str(storage)]) == 0
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")


@pytest.mark.slow
def test_a_server_that_stops_during_a_study_and_starts_later(
    empty_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is stopped in the middle of the third of six trials: the study ends without it, says how to deliver,
    and one `sync` later MLflow has exactly the ledger's rows, and one run a trial, cell and study."""
    storage, place = tmp_path / "storage", Target(storage_with(empty_database, tmp_path / "served"))
    assert place.database is not None
    place.folder.mkdir()
    monkeypatch.setattr(session, "MIRROR_S", 0.1)
    with ExitStack() as serving:
        address = serving.enter_context(server(place))
        stopped = _stop_at(7, serving, place.database, monkeypatch)
        space = write_space(tmp_path, 'STUDY = study("smoke")')
        with forgotten_after(tmp_path):
            assert run.main([str(space), "--storage", str(storage), "--inline", "--tracking-uri", address]) == 0
    ledger, command = storage / "ledger.jsonl", ["--storage", str(storage), "--tracking-uri", address]
    records = read_ledger(ledger).trials.values()
    assert [record.outcome for record in records] == [Outcome.FINISHED] * 6
    assert max(record.ended or 0 for record in records) - stopped[0] < 5000  # less than one request may take
    assert 0 < _how_many(stored(place.database)) < _how_many(expected(ledger))
    assert f"python -m mfm_tune.sync {' '.join(command)}" in capsys.readouterr().out

    with server(place, int(address.rpartition(":")[2])):
        for options in ([], [], ["--from-start"]):
            assert sync.main([*command, *options]) == 0
            assert stored(place.database) == expected(ledger)
            kinds = rows(place.database, "SELECT value, count(*) FROM tags WHERE key = 'mfm.kind' GROUP BY value")
            assert dict(kinds) == {"trial": 6, "cell": 2, "study": 1}


def _stop_at(number: int, serving: ExitStack, database: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stop a server between two reports of a study, when something has been delivered to it; the list then has the
    time at which it was stopped, in milliseconds since the epoch."""
    reported, reports, stopped = Recorder.reported, itertools.count(1), list[int]()

    def stop(recorder: Recorder, key: str, report: Report) -> None:
        reported(recorder, key, report)
        if next(reports) == number:
            deadline = time.monotonic() + SECONDS
            while not stored(database):  # of a trial: those of its cell, above it, may be there first
                assert time.monotonic() < deadline, "the mirror delivered nothing"
                time.sleep(0.05)
            serving.close()
            stopped.append(time.time_ns() // 1_000_000)

    monkeypatch.setattr(Recorder, "reported", stop)
    return stopped


def _how_many(numbers: Mapping[str, list[Number]]) -> int:
    return sum(map(len, numbers.values()))


def _wait_for_a_write(database: Path, since: int) -> None:
    deadline = time.monotonic() + SECONDS
    while database.stat().st_mtime_ns == since:
        assert time.monotonic() < deadline, "the mirror wrote nothing"
        time.sleep(0.005)


def kill_at_random(storage: Path, uri: str | None, database: Path, kills: int, draws: random.Random) -> Path:
    """Write a ledger bit by bit, and kill its mirror at random moments, marks lost in some; then catch up."""
    fiction = Fiction(seeds=2, reports=4, metrics=30)
    events = list(fiction.events())
    size = len(events) // (kills + 1) + 1
    for begin in range(0, len(events), size):
        path = write(storage, events[begin : begin + size])
        since = database.stat().st_mtime_ns
        mirror = start_mirror(storage, uri)
        process = mirror._process
        assert process is not None
        if begin + size >= len(events):
            mirror.finish(SECONDS)
            break
        if draws.random() < 0.7:  # in the middle of its writing; else at any moment of its start
            _wait_for_a_write(database, since)
        time.sleep(draws.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if draws.random() < 0.3:
            forget_marks(database)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kills", [8])
def test_kill_9_on_a_sqlite_file(empty_database: Path, tmp_path: Path, kills: int) -> None:
    """Killed at random moments, marks lost in some: exactly the ledger's rows, one run a trial."""
    storage = storage_with(empty_database, tmp_path / "storage")
    path = kill_at_random(storage, None, storage / "mlflow.db", kills, random.Random(kills))
    assert stored(storage / "mlflow.db") == expected(path)
    assert caught_up(Target(storage))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [8])
def test_kill_9_over_http(shown: Shown, tmp_path: Path, kills: int) -> None:
    """The same through a server."""
    path = kill_at_random(tmp_path, shown.address, shown.database, kills, random.Random(kills))
    assert caught_up(Target(tmp_path, shown.address))
    keys = [
        key for (key,) in rows(
            shown.database,
            "SELECT value FROM tags WHERE key = 'mfm.trial_key' AND run_uuid IN "
            "(SELECT run_uuid FROM tags WHERE key = 'mfm.ledger' AND value = ?)",
            ledger_identity(path),
        )
    ]  # fmt: skip
    assert sorted(keys) == sorted(expected(path))
    assert of_ledger(shown.database, path) == expected(path)


def of_ledger(database: Path, ledger: Path) -> dict[str, list[tuple[str, int, int, float, int]]]:
    """As `stored`, of one ledger's runs alone."""
    query = """
        SELECT t.value, m.key, m.timestamp, m.step, m.value, m.is_nan FROM metrics m
        JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'mfm.trial_key'
        JOIN tags l ON l.run_uuid = m.run_uuid AND l.key = 'mfm.ledger' AND l.value = ?
        WHERE m.key NOT LIKE 'final/%' AND m.key NOT LIKE 'best/%'
    """
    found: dict[str, list[tuple[str, int, int, float, int]]] = {}
    for key, *numbers, is_nan in rows(database, query, ledger_identity(ledger)):
        found.setdefault(key, []).append((*numbers, int(is_nan)))
    return {key: sorted(numbers) for key, numbers in found.items()}


def test_artefacts_go_through_a_server(shown: Shown, tmp_path: Path) -> None:
    """Over HTTP the server keeps config, confusion matrices and pictures."""
    from tests.mfm_tune.tracking.tracking_ledger import DACS
    from tests.mfm_tune.tracking.tracking_places import asked, draw_pictures

    path = write(tmp_path, Fiction(seeds=1, reports=1, widths=(128,), pictures=True).events())
    draw_pictures(path)
    assert sync.main(["--storage", str(tmp_path), "--tracking-uri", shown.address]) == 0
    query = """SELECT k.run_uuid FROM tags k JOIN tags l ON l.run_uuid = k.run_uuid AND l.key = 'mfm.ledger'
        WHERE k.key = 'mfm.key' AND k.value LIKE ? AND l.value = ?"""
    ((run,),) = rows(shown.database, query, f"trial/{DACS}%", ledger_identity(path))
    top = asked(shown.address, f"/api/2.0/mlflow/artifacts/list?run_id={run}")["files"]
    assert sorted(file["path"] for file in top) == ["config.json", "confusion", "images"]
    images = asked(shown.address, f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=images")["files"]
    assert len(images) == 2


def test_nothing_connects_beyond_loopback(shown: Shown, tmp_path: Path) -> None:
    """Delivering by sync and by a mirror, and the UI's server, connect to and look up nothing but this machine.

    Every Python process among them notes its own connections and look-ups by an audit hook of the interpreter.
    """
    log = tmp_path / "watch.log"
    path = write(tmp_path, Fiction(seeds=1, reports=1).events())
    with watched(tmp_path, log):
        mirror = start_mirror(tmp_path, shown.address)
        mirror.finish(SECONDS)
    assert caught_up(mirror.target)
    assert path.exists()
    notes = (*shown.watched, *log.read_text().splitlines())
    assert "connect 127.0.0.1" in beyond(notes, here=())  # the watch sees connections
    assert beyond(notes) == set()
