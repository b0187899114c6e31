"""A run as a user starts it, with Ray, mirror and report: what it asks of the network, and its folder moved."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mfm_tune import sync
from mfm_tune.tracking.mirror import quiet_environment
from tests.mfm_tune.stub_space import write_space
from tests.mfm_tune.tracking.tracking_ledger import expected, stored
from tests.mfm_tune.tracking.tracking_places import LOOPBACK, beyond, storage_with, watched


def command(space: Path, storage: Path, *options: str) -> str:
    """What `python -m mfm_tune.run` prints; it must succeed."""
    line = [sys.executable, "-m", "mfm_tune.run", str(space), "--storage", str(storage), *options]
    done = subprocess.run(line, capture_output=True, text=True, env=quiet_environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def own_address() -> str:
    """This machine's address, at which the processes of a local Ray talk to each other."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        with suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # of no machine; nothing is sent
        return str(probe.getsockname()[0])


def delivered(storage: Path) -> None:
    """MLflow has exactly the ledger's rows; what a busy machine's mirror has left over is delivered first."""
    assert sync.main(["--storage", str(storage)]) == 0
    assert stored(storage / "mlflow.db") == expected(storage / "ledger.jsonl")


@pytest.mark.slow
def test_a_run_asks_nothing_of_other_machines_and_its_folder_can_be_moved(empty_database: Path, tmp_path: Path) -> None:
    """Driver, Ray, workers and mirror connect to and look up this machine alone, as every Python process among them
    notes by an audit hook. Then the folder is copied and the old one deleted: report and plan are as they were, and a
    run there goes on, its mirror too."""
    space = write_space(tmp_path, 'STUDY = study("smoke")')
    storage = storage_with(empty_database, tmp_path / "storage")
    log = tmp_path / "watch.log"
    with watched(tmp_path, log):
        command(space, storage, "--seeds", "0,1")
    notes = log.read_text().splitlines()
    assert len({note.split()[0] for note in notes}) > 5  # driver, mirror, and the processes of Ray
    assert beyond(notes, here=()) != set()  # the watch sees connections
    assert beyond(notes, here=(*LOOPBACK, own_address())) == set()
    delivered(storage)

    page = (storage / "reports/spaced-smoke/report.html").read_text()
    moved = shutil.copytree(storage, tmp_path / "elsewhere" / "runs")
    shutil.rmtree(storage)
    assert "0 to do" in command(space, moved, "--plan", "--seeds", "0,1")
    shutil.rmtree(moved / "reports")
    command(space, moved, "--report-only", "--seeds", "0,1")
    assert (moved / "reports/spaced-smoke/report.html").read_text() == page
    assert "4 finished, 2 to do" in command(space, moved, "--inline")
    delivered(moved)
    assert not storage.exists()
