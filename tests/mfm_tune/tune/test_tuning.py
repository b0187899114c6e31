"""The Ray engine: every trial ends with an outcome, whatever happens to it, and in the order given.

Starting workers costs seconds, so one launch with trials of every kind serves several tests.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mfm_tune.errors import OptionError, StorageError, UserError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.signals import Interrupted, Interruption
from mfm_tune.ledger.records import Trial
from mfm_tune.program import Outcome, Report
from mfm_tune.tune.engine import run_with_ray
from tests.mfm_tune.stub_launch import (
    REPOSITORY,
    Launched,
    executed_steps,
    launch,
    processes_with,
    stub_trials,
    workers_of,
    write_launch,
)
from tests.mfm_tune.stub_program import StubConfig

SEEDS = (0, 1, 2)
STAGED = 2 * 2 + 2  # trials held ready for two places
GOOD = [StubConfig(level=level, steps=5, sleep_s=0.02) for level in range(3)]
RAISING = StubConfig(fail_at=3)
UNOPENED = StubConfig(break_open=True)
OUT_OF_MEMORY = StubConfig(oom_at=3)
DIVERGING = StubConfig(nan_at=1)
LOST = StubConfig(steps=8, kill_at=6)
LOST_ALWAYS = StubConfig(kill_at=1, kills=9)


# --------------------------------------------------------------------------------------------------------------------
# One launch, trials of every kind
# --------------------------------------------------------------------------------------------------------------------


class Mixed:
    """A launch by Ray with trials of every kind, and what is compared with it."""

    def __init__(self, folder: Path, address: str) -> None:
        steady = [*GOOD, RAISING, UNOPENED, OUT_OF_MEMORY, DIVERGING]
        self.steady = stub_trials(steady, SEEDS)
        self.lost, self.lost_always = stub_trials([LOST, LOST_ALWAYS])
        self.all = (*self.steady, self.lost, self.lost_always)
        self.by_ray = launch(folder / "ray", self.all, address=address)
        self.inline = launch(folder / "inline", self.steady, inline=True)

    def trial(self, config: StubConfig, seed: int = 0) -> Trial:
        return next(trial for trial in self.all if trial.config == config and trial.seed == seed)


@pytest.fixture(scope="module")
def mixed(ray_head: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mfm_tune.tune.rounds.RETRIES", 1)
        yield Mixed(tmp_path_factory.mktemp("mixed"), ray_head)


def test_every_trial_ends_in_the_ledger(mixed: Mixed) -> None:
    """Whatever a trial does, it has an outcome, and the others go on."""
    expected = {
        **dict.fromkeys(GOOD, Outcome.FINISHED),
        RAISING: Outcome.FAILED,
        UNOPENED: Outcome.FAILED,
        OUT_OF_MEMORY: Outcome.OOM,
        DIVERGING: Outcome.DIVERGED,
        LOST: Outcome.FINISHED,
        LOST_ALWAYS: Outcome.FAILED,
    }
    for trial in mixed.all:
        assert mixed.by_ray.record(trial).outcome is expected[trial.config]


def test_trials_start_seed_after_seed(mixed: Mixed) -> None:
    """The order is the given one in spite of reused workers, up to the six trials that Tune holds ready for two places.

    Which of those a free worker gets is Tune's choice: on a busy machine, where workers are slow to come up, it shows.
    """
    rank = {trial.key: number for number, trial in enumerate(mixed.steady)}
    starts = [rank[key] for key in mixed.by_ray.keys_of("start") if key in rank]
    assert sorted(starts) == list(range(len(mixed.steady)))
    assert all(abs(start - place) <= STAGED for place, start in enumerate(starts)), starts


def test_a_worker_runs_one_trial_after_the_other(mixed: Mixed) -> None:
    """Starting a worker costs seconds, so two of them do all the work; those that raised did not cost a worker."""
    opened = [trial for trial in mixed.steady if trial.config != UNOPENED]
    workers = [workers_of(mixed.by_ray.storage, trial) for trial in opened]
    assert all(len(pids) == 1 for pids in workers)
    assert len({pid for pids in workers for pid in pids}) <= 2
    assert os.getpid() not in {pid for pids in workers for pid in pids}


def test_ray_and_inline_agree_on_every_report(mixed: Mixed) -> None:
    """What the ledger holds does not depend on the engine: metrics come over bitwise, NaN and matrices included."""
    for trial in mixed.steady:
        by_ray, inline = mixed.by_ray.record(trial), mixed.inline.record(trial)
        assert by_ray.outcome is inline.outcome
        assert repr(by_ray.reports) == repr(inline.reports)


def test_the_traceback_of_a_trial_that_raised_is_kept(mixed: Mixed) -> None:
    """Once tried, failed, with the traceback and the steps that were done."""
    raised, unopened = (mixed.by_ray.record(mixed.trial(config)) for config in (RAISING, UNOPENED))
    assert "Traceback" in raised.error
    assert "StubError: failed at step 3" in raised.error
    assert (raised.step, raised.attempts) == (2, 1)
    assert "StubError: cannot be opened" in unopened.error
    assert unopened.attempts == 1


def test_out_of_memory_and_divergence_are_results(mixed: Mixed) -> None:
    """Neither is retried, and each says where it happened."""
    oom, diverged = (mixed.by_ray.record(mixed.trial(config)) for config in (OUT_OF_MEMORY, DIVERGING))
    assert (oom.error, oom.attempts) == ("Out of memory at step 3.", 1)
    assert (diverged.error, diverged.attempts) == ("The loss is nan at step 1.", 1)
    assert math.isnan(diverged.metrics["student/miou"])


def test_a_lost_worker_costs_one_block_and_no_digit(mixed: Mixed, tmp_path: Path) -> None:
    """A worker killed in mid-trial: the trial goes on in another from its checkpoint and ends with the same bits."""
    record = mixed.by_ray.record(mixed.lost)
    assert record.attempts == 2
    assert len(set(workers_of(mixed.by_ray.storage, mixed.lost))) == 2
    undisturbed = launch(tmp_path, stub_trials([replace(LOST, kills=0)]), inline=True)
    assert dict(record.metrics) == next(iter(undisturbed.metrics().values()))
    assert executed_steps(mixed.by_ray.storage, mixed.lost) <= LOST.steps + LOST.interval


def test_a_trial_whose_worker_dies_again_and_again_has_failed(mixed: Mixed) -> None:
    """After its retries it is given up, and says why."""
    record = mixed.by_ray.record(mixed.lost_always)
    assert record.attempts == 2
    assert "died" in record.error


@pytest.mark.slow
def test_out_of_memory_on_half_a_gpu_is_tried_once_alone(gpu_head: str, tmp_path: Path) -> None:
    """After the others, on a whole GPU; running out of memory there, too, is the result."""
    trials = stub_trials([OUT_OF_MEMORY, *GOOD])
    after = launch(tmp_path, trials, address=gpu_head, gpus_per_trial=0.5)
    record = after.record(trials[0])
    assert (record.outcome, record.attempts) == (Outcome.OOM, 2)
    assert after.keys_of("start")[-1] == trials[0].key
    assert [after.record(trial).outcome for trial in trials[1:]] == [Outcome.FINISHED] * len(GOOD)


# --------------------------------------------------------------------------------------------------------------------
# Recorders and signals
# --------------------------------------------------------------------------------------------------------------------


class FailingRecorder(Recorder):
    """Cannot record the first report, as no recorder should; its disk is full after the second outcome."""

    reports = 0
    outcomes = 0

    def reported(self, key: str, report: Report) -> None:
        self.reports += 1
        if self.reports == 1:
            raise RuntimeError("cannot record")
        super().reported(key, report)

    def ended(self, key: str, outcome: Outcome, **more: Any) -> None:
        super().ended(key, outcome, **more)
        self.outcomes += 1
        if self.outcomes == 2:
            raise StorageError("The ledger cannot be written: No space left on device; free space.")


@pytest.mark.slow
def test_a_full_storage_stops_the_run_and_no_other_failure_of_a_recorder_does(ray_head: str, tmp_path: Path) -> None:
    """An exception in a callback would end a run of Tune at once. Ours are held back; but results that cannot be kept
    are not produced, so that the run ends in order with the storage's sentence."""
    trials = stub_trials([StubConfig(level=level, sleep_s=0.05) for level in range(12)])
    with pytest.raises(StorageError, match="No space left on device"):
        launch(tmp_path, trials, address=ray_head, recorder_of=FailingRecorder)
    after = Launched(tmp_path)
    assert len(after.keys_of("end")) == 2
    assert 2 <= len(after.keys_of("start")) <= 5


