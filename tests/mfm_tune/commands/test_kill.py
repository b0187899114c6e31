"""Kill -9 of a driver with all its processes at random moments, then the same command: no digit is lost."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.program import Outcome
from mfm_tune.run import REPOSITORY
from tests.mfm_tune.stub_space import write_space

KILLS = 2
STUB = """
STUDY = study("smoke", make=lambda v: StubConfig(steps=12, interval=3, level=v, sleep_s=0.02), seeds=(0, 1))
"""
REAL = '''"""Two configs and two seeds of Table 2 at the smoke scale, longer, with a checkpoint within each block."""
from dataclasses import replace
from mfm_tune.space import Axis, Study, Table
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs, dacs_mfm

SCALE = replace(
    SMOKE,
    schedule=replace(SMOKE.schedule, steps=12),
    evaluation=replace(SMOKE.evaluation, interval=6, checkpoint_interval=3),
)
AXIS = Axis(
    name="case", levels=(("DACS", None), ("MFM", None)), make=lambda v: (dacs if v == "DACS" else dacs_mfm)(SCALE)
)
STUDY = Study(
    name="short", title="Short", profile="smoke", program=Segmentation(), seeds=(0, 1),
    tables=(Table(name="a", title="A", axis=AXIS),),
)
'''
STEPS = 4 * 12
INTERVAL = 3  # steps between checkpoints, in both


def test_kills_of_a_driver_cost_a_checkpoint_interval_and_no_digit(tmp_path: Path) -> None:
    """Stub trials, whose metric is a chain over all steps, inline."""
    path = write_space(tmp_path, STUB)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(path, undisturbed, "--inline")
    check_kills(path, killed, undisturbed, "--inline")


@pytest.fixture(scope="module")
def real_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search space that really trains."""
    path = tmp_path_factory.mktemp("real") / "short_study.py"
    path.write_text(REAL)
    return path


@pytest.fixture(scope="module")
def undisturbed(real_study: Path) -> Path:
    """The storage of a study that nothing disturbed."""
    storage = real_study.parent / "undisturbed"
    finish(real_study, storage, "--inline")
    return storage


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", [["--inline"], []], ids=["inline", "ray"])
def test_kills_of_a_driver_that_really_trains(
    real_study: Path, undisturbed: Path, tmp_path: Path, engine: list[str]
) -> None:
    """Networks, optimiser, teacher and Rebuilder come back bitwise, in this process and in Ray's workers."""
    killed = tmp_path / "killed"
    check_kills(real_study, killed, undisturbed, *engine)
    names = sorted(path.relative_to(killed) for path in killed.rglob("final.safetensors"))
    assert len(names) == 4
    for name in names:
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


def check_kills(path: Path, killed: Path, undisturbed: Path, *engine: str) -> None:
    """Run a study of four trials with kills, and compare every report of every trial with an undisturbed run."""
    in_flight: Counter[str] = Counter()
    draw, third = random.Random(11), (STEPS - 6) // KILLS
    for number in range(KILLS):
        moment = number * third + draw.randrange(2, third)
        in_flight.update(killed_after(moment, path, killed, *engine))
    finish(path, killed, *engine)

    expected, got = state(undisturbed).trials, state(killed).trials
    assert got.keys() == expected.keys()
    assert len(got) == 4
    for key, record in got.items():
        assert record.outcome is Outcome.FINISHED
        assert results(record) == results(expected[key])
        executed, step = counters(killed / record.folder)
        assert step == record.planned_steps
        assert executed <= record.planned_steps + INTERVAL * in_flight[key]
    assert len(state(killed).launches) == KILLS + 1  # every kill left something to do
    assert in_flight  # and one at least hit a trial, not the moment between two
    assert not (killed / "driver.json").exists()


def results(record: TrialRecord) -> list[tuple[int, dict[str, str], object]]:
    """All that a trial reported but for times and memory; numbers in full, NaN equal to itself."""
    return [
        (
            report["step"],
            {
                name: repr(value)
                for name, value in report["metrics"].items()
                if not name.startswith(("time/", "memory/"))
            },
            report["confusion"],
        )
        for report in record.reports
    ]


def command(path: Path, storage: Path, *engine: str) -> list[str]:
    """The command that is given again and again."""
    options = ["--storage", str(storage), "--no-tracking", "--cpus-per-trial", "1"]
    return [sys.executable, "-m", "mfm_tune.run", str(path), *options, *engine]


def finish(path: Path, storage: Path, *engine: str) -> None:
    """Run to the end."""
    done = subprocess.run(command(path, storage, *engine), cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def killed_after(steps: int, path: Path, storage: Path, *engine: str) -> list[str]:
    """Kill a driver and what it started once so many steps of the study are done; returns the trials in flight then."""
    process = subprocess.Popen(
        command(path, storage, *engine), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and steps_done(storage) < steps:
        time.sleep(0.005)
    assert process.poll() is None, "the study ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return [key for key, record in state(storage).trials.items() if record.outcome is None]


def steps_done(storage: Path) -> int:
    """Steps that all trials have reached together, by their own counters."""
    return sum(counters(path.parent)[1] for path in storage.glob("trials/*/*/progress"))


def counters(folder: Path) -> tuple[int, int]:
    """(steps executed ever, current step) of a trial."""
    content = (folder / "progress").read_bytes()
    executed, step = struct.unpack("<qq", content) if len(content) == 16 else (0, 0)
    return executed, step


def state(storage: Path) -> LedgerState:
    """What the ledger says."""
    return read_ledger(storage / "ledger.jsonl")
