"""The engine without Ray: the same outcomes, in order, in this process."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfm_tune.errors import StorageError, UserError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.signals import Interrupted
from mfm_tune.program import Outcome
from tests.mfm_tune.stub_launch import Launched, executed_steps, launch, stub_trials
from tests.mfm_tune.stub_program import StubConfig, StubRunning


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine sets for its trials ends with the test."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


def test_every_outcome_is_recorded_and_the_next_trial_begins(tmp_path: Path) -> None:
    """A trial that raises, runs out of memory or diverges does not hold up the others."""
    configs = [StubConfig(fail_at=3), StubConfig(break_open=True), StubConfig(oom_at=3), StubConfig(nan_at=3)]
    trials = stub_trials([*configs, StubConfig()])
    after = launch(tmp_path, trials, inline=True)
    outcomes = [after.record(trial).outcome for trial in trials]
    assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.OOM, Outcome.DIVERGED, Outcome.FINISHED]
    assert after.keys_of("start") == [trial.key for trial in trials]
    assert "StubError: failed at step 3" in after.record(trials[0]).error


def test_a_trial_that_would_end_the_process_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that calls `sys.exit` costs one trial."""
    trials = stub_trials([StubConfig(fail_at=3), StubConfig()])
    monkeypatch.setattr("tests.mfm_tune.stub_program.StubError", SystemExit)
    after = launch(tmp_path, trials, inline=True)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FAILED, Outcome.FINISHED]
    assert "SystemExit: failed at step 3" in after.record(trials[0]).error


def test_a_program_that_refuses_ends_the_run(tmp_path: Path) -> None:
    """Its sentence is passed on, and no further trial begins."""
    trials = stub_trials([StubConfig(refuse=True), StubConfig()])
    with pytest.raises(UserError, match="has no images"):
        launch(tmp_path, trials, inline=True)
    assert len(launch(tmp_path, trials[1:], inline=True).keys_of("start")) == 2


def test_a_full_disk_ends_the_run_and_the_next_launch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every further trial would only train up to its first checkpoint. Nothing is made up: what is tried again
    finishes."""
    trials = stub_trials([StubConfig(level=level) for level in range(3)])

    def full(running: StubRunning) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(running.folder / "checkpoint"))

    with monkeypatch.context() as patch:
        patch.setattr(StubRunning, "_save", full)
        with pytest.raises(StorageError, match=r"^The disk is full, .*: No space left on device; free space"):
            launch(tmp_path, trials, inline=True)
    assert Launched(tmp_path).keys_of("start") == [trials[0].key]
    after = launch(tmp_path, trials, inline=True)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FINISHED] * 3


def test_a_signal_leaves_the_trial_open_and_it_goes_on(tmp_path: Path) -> None:
    """The signal comes in the middle of a block; the next launch repeats less than a block and gets the same bits."""
    (whole,) = stub_trials([StubConfig(steps=60, interval=10, sleep_s=0.01)])
    before = signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.25)
    try:
        with pytest.raises(Interrupted) as stop:
            launch(tmp_path / "cut", [whole], inline=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before[0])
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before[1]
    resumed = launch(tmp_path / "cut", [whole], inline=True)
    undisturbed = launch(tmp_path / "whole", [whole], inline=True)
    assert resumed.record(whole).metrics == undisturbed.record(whole).metrics
    assert resumed.record(whole).attempts == 2
    assert executed_steps(tmp_path / "cut", whole) < 60 + 10


@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (1.0, "0")])
def test_a_trial_sees_what_it_was_given(tmp_path: Path, gpus: float, seen: str) -> None:
    """As many threads as CPUs, and no GPU unless one was asked for: as a worker of Ray."""
    launch(tmp_path, stub_trials([StubConfig()]), inline=True, cpus_per_trial=3, gpus_per_trial=gpus)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


class Killed(BaseException):
    """The driver is gone."""


def dying(after: int) -> Callable[..., Recorder]:
    """A recorder whose driver is killed when so many lines are written."""

    class Dying(Recorder):
        left = after

        def _write(self, event: dict[str, Any]) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            super()._write(event)

    return Dying


def test_a_driver_killed_between_any_two_lines_comes_to_the_same_ends(tmp_path: Path) -> None:
    """Also where a rung's report is in the ledger and its stop is not, or a divergence's report and not its end: each
    trial ends as in a run that nothing disturbed, at the same rung, and none trains more than a block twice."""
    configs = [StubConfig(steps=8, quality=quality) for quality in (60.0, 40.0, 70.0)]
    bad = [StubConfig(steps=8, interval=4, quality=80, **{at: 4}) for at in ("nan_at", "oom_at")]  # beyond a rung
    trials = stub_trials([*configs, *bad])
    undisturbed = launch(tmp_path / "undisturbed", trials, inline=True, asha=True)
    expected = [(undisturbed.record(trial).outcome, undisturbed.record(trial).rung) for trial in trials]
    assert {outcome for outcome, _ in expected} == {
        Outcome.FINISHED, Outcome.STOPPED, Outcome.DIVERGED, Outcome.OOM
    }  # fmt: skip
    lines = len(undisturbed.events) - 1  # without the first, which is the format's
    for killed_at in range(lines):
        storage = tmp_path / f"killed-{killed_at}"
        with pytest.raises(Killed):
            launch(storage, trials, inline=True, asha=True, recorder_of=dying(killed_at))
        after = launch(storage, trials, inline=True, asha=True)
        assert [(after.record(trial).outcome, after.record(trial).rung) for trial in trials] == expected, killed_at
        assert all(executed_steps(storage, trial) <= undisturbed.record(trial).step + 4 for trial in trials), killed_at
