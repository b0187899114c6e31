"""The Ray engine: every trial ends with an outcome, whatever happens to it, and in the order given."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mfm_tune.engine import Interrupted
from mfm_tune.errors import OptionError, StorageError, UserError
from mfm_tune.program import Outcome, Report
from mfm_tune.recorder import Recorder
from mfm_tune.tuning import Interruption, run_with_ray, set_environment
from tests.mfm_tune.stub_launch import REPOSITORY, executed_steps, launch, stub_trials
from tests.mfm_tune.stub_program import StubConfig


def test_every_trial_ends_in_the_ledger_seed_after_seed(ray_head: str, tmp_path: Path) -> None:
    """Trials start seed-major although workers are reused, and each has its outcome and last metrics."""
    trials = stub_trials([StubConfig(level=level, sleep_s=0.02) for level in range(5)], seeds=(0, 1, 2))
    after = launch(tmp_path, trials, address=ray_head)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FINISHED] * 15
    rank = {trial.key: number for number, trial in enumerate(trials)}
    starts = [rank[key] for key in after.keys_of("start")]
    assert sorted(starts) == list(range(15))
    assert all(abs(start - place) <= 1 for place, start in enumerate(starts))  # two workers: neighbours may swap


def test_ray_and_inline_agree_on_every_report(ray_head: str, tmp_path: Path) -> None:
    """What the ledger holds does not depend on the engine: metrics come over bitwise, NaN and matrices included."""
    trials = stub_trials([StubConfig(steps=5), StubConfig(level=1), StubConfig(nan_at=3)], seeds=(0, 1))
    by_ray = launch(tmp_path / "ray", trials, address=ray_head).state.trials
    inline = launch(tmp_path / "inline", trials, inline=True).state.trials
    for trial in trials:
        assert by_ray[trial.key].outcome is inline[trial.key].outcome
        assert repr(by_ray[trial.key].reports) == repr(inline[trial.key].reports)


def test_an_exception_is_recorded_and_the_others_go_on(ray_head: str, tmp_path: Path) -> None:
    """A trial that raises has failed, once, with its traceback; its worker takes the next trial."""
    trials = stub_trials([StubConfig(fail_at=3), StubConfig(break_open=True), StubConfig(), StubConfig(level=1)])
    after = launch(tmp_path, trials, address=ray_head)
    raised, unopened, *good = [after.record(trial) for trial in trials]
    assert raised.outcome is Outcome.FAILED
    assert "Traceback" in raised.error
    assert "StubError: failed at step 3" in raised.error
    assert raised.step == 2
    assert unopened.outcome is Outcome.FAILED
    assert "StubError: cannot be opened" in unopened.error
    assert [record.outcome for record in good] == [Outcome.FINISHED] * 2
    assert all(record.attempts == 1 for record in after.state.trials.values())


def test_a_program_that_refuses_its_data_ends_the_run_with_its_sentence(ray_head: str, tmp_path: Path) -> None:
    """One sentence instead of one failed trial after the other."""
    trials = stub_trials([StubConfig(refuse=True, level=level) for level in range(8)])
    with pytest.raises(UserError, match="has no images; give its path with --data stub=PATH"):
        launch(tmp_path, trials, address=ray_head)


def test_out_of_memory_and_divergence_are_outcomes(ray_head: str, tmp_path: Path) -> None:
    """Neither is retried, and each says where it happened."""
    trials = stub_trials([StubConfig(oom_at=3), StubConfig(nan_at=1), StubConfig()])
    after = launch(tmp_path, trials, address=ray_head)
    oom, diverged, good = [after.record(trial) for trial in trials]
    assert (oom.outcome, oom.error, oom.attempts) == (Outcome.OOM, "Out of memory at step 3.", 1)
    assert (diverged.outcome, diverged.error) == (Outcome.DIVERGED, "The loss is nan at step 1.")
    assert math.isnan(diverged.metrics["student/miou"])
    assert good.outcome is Outcome.FINISHED


def test_a_lost_worker_costs_one_block_and_no_digit(ray_head: str, tmp_path: Path) -> None:
    """A worker killed in mid-trial: the trial goes on from its checkpoint and ends with the same bits."""
    lost = StubConfig(steps=8, kill_at=6)
    trials = stub_trials([lost, StubConfig(level=1)])
    after = launch(tmp_path / "killed", trials, address=ray_head)
    record = after.record(trials[0])
    assert record.outcome is Outcome.FINISHED
    assert record.attempts == 2
    undisturbed = launch(tmp_path / "undisturbed", stub_trials([StubConfig(steps=8)]), inline=True)
    assert dict(record.metrics) == next(iter(undisturbed.metrics().values()))
    assert executed_steps(tmp_path / "killed", trials[0]) <= 8 + lost.interval


def test_a_trial_whose_worker_dies_again_and_again_has_failed(ray_head: str, tmp_path: Path) -> None:
    """After three retries the trial is given up, and says why; the others are not held up."""
    trials = stub_trials([StubConfig(kill_at=1, kills=9), StubConfig()])
    after = launch(tmp_path, trials, address=ray_head)
    record = after.record(trials[0])
    assert record.outcome is Outcome.FAILED
    assert record.attempts == 4
    assert "died" in record.error
    assert after.record(trials[1]).outcome is Outcome.FINISHED


def test_asha_stops_weaker_trials_of_the_same_seed_only(ray_head: str, tmp_path: Path) -> None:
    """Seed 1 is worse throughout, yet loses only those that are worse within seed 1; a reference that leads finishes."""
    qualities = (60.0, 50.0, 40.0)
    strong = [StubConfig(steps=8, quality=quality) for quality in qualities]
    weak = [StubConfig(steps=8, quality=quality - 30, level=1) for quality in qualities]
    trials = (*stub_trials(strong, seeds=(0,)), *stub_trials(weak, seeds=(1,)))
    after = launch(tmp_path, trials, address=ray_head, asha=True, cpus_per_trial=2)
    outcomes = [after.record(trial).outcome for trial in trials]
    assert outcomes == [Outcome.FINISHED, Outcome.STOPPED, Outcome.STOPPED] * 2
    stopped = after.record(trials[1])
    assert (stopped.rung, stopped.step) == (2, 2)


def test_a_trial_that_asha_stopped_goes_on_without_it(ray_head: str, tmp_path: Path) -> None:
    """Nothing of a stopped trial is lost: it continues from its checkpoint."""
    trials = stub_trials([StubConfig(steps=8, quality=quality) for quality in (60.0, 40.0)])
    launch(tmp_path, trials, address=ray_head, asha=True, cpus_per_trial=2)
    after = launch(tmp_path, trials, address=ray_head)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FINISHED] * 2
    assert executed_steps(tmp_path, trials[1]) == 8


def test_asha_compares_with_what_the_ledger_has(ray_head: str, tmp_path: Path) -> None:
    """A launch that adds a weaker trial stops it against the reports of an earlier launch."""
    launch(tmp_path, stub_trials([StubConfig(steps=8, quality=60.0)]), address=ray_head, asha=True)
    later = stub_trials([StubConfig(steps=8, quality=40.0)])
    after = launch(tmp_path, later, address=ray_head, asha=True)
    assert after.record(later[0]).outcome is Outcome.STOPPED


def test_missing_and_non_finite_metrics_hang_nothing_under_asha(ray_head: str, tmp_path: Path) -> None:
    """NaN ends as divergence, a trial without metrics counts as worst, and the run ends."""
    configs = [StubConfig(steps=8), StubConfig(steps=8, nan_at=5, quality=70), StubConfig(steps=8, without_metrics=True)]
    trials = stub_trials(configs)
    after = launch(tmp_path, trials, address=ray_head, asha=True, cpus_per_trial=2)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FINISHED, Outcome.DIVERGED, Outcome.STOPPED]


class ForgetfulRecorder(Recorder):
    """Raises at every report, as no recorder should."""

    def reported(self, key: str, report: Report) -> None:
        raise RuntimeError("cannot record")


def test_a_recorder_that_raises_does_not_end_the_run(ray_head: str, tmp_path: Path) -> None:
    """An exception in a callback ends a whole run of Tune; ours are held back."""
    trials = stub_trials([StubConfig(level=level) for level in range(3)])
    after = launch(tmp_path, trials, address=ray_head, recorder_of=ForgetfulRecorder)
    assert len(after.keys_of("start")) == 3


class FullRecorder(Recorder):
    """Its disk is full after the first outcome."""

    def ended(self, key: str, outcome: Outcome, **more: Any) -> None:
        super().ended(key, outcome, **more)
        raise StorageError("The ledger cannot be written: No space left on device; free space.")


def test_a_full_storage_stops_the_run_in_order(ray_head: str, tmp_path: Path) -> None:
    """Results that cannot be kept are not produced: the run ends with the storage's sentence."""
    trials = stub_trials([StubConfig(level=level, sleep_s=0.05) for level in range(12)])
    with pytest.raises(StorageError, match="No space left on device"):
        launch(tmp_path, trials, address=ray_head, recorder_of=FullRecorder)


