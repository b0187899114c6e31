"""What is shown while trials run, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mfm_tune.display.lines import PlainLines
from mfm_tune.display.progress import Progress, cell_text, read_counters
from mfm_tune.display.table import LiveTable
from mfm_tune.execution.recorder import Recorder
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.plan import Choice, Plan, make_plan
from mfm_tune.program import Outcome, Report
from mfm_tune.space import OOM, Axis, Study, Table
from tests.mfm_tune.stub_program import PROGRESS, StubConfig, StubProgram

AXIS = Axis(name="level", levels=((1, 51.2), (2, OOM)), make=lambda value: StubConfig(level=value))
STUDY = Study(
    name="stub",
    title="A stub",
    profile="smoke",
    program=StubProgram(),
    tables=(Table(name="a", title="(a) Level", axis=AXIS),),
)


class Launch:
    """A launch in which a test says what trials do."""

    def __init__(self, storage: Path, **mirror: Any) -> None:
        self.storage = Storage(storage)
        self.state = LedgerState()
        self.plan: Plan = make_plan(STUDY, self.state, TrainingCode(StubProgram().packages), Choice())
        self.progress = Progress(self.plan, self.state, self.storage, 1, **mirror)
        self.keys = [trial.key for trial in self.plan.to_do]

    def recorder(self, display: Any) -> Recorder:
        """Tells a display, through a real ledger."""
        writer = LedgerWriter(self.storage.ledger)
        about = {"launch": "l", "study": "stub", "profile": "smoke"}
        trials = self.plan.to_do
        return Recorder(Ledger(writer, self.state), storage=self.storage.root, trials=trials, display=display, **about)


def report(step: int, miou: float) -> Report:
    """A report of a trial of four steps."""
    return Report(step=step, planned_steps=4, executed_steps=step, metrics={"student/miou": miou})


def test_counters_of_running_trials_are_progress(tmp_path: Path) -> None:
    """Between two reports a trial's own counter says where it is, so that a slow trial does not look dead."""
    launch = Launch(tmp_path)
    told = launch.recorder(launch.progress)
    told.started(launch.keys[0], 1)
    now = launch.progress.snapshot()
    assert (now.ended, now.trials, now.fraction, now.left) == (0, 6, 0.0, None)
    assert now.time_left == "time left unknown"
    counters = launch.storage.trial(launch.plan.to_do[0].folder) / "progress"
    counters.parent.mkdir(parents=True)
    counters.write_bytes(PROGRESS.pack(9, 3))
    now = launch.progress.snapshot()
    assert [(each.name, each.step, each.planned_steps) for each in now.running] == [("level 1, seed 0", 3, 4)]
    assert now.fraction == 3 / 24
    counters.write_bytes(b"torn")
    assert read_counters(counters) is None
    told.reported(launch.keys[0], report(2, 50.0))
    assert launch.progress.snapshot().running[0].step == 2


def test_time_left_is_known_once_something_was_timed(tmp_path: Path) -> None:
    """Five trials as long as the one that ended."""
    launch = Launch(tmp_path)
    told = launch.recorder(launch.progress)
    told.started(launch.keys[0], 1)
    told._since[launch.keys[0]] -= 8.0  # it took eight seconds
    told.reported(launch.keys[0], report(4, 50.0))
    told.ended(launch.keys[0], Outcome.FINISHED)
    now = launch.progress.snapshot()
    assert now.left == pytest.approx(40, abs=1)
    assert now.time_left == "about 40 s left"
    assert now.fraction == pytest.approx(1 / 6)


