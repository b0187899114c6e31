"""The storage folder: one driver at a time, and one sentence where it cannot be used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from mfm_tune.errors import StorageBusyError, StorageError
from mfm_tune.ledger.storage import Storage, driver, holder

HOLD = """
import sys, time
from pathlib import Path
from mfm_tune.ledger.storage import Storage, driver
with driver(Storage(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def holding(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds a storage folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_by_host_and_pid_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    """While one process holds the folder another is refused; once it is killed -9, its lock is stale and taken over."""
    other = holding(tmp_path)
    try:
        said = holder(Storage(tmp_path))
        assert said is not None
        with pytest.raises(StorageBusyError, match=f"pid {other.pid} on {said.host}"), driver(Storage(tmp_path)):
            pass
        other.kill()
        other.wait()
        assert holder(Storage(tmp_path)) == said  # it left without a word
        with driver(Storage(tmp_path)):
            mine = holder(Storage(tmp_path))
            assert mine is not None
            assert mine.pid != other.pid
            assert mine.since <= time.time()
        assert holder(Storage(tmp_path)) is None
    finally:
        other.kill()
        other.wait()


def test_a_storage_is_created_with_its_parents(tmp_path: Path) -> None:
    """A new storage needs no preparation."""
    with driver(Storage(tmp_path / "a" / "b")):
        assert (tmp_path / "a" / "b").is_dir()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is less space than a launch needs, nothing is begun."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(StorageError, match="0 MiB of free space, and at least 64 MiB"), driver(Storage(tmp_path)):
        pass


@pytest.mark.parametrize("folder", ["/proc/1/mfm", "/sys/mfm"])
def test_a_read_only_storage_is_one_sentence(folder: str) -> None:
    """Where no folder can be made, the sentence says so and names the remedy."""
    if not Path(folder).parent.is_dir():
        pytest.skip(f"needs {Path(folder).parent}, which only Linux has")
    with (
        pytest.raises(StorageError, match=r"cannot be written: .*; make it writable, or give another --storage"),
        driver(Storage(Path(folder))),
    ):
        pass


def test_a_file_is_no_storage(tmp_path: Path) -> None:
    """A file in the storage's place is named as such."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="is a file, not a folder"), driver(Storage(tmp_path / "runs")):
        pass


@pytest.mark.parametrize(("study", "profile"), [("table2", "x/../../../../ESCAPED"), ("..", "mini"), ("/tmp", "mini")])
def test_no_name_of_a_study_or_profile_leads_out_of_the_storage(tmp_path: Path, study: str, profile: str) -> None:
    """Whoever asks for a report's folder, the mirror with an edited ledger included."""
    assert Storage(tmp_path).report("table2", "mini") == tmp_path / "reports" / "table2-mini"
    with pytest.raises(StorageError, match="must be 1 to 64 letters, digits"):
        Storage(tmp_path).report(study, profile)