class InterruptingRecorder(Recorder):
    """Sends a signal to this process at the second report."""

    number = signal.SIGINT
    reports = 0

    def reported(self, key: str, report: Report) -> None:
        super().reported(key, report)
        self.reports += 1
        if self.reports == 2:
            signal.raise_signal(self.number)


class TerminatingRecorder(InterruptingRecorder):
    """Likewise with SIGTERM."""

    number = signal.SIGTERM


@pytest.mark.parametrize("recorder_of", [InterruptingRecorder, TerminatingRecorder])
def test_a_signal_stops_the_run_and_the_next_launch_carries_on(
    ray_head: str, tmp_path: Path, recorder_of: type[InterruptingRecorder]
) -> None:
    """The run ends with `Interrupted`, no outcome is made up, and together the launches repeat no more than a block."""
    trials = stub_trials([StubConfig(steps=8, level=level, sleep_s=0.02) for level in range(4)])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as stop:
        launch(tmp_path, trials, address=ray_head, recorder_of=recorder_of)
    assert stop.value.number is recorder_of.number
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    after = launch(tmp_path, trials, address=ray_head)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FINISHED] * 4
    assert all(executed_steps(tmp_path, trial) <= 8 + 2 for trial in trials)
    undisturbed = launch(tmp_path / "undisturbed", trials, inline=True)
    assert after.metrics() == undisturbed.metrics()