def test_a_cell_fills_up(tmp_path: Path) -> None:
    """Nothing, under way, one seed of three, mean ± std, and outcomes that are no number."""
    launch = Launch(tmp_path)
    told = launch.recorder(launch.progress)
    first, second = (cell for cell in launch.plan.cells)

    def text() -> str:
        return launch.progress.cell_text(first, "student/miou")

    mine = [trial.key for trial in launch.plan.to_do if trial.config_id == first.config_id]
    assert text() == "·"
    told.started(mine[0], 1)
    assert text() == "…"
    told.reported(mine[0], report(2, 40.0))
    assert text() == "…"  # a number in mid-training is no result
    told.reported(mine[0], report(4, 50.0))
    told.ended(mine[0], Outcome.FINISHED)
    assert text() == "50.0 (1/3)"
    for key, miou in zip(mine[1:], (52.0, 54.0), strict=True):
        told.started(key, 1)
        told.reported(key, report(4, miou))
        told.ended(key, Outcome.FINISHED)
    assert text() == "52.0 ± 2.0"
    other = next(trial.key for trial in launch.plan.to_do if trial.config_id == second.config_id)
    told.started(other, 1)
    told.ended(other, Outcome.OOM, error="Out of memory.")
    assert launch.progress.cell_text(second, "student/miou") == "OOM"


def test_what_a_scheduler_stopped_never_enters_an_average(tmp_path: Path) -> None:
    """Its number is not that of a finished trial."""
    launch = Launch(tmp_path)
    told = launch.recorder(launch.progress)
    cell = launch.plan.cells[0]
    mine = [trial.key for trial in launch.plan.to_do if trial.config_id == cell.config_id]
    for key, outcome in zip(mine, (Outcome.FINISHED, Outcome.STOPPED, Outcome.FAILED), strict=True):
        told.started(key, 1)
        told.reported(key, report(2, 50.0 if outcome is Outcome.FINISHED else 10.0))
        told.ended(key, outcome)
    assert launch.progress.cell_text(cell, "student/miou") == "50.0 (1/3, 1 stopped, 1 failed)"
    assert cell_text({}, "student/miou", 3) == "·"


def run_trials(launch: Launch, told: Recorder) -> None:
    """One trial finishes, one fails, one runs."""
    first, second, third = launch.keys[:3]
    told.started(first, 1)
    told.reported(first, report(4, 50.0))
    told.ended(first, Outcome.FINISHED)
    told.started(second, 1)
    told.ended(second, Outcome.FAILED, error="Traceback\nStubError: failed at step 3\n")
    told.started(third, 1)


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a trial that ends, one when nothing ended for a while, and no control characters."""
    launch = Launch(tmp_path, mirror=lambda: "12 events behind")
    with PlainLines(launch.progress, launch.storage, heartbeat_s=0.05) as display:
        run_trials(launch, launch.recorder(display))
        deadline = time.monotonic() + 10
        said = ""
        while "running:" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().out
    assert re.search(r"^\d\d:\d\d:\d\d 1/6 level 1, seed 0: finished, student/miou 50\.0, after \d+ s; ", said, re.M)
    assert re.search(r"2/6 level 2, seed 0: failed: StubError: failed at step 3 \(all of it in .*error\.txt\)", said)
    assert re.search(r"2/6 trials, 33%; running: level 1, seed 1 0/4; .*; MLflow 12 events behind$", said, re.M)
    assert "\x1b" not in said


def test_on_a_terminal_a_table_fills_up(tmp_path: Path) -> None:
    """Progress, what runs, each table with the paper's numbers; a failure is named above it."""
    terminal = io.StringIO()
    launch = Launch(tmp_path, mirror=lambda: None)
    console = Console(file=terminal, force_terminal=True, width=100, height=40)
    with LiveTable(launch.progress, launch.storage, console) as display:
        run_trials(launch, launch.recorder(display))
        display._live.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"33%\s+2/6 trials\s+(about \d+ s left|time left unknown)", shown)
    assert "level 1, seed 1  step 0/4" in shown
    assert "(a) Level" in shown
    assert re.search(r"1 +50\.0 \(1/3\) +51\.2", shown)
    assert re.search(r"2 +failed +OOM", shown)
    assert "level 2, seed 0: failed: StubError: failed at step 3" in shown
    assert "MLflow" not in shown


def test_a_mirror_in_trouble_disturbs_no_display(tmp_path: Path) -> None:
    """What it says is shown; what it raises is not."""

    def broken() -> str:
        raise OSError("gone")

    assert Launch(tmp_path, mirror=broken).progress.snapshot().mirror == "unknown"
    assert Launch(tmp_path).progress.snapshot().mirror == ""
