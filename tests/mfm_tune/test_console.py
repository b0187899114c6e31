"""What a command prints on may be anything: real processes whose standard streams encode little, are full or closed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mfm_tune.ledger.state import read_ledger
from mfm_tune.run import REPOSITORY
from tests.mfm_tune.stub_space import write_space

TITLE = "A ± λ − 中文"
GOOD = f"""
from dataclasses import replace
STUDY = replace(study("smoke", seeds=(0, 1)), title={TITLE!r})
"""
FAILING = "STUDY = study('smoke', seeds=(0,), make=lambda v: StubConfig(level=v, fail_at=1 if v == 2 else None))"
WARNING = """
import warnings, sysconfig
theirs = sysconfig.get_paths()["purelib"] + "/some_library/layers.py"
warnings.warn_explicit("spoken by a library", DeprecationWarning, theirs, 7)
warnings.warn_explicit("spoken by a library", UserWarning, theirs, 8)
warnings.warn("spoken by the search space")
"""


def shell(path: Path, *options: str, streams: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell of its own, from the repository, with streams redirected as the shell does it."""
    command = [sys.executable, "-m", "mfm_tune.run", str(path), "--storage", str(path.parent / "runs"), *options]
    return subprocess.run(
        ["sh", "-c", f"{shlex.join(command)} {streams}"],
        cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, encoding="latin-1",
    )  # fmt: skip


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
FULL = pytest.param("> /dev/full", "utf-8", marks=needs_full)
BOTH_FULL = pytest.param("> /dev/full 2>&1", "ascii", marks=needs_full)
CLOSED = [(">&-", "utf-8"), ("2>&-", "utf-8"), (">&- 2>&- <&-", "utf-8")]


@pytest.mark.parametrize(
    ("streams", "encoding"), [("", "ascii"), ("", "latin-1"), ("", "ascii:strict"), *CLOSED, FULL, BOTH_FULL]
)
def test_a_stream_that_takes_little_costs_neither_a_trial_nor_the_exit_code(
    tmp_path: Path, streams: str, encoding: str
) -> None:
    path = write_space(tmp_path, GOOD)
    process = shell(path, "--inline", "--no-tracking", streams=streams, PYTHONIOENCODING=encoding)
    assert (process.returncode, process.stderr) == (0, "")
    assert [each.is_final for each in read_ledger(tmp_path / "runs/ledger.jsonl").trials.values()] == [True] * 4
    page = tmp_path / "runs/reports/spaced-smoke/report.html"
    assert TITLE in page.read_text(encoding="utf-8")
    if not streams:
        assert "+-" in process.stdout or "±" in process.stdout
        assert "?" in shell(path, "--plan", PYTHONIOENCODING=encoding).stdout


@pytest.mark.parametrize("streams", ["", ">&-", pytest.param("> /dev/full", marks=needs_full)])
def test_a_failed_trial_is_told_from_bad_input_whatever_is_printed_on(tmp_path: Path, streams: str) -> None:
    failed = shell(
        write_space(tmp_path, FAILING), "--inline", "--no-tracking", streams=streams, PYTHONIOENCODING="ascii"
    )
    assert failed.returncode == 1
    assert "1 trial failed" in failed.stderr
    assert shell(tmp_path / "none.py", streams=streams).returncode == 2


def test_a_report_that_cannot_be_written_leaves_the_exit_code_to_the_trials(tmp_path: Path) -> None:
    """But where nothing else was asked for, it is what failed."""
    path = write_space(tmp_path, GOOD)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/reports").touch()
    trained = shell(path, "--inline", "--no-tracking")
    assert trained.returncode == 0
    assert "The trials are kept: --report-only writes it from them." in trained.stderr
    assert "Traceback" not in trained.stderr
    assert shell(path, "--report-only").returncode == 2
    (tmp_path / "runs/reports").unlink()
    assert shell(path, "--report-only").returncode == 0


def test_a_file_that_cannot_be_written_costs_that_piece_of_the_report(tmp_path: Path) -> None:
    path = write_space(tmp_path, GOOD)
    folder = tmp_path / "runs/reports/spaced-smoke"
    (folder / "tables/a.csv/in the way").mkdir(parents=True)
    process = shell(path, "--inline", "--no-tracking")
    assert process.returncode == 0
    assert process.stderr.startswith("The report lacks tables/a.csv: IsADirectoryError: ")
    assert "Report, incomplete: " in process.stdout
    assert (folder / "report.html").is_file()
    assert (folder / "tables/a.tex").is_file()
    shutil.rmtree(folder / "tables/a.csv")
    assert shell(path, "--report-only").stderr == ""
    assert (folder / "tables/a.csv").is_file()


def test_what_libraries_warn_of_does_not_stand_between_our_lines(tmp_path: Path) -> None:
    """What the search space itself warns of does, and all of it where more is asked for."""
    path = write_space(tmp_path, WARNING + GOOD)
    quiet = shell(path, "--plan").stderr
    assert "spoken by the search space" in quiet
    assert "spoken by a library" not in quiet
    assert "spoken by a library" in shell(path, "--plan", "--verbose").stderr
    assert "spoken by a library" in shell(path, "--plan", PYTHONWARNINGS="default").stderr


def test_a_home_that_cannot_be_written_to_is_no_matter_of_a_report(tmp_path: Path) -> None:
    """matplotlib, which keeps fonts there, says so in its log, and draws all the same."""
    drawn = shell(write_space(tmp_path, GOOD), "--inline", "--no-tracking", HOME="/proc/1", MPLCONFIGDIR="/proc/1/none")
    assert drawn.returncode == 0, drawn.stderr
    assert "atplotlib" not in drawn.stderr