def test_a_second_signal_does_not_wait() -> None:
    """The first is remembered; the second raises at once."""
    with pytest.raises(Interrupted), Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.came()
        signal.raise_signal(signal.SIGINT)


def test_in_another_thread_no_signal_handler_is_touched() -> None:
    """Python allows handlers in the main thread only."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def listen() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cpus_per_trial": 64}, "--cpus-per-trial must be at most 2, what the largest machine has, got 64"),
        ({"gpus_per_trial": 0.5}, "--gpus-per-trial must be at most 0, what the largest machine has, got 0.5"),
    ],
)
def test_resources_that_no_machine_has_are_refused(
    ray_head: str, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    """Tune would wait for ever; the user gets one sentence."""
    with pytest.raises(OptionError, match=sentence):
        launch(tmp_path, stub_trials([StubConfig()]), address=ray_head, **options)


def test_a_client_address_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """The driver must be on the cluster's network, not behind a Ray client."""
    with pytest.raises(OptionError, match="--address must be HOST:PORT"):
        launch(tmp_path, stub_trials([StubConfig()]), address="ray://127.0.0.1:10001")


def test_nothing_to_do_starts_nothing(tmp_path: Path) -> None:
    """Without trials Ray is not started."""
    launched = launch(tmp_path, ())
    assert launched.events[1:] == []


def test_a_local_ray_is_closed_to_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray on this machine asks for a token that only this run knows; what the user has set stays."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name)
    environment = {"RAY_USAGE_STATS_ENABLED": "1"}
    monkeypatch.setattr("os.environ", environment)
    set_environment(None)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert len(environment["RAY_AUTH_TOKEN"]) == 64
    assert environment["RAY_USAGE_STATS_ENABLED"] == "1"
    monkeypatch.setattr("os.environ", joined := {})
    set_environment("10.0.0.1:6379")
    assert "RAY_AUTH_MODE" not in joined


def test_the_engine_is_imported_without_ray() -> None:
    """Planning and inline runs work where ray is not installed."""
    code = "import sys, mfm_tune.tuning; sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    assert run_with_ray.__module__ == "mfm_tune.tuning"
