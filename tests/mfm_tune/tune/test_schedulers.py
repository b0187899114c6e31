"""Which trial runs next, and what the narrator makes of the ends that Tune tells of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfm_tune.errors import UserError
from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions, Stopping
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import ReportOf, Trial
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome, Report
from mfm_tune.tune.callback import LedgerCallback, report_of
from mfm_tune.tune.rounds import RETRIES, RayEngine
from mfm_tune.tune.start_order import OrderedScheduler
from tests.mfm_tune.stub_launch import stub_trials
from tests.mfm_tune.stub_program import StubConfig, StubProgram


@dataclass
class TuneTrial:
    """What schedulers and callbacks read of one of Tune's trials."""

    config: dict[str, str]
    status: str = "PENDING"
    error_file: str | None = None


statuses = st.sampled_from(["PENDING", "RUNNING", "PAUSED", "ERROR", "TERMINATED"])


@given(st.lists(statuses, max_size=12), st.randoms())
def test_the_first_in_order_that_waits_runs_next(statuses: list[str], draw: Any) -> None:
    """In whatever order Tune holds them: a trial that lost its worker stands before those that have not begun."""
    trials = [TuneTrial({"trial": str(number)}, status) for number, status in enumerate(statuses)]
    held = draw.sample(trials, len(trials))
    scheduler = OrderedScheduler()
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    chosen = scheduler.choose_trial_to_run(SimpleNamespace(get_trials=lambda: held))
    assert chosen is next((trial for trial in trials if trial.status == "PENDING"), None)


def recorder_of(folder: Path, trials: Sequence[Trial]) -> Recorder:
    """A recorder on a ledger in a file."""
    writer = LedgerWriter(folder / "ledger.jsonl")
    ledger = Ledger(writer, LedgerState())
    return Recorder(ledger, storage=folder, launch="", study="stub", profile="smoke", trials=trials)


def narrator_of(folder: Path, trials: Sequence[Trial], *, retry: bool = False) -> tuple[LedgerCallback, LedgerState]:
    """A narrator on such a ledger."""
    recorder = recorder_of(folder, trials)
    return LedgerCallback(recorder, OrderedScheduler(), retry_out_of_memory=retry), recorder.state


def reported(trial: Trial, step: int, value: float) -> ReportOf:
    """What a trial of 8 steps reported."""
    return trial.key, trial.seed, Report(step=step, planned_steps=8, metrics={"student/miou": value})


def result(outcome: str, *, refused: str = "") -> dict[str, Any]:
    """What a trial's last step returns."""
    return {"report": json.dumps({"step": 3, "outcome": outcome}), "seed": 0, "refused": refused, "done": True}


def test_out_of_memory_on_a_fraction_of_a_gpu_is_no_outcome_yet(tmp_path: Path) -> None:
    """The trial is kept for a round alone on a GPU; what happens there counts."""
    (trial,) = stub_trials([StubConfig()])
    narrator, state = narrator_of(tmp_path, [trial], retry=True)
    told = TuneTrial({"trial": trial.key})
    narrator.on_trial_start(0, [], told)
    narrator.on_trial_result(0, [], told, result("oom"))
    assert narrator.out_of_memory == {trial.key}
    assert state.trials[trial.key].outcome is None
    narrator.retry_out_of_memory = False
    narrator.on_trial_start(0, [], told)
    narrator.on_trial_result(0, [], told, result("oom"))
    assert (state.trials[trial.key].outcome, state.trials[trial.key].attempts) == (Outcome.OOM, 2)


def test_what_the_program_refuses_is_the_sentence_of_the_run(tmp_path: Path) -> None:
    """The first one counts, and nothing is recorded after it."""
    first, second = stub_trials([StubConfig(), StubConfig(level=1)])
    narrator, state = narrator_of(tmp_path, [first, second])
    for trial in (first, second):
        narrator.on_trial_start(0, [], TuneTrial({"trial": trial.key}))
    for trial in (first, second):
        narrator.on_trial_result(0, [], TuneTrial({"trial": trial.key}), result("failed", refused="No images."))
    assert isinstance(narrator.fatal, UserError)
    assert str(narrator.fatal) == "No images."
    assert [state.trials[trial.key].outcome for trial in (first, second)] == [Outcome.FAILED, None]


def test_a_trial_given_up_too_early_is_run_again_and_one_that_used_its_retries_has_failed(tmp_path: Path) -> None:
    """Tune does not retry a trial whose worker died before the trial began there."""
    (trial,) = stub_trials([StubConfig()])
    narrator, state = narrator_of(tmp_path, [trial])
    errors = tmp_path / "error.txt"
    errors.write_text("Failure # 4\nThe actor died unexpectedly.\n")
    told = TuneTrial({"trial": trial.key}, error_file=str(errors))
    narrator.on_trial_start(0, [], told)
    narrator.on_trial_error(0, [], told)
    assert narrator.given_up == {trial.key}
    assert state.trials[trial.key].outcome is None
    for _ in range(RETRIES):
        narrator.on_trial_recover(0, [], told)
    narrator.on_trial_error(0, [], told)
    assert state.trials[trial.key].outcome is Outcome.FAILED
    assert "died unexpectedly" in state.trials[trial.key].error


@pytest.mark.parametrize("given", [tuple, iter], ids=["table", "search"])
def test_a_stop_that_the_ledger_never_heard_of_is_made_up_for(given: Any, tmp_path: Path) -> None:
    """The driver went away between the report at a rung and the stop: the trial does not go on to the next rung."""
    good, weak, new = stub_trials([StubConfig(steps=8, level=level) for level in range(3)])
    stopping = Stopping(history=(reported(good, 2, 60.0), reported(weak, 2, 40.0)))
    recorder = recorder_of(tmp_path, [good, weak, new])
    trials: Iterable[Trial] = given((replace(good, step=2), replace(weak, step=2), new))
    options = EngineOptions(storage=tmp_path, stopping=stopping)
    rounds = RayEngine(StubProgram(), trials, recorder, options, stop_asked=lambda: False)
    assert [trial.key for trial in rounds._coming] == [good.key, new.key]
    ended = recorder.state.trials
    assert {key: (record.outcome, record.rung) for key, record in ended.items()} == {weak.key: (Outcome.STOPPED, 2)}


def test_a_trial_that_goes_on_from_an_earlier_stop_is_not_stopped_by_it(tmp_path: Path) -> None:
    """It was stopped once, went on when asked to, and is now judged by what it reports now."""
    good, weak = stub_trials([StubConfig(steps=8, level=level) for level in range(2)])
    history = (reported(good, 2, 60.0), reported(weak, 2, 40.0), reported(good, 4, 60.0), reported(weak, 4, 70.0))
    recorder = recorder_of(tmp_path, [good, weak])
    scheduler = OrderedScheduler(EarlyStopper(Stopping(history=history)), report_of)
    narrator, told = LedgerCallback(recorder, scheduler, retry_out_of_memory=False), TuneTrial({"trial": weak.key})
    narrator.on_trial_start(0, [], told)
    report = {"step": 6, "planned_steps": 8, "metrics": {"student/miou": 71.0}, "outcome": None}
    came = {"report": json.dumps(report), "seed": 0, "refused": "", "done": False}
    assert scheduler.on_trial_result(None, told, came) == OrderedScheduler.CONTINUE
    narrator.on_trial_result(0, [], told, came)
    assert recorder.state.trials[weak.key].outcome is None