@pytest.mark.slow
def test_a_program_that_refuses_its_data_ends_the_run_with_its_sentence(ray_head: str, tmp_path: Path) -> None:
    """One sentence instead of one failed trial after the other."""
    trials = stub_trials([StubConfig(refuse=True, level=level) for level in range(8)])
    with pytest.raises(UserError, match="has no images; give its path with --data stub=PATH"):
        launch(tmp_path, trials, address=ray_head)


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


@pytest.mark.slow
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
    assert any(Launched(tmp_path).state.trials[key].outcome is None for key in Launched(tmp_path).keys_of("start"))
    after = launch(tmp_path, trials, address=ray_head)
    assert [after.record(trial).outcome for trial in trials] == [Outcome.FINISHED] * 4
    assert all(executed_steps(tmp_path, trial) <= 8 + 2 for trial in trials)
    undisturbed = launch(tmp_path / "undisturbed", trials, inline=True)
    assert after.metrics() == undisturbed.metrics()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_interrupted_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """A driver with a Ray of its own. Ctrl-C in a terminal reaches all its children too; `kill` reaches it alone."""
    storage, given, mark = tmp_path / "storage", tmp_path / "launch.json", str(tmp_path)
    write_launch(given, [StubConfig(steps=200, level=level, sleep_s=0.05) for level in range(4)], (0,), None)
    command = [sys.executable, "-m", "tests.mfm_tune.stub_launch", str(storage), str(given)]
    driver = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, env={**os.environ, "STUB_LAUNCH": mark})
    wait_until(
        lambda: (storage / "ledger.jsonl").exists() and "report" in {e["event"] for e in Launched(storage).events}
    )
    if number is signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    assert driver.wait(timeout=180) == 128 + number
    assert Launched(storage).keys_of("end") == []
    wait_until(lambda: processes_with("STUB_LAUNCH", mark) == [])


def wait_until(holds: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait for something that will be so, or fail."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_second_signal_does_not_wait() -> None:
    """The first is remembered; the second raises at once."""
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.came()
        with pytest.raises(Interrupted):
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


# --------------------------------------------------------------------------------------------------------------------
# Refusals, and a Ray of our own
# --------------------------------------------------------------------------------------------------------------------


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


def test_nothing_to_do_starts_nothing(tmp_path: Path) -> None:
    """Without trials Ray is not started."""
    launched = launch(tmp_path, ())
    assert launched.events[1:] == []


def test_the_engine_is_imported_without_ray() -> None:
    """Planning and inline runs work where ray is not installed."""
    code = "import sys, mfm_tune.tune.engine; sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    assert run_with_ray.__module__ == "mfm_tune.tune.engine"
