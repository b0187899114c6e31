"""Rounds of trials through Ray Tune. Imports ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from ray import tune

from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions, make_folders
from mfm_tune.ledger.records import Trial
from mfm_tune.program import Outcome, Program
from mfm_tune.tune.callback import LedgerCallback, report_of
from mfm_tune.tune.cluster import places
from mfm_tune.tune.searcher import IteratorSearcher
from mfm_tune.tune.start_order import OrderedScheduler, key_of

RETRIES = 3  # how often a trial is started again after its worker was lost


class RayEngine:
    """All trials of a launch: one round for most, further ones where something is left.

    1. Every trial, each with its share of CPUs and GPUs; those of an iterator as places become free.
    2. Trials that Tune gave up although their retries were not used up (their worker died between two trials).
    3. Trials that ran out of memory on a fraction of a GPU, once more, each alone on a GPU. One that runs out of memory
       there too has that as its outcome.
    """

    def __init__(
        self,
        program: Program,
        trials: Iterable[Trial],
        recorder: Recorder,
        options: EngineOptions,
        *,
        stop_asked: Callable[[], bool],
    ) -> None:
        self._program = program
        self._options = options
        self._recorder = recorder
        self._stop_asked = stop_asked
        self._stopper = None if options.stopping is None else EarlyStopper(options.stopping)
        self._trials: list[Trial] = []
        self._ahead = len(trials) if isinstance(trials, Sequence) else 1
        self._coming = self._kept(trials)
        self._scheduler = OrderedScheduler(self._stopper, report_of)
        self._callback = LedgerCallback(
            recorder, self._scheduler, retry_out_of_memory=0 < options.gpus_per_trial < 1, retries=RETRIES
        )

    def run(self) -> None:
        """Run all rounds.

        Raises:
            UserError: What the program or the recorder raised; trials in progress stay open.
        """
        self._round(self._coming, gpus=self._options.gpus_per_trial)
        self._again(gpus=self._options.gpus_per_trial)
        alone = [trial for trial in self._trials if trial.key in self._callback.out_of_memory]
        self._callback.retry_out_of_memory = False
        self._round(iter(alone), gpus=1.0)
        self._again(gpus=1.0)

    def _kept(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Trials to run, each noted for further rounds, its folder made. One that was to be stopped when its driver
        went away before it said so, has ended."""
        for trial in trials:
            if self._stopper is not None and self._stopper.stopped_at(trial.key) == trial.step > 0:
                self._recorder.started(trial.key, 1)
                self._recorder.ended(trial.key, Outcome.STOPPED, rung=trial.step)
                continue
            make_folders([trial], self._options)
            self._trials.append(trial)
            yield trial

    def _again(self, *, gpus: float) -> None:
        for _ in range(RETRIES):
            left = [trial for trial in self._trials if trial.key in self._callback.given_up]
            self._callback.given_up.clear()
            self._round(iter(left), gpus=gpus)

    def _round(self, trials: Iterator[Trial], *, gpus: float) -> None:
        first = None if self._stopping() else next(trials, None)
        if first is not None:
            self._fit(chain((first,), trials), gpus)
        if self._callback.fatal is not None:
            raise self._callback.fatal

    def _stopping(self) -> bool:
        return self._stop_asked() or self._callback.fatal is not None

    def _fit(self, trials: Iterator[Trial], gpus: float) -> None:
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * places(self._options) + 2)
        searcher = IteratorSearcher(
            trials,
            arguments_of=self._arguments,
            most=lambda: places(self._options) + self._ahead,
            refuse=self._callback.refuse,
        )
        with tempfile.TemporaryDirectory(prefix="mfm_tune-", ignore_cleanup_errors=True) as scratch:
            tuner = tune.Tuner(
                tune.with_resources(self._program.trainable(), {"cpu": self._options.cpus_per_trial, "gpu": gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    scheduler=self._scheduler,
                    reuse_actors=True,
                    trial_name_creator=key_of,
                    trial_dirname_creator=key_of,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=scratch,
                    callbacks=[self._callback],
                    stop=_StopWhen(self._stopping),
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    verbose=1 if self._options.verbose else 0,
                ),
            )
            tuner.fit()

    def _arguments(self, trial: Trial) -> dict[str, Any]:
        """What a worker opens a trial with."""
        return {
            "config": trial.config,
            "seed": trial.seed,
            "folder": str(self._options.storage / trial.folder),
            "shared": str(self._options.shared_by(trial.fingerprint)),
            "data": dict(self._options.data),
        }


class _StopWhen(tune.Stopper):
    """Stops all trials when asked to."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as `LedgerCallback`."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._asked()
