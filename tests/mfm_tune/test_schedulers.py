"""Which trial runs next, and what the narrator makes of the ends that Tune tells of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mfm_tune.errors import UserError
from mfm_tune.ledger import LedgerState, LedgerWriter
from mfm_tune.plan import Trial
from mfm_tune.program import Outcome
from mfm_tune.recorder import Recorder
from mfm_tune.schedulers import InOrder
from mfm_tune.tuning_rounds import RETRIES, Narrator
from tests.mfm_tune.stub_launch import stub_trials
from tests.mfm_tune.stub_program import StubConfig


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
    chosen = InOrder([str(number) for number in range(12)]).choose_trial_to_run(
        SimpleNamespace(get_trials=lambda: held)
    )
    assert chosen is next((trial for trial in trials if trial.status == "PENDING"), None)


def narrator_of(folder: Path, trials: Sequence[Trial], *, retry: bool = False) -> tuple[Narrator, LedgerState]:
    """A narrator on a ledger in a file."""
    state = LedgerState()
    recorder = Recorder(
        LedgerWriter(folder / "ledger.jsonl"), state, storage=folder, launch="", study="", profile="", trials=trials
    )
    return Narrator(recorder, InOrder([trial.key for trial in trials]), retry_out_of_memory=retry), state


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
