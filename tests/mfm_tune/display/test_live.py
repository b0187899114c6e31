"""What is shown while trials run, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mfm_tune.display.lines import PlainLines, sign_of_life
from mfm_tune.display.progress import Progress, RunningTrial, cell_text, read_counters
from mfm_tune.display.table import LiveTable, running_text
from mfm_tune.execution.recorder import Recorder
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.loading import load_search_space
from mfm_tune.planning.plan import Choice, Plan, make_plan
from mfm_tune.program import Outcome, Report
from mfm_tune.space import OOM, Axis, Study, Table
from tests.mfm_tune.stub_program import PROGRESS, StubConfig, StubProgram

ROOT = Path(__file__).resolve().parents[3]
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

    def __init__(self, storage: Path, study: Study = STUDY, **about: Any) -> None:
        self.storage = Storage(storage)
        self.state = LedgerState()
        self.plan: Plan = make_plan(study, self.state, TrainingCode(study.program.packages), Choice())
        self.progress = Progress(self.plan, self.state, self.storage, 1, **about)
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
    counters.write_bytes(PROGRESS.pack(9, 3) + b"pre-training 120/800")
    now = launch.progress.snapshot()
    assert running_text(now.running[0], "mIoU").startswith("  level 1, seed 0  pre-training 120/800  ")
    assert "; running: level 1, seed 0 pre-training 120/800; " in sign_of_life(now)
    assert now.fraction == 3 / 24
    counters.write_bytes(b"torn")
    assert read_counters(counters) is None
    told.reported(launch.keys[0], report(2, 50.0))
    assert launch.progress.snapshot().running[0].step == 2


def test_a_running_trial_has_its_time_its_speed_and_its_last_metric(tmp_path: Path) -> None:
    """The speed from the first step that was seen, so that a slow start does not count."""
    launch = Launch(tmp_path)
    told = launch.recorder(launch.progress)
    told.started(launch.keys[0], 1)
    counters = launch.storage.trial(launch.plan.to_do[0].folder) / "progress"
    counters.parent.mkdir(parents=True)

    def running(executed: int) -> RunningTrial:
        counters.write_bytes(PROGRESS.pack(executed, executed))
        return launch.progress.snapshot().running[0]

    assert (running(0).steps_a_second, running(0).value) == (None, None)
    before = running(1)
    assert before.steps_a_second is None
    time.sleep(0.1)
    told.reported(launch.keys[0], report(2, 47.25))
    now = running(3)
    assert now.steps_a_second is not None
    assert 0 < now.steps_a_second <= 20
    assert now.elapsed_s > before.elapsed_s
    speed = f"{now.steps_a_second:.2g} steps/s"
    assert running_text(now, "student mIoU") == f"  level 1, seed 0  step 3/4  0 s  {speed}  student mIoU 47.2"


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
    assert launch.progress.cell_text(first, "a metric that is no finite number") == "no number"
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
    launch = Launch(tmp_path, mirror=lambda: "12 events behind", opening="starting Ray")
    with PlainLines(launch.progress, launch.storage, heartbeat_s=0.05) as display:
        run_trials(launch, launch.recorder(display))
        deadline = time.monotonic() + 10
        said = ""
        while "running:" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().out
    assert re.match(r"\d\d:\d\d:\d\d starting Ray\n", said)
    assert re.search(r"^\d\d:\d\d:\d\d 1/6 level 1, seed 0: finished, student mIoU 50\.0, after \d+ s; ", said, re.M)
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


def table_of(launch: Launch, width: int, height: int) -> LiveTable:
    """A display for a terminal of a size."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    return LiveTable(launch.progress, launch.storage, console)


def screen(table: LiveTable) -> list[str]:
    """The lines that a terminal shows."""
    with table._console.capture() as caught:
        table._console.print(table._picture())
    return caught.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 24), (200, 50)])
def test_all_six_tables_of_table_2_are_on_the_screen(tmp_path: Path, width: int, height: int) -> None:
    """Before, amid and after: finished tables fold into a line or two first, and grids stay where there is room."""
    study = load_search_space(ROOT / "search_spaces" / "table2.py").declared["mini"]
    assert isinstance(study, Study)
    launch = Launch(tmp_path, study, opening="starting Ray")
    picture = table_of(launch, width, height)
    told = launch.recorder(picture)
    assert "starting Ray" in screen(picture)[0]
    for count, key in enumerate(launch.keys):
        told.started(key, 1)
        if count % 19 == 0:
            lines = screen(picture)
            assert len(lines) < height
            assert max(map(len, lines)) <= width
            assert all(any(table.title in line for line in lines) for table in study.tables)
        reached = Report(step=400, planned_steps=400, executed_steps=400, metrics={"student/miou": 50 + count % 7})
        told.reported(key, reached)
        told.ended(key, Outcome.FINISHED)
    text = "\n".join(screen(table_of(launch, width, height)))
    assert re.search(r"10\.0:? +5\d\.\d ± \d\.\d", text)  # the last cell of the last table
    assert ("(e) Objective  Baseline: 5" in text) is (width < 200)  # folded


def test_a_mirror_in_trouble_disturbs_no_display(tmp_path: Path) -> None:
    """What it says is shown; what it raises is not."""

    def broken() -> str:
        raise OSError("gone")

    assert Launch(tmp_path, mirror=broken).progress.snapshot().mirror == "unknown"
    assert Launch(tmp_path).progress.snapshot().mirror == ""
