"""Rounds of trials through Ray Tune. Imports ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ray import tune

from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions, make_folders
from mfm_tune.ledger.records import Trial
from mfm_tune.program import Outcome, Program
from mfm_tune.tune.callback import LedgerCallback, report_of
from mfm_tune.tune.cluster import places
from mfm_tune.tune.scheduler import OrderedScheduler, key_of
from mfm_tune.tune.searcher import IteratorSearcher

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
        self._coming = None if isinstance(trials, Sequence) else self._kept(trials)
        self._trials = list(self._left(trials)) if isinstance(trials, Sequence) else []
        self._scheduler = OrderedScheduler([trial.key for trial in self._trials], self._stopper, report_of)
        self._callback = LedgerCallback(
            recorder, self._scheduler, retry_out_of_memory=0 < options.gpus_per_trial < 1, retries=RETRIES
        )

    def run(self) -> None:
        """Run all rounds.

        Raises:
            UserError: What the program or the recorder raised; trials in progress stay open.
        """
        if self._coming is None:
            self._round(self._trials, gpus=self._options.gpus_per_trial)
        elif not self._stopping():
            self._one_by_one(self._coming)
        self._again(gpus=self._options.gpus_per_trial)
        alone = [trial for trial in self._trials if trial.key in self._callback.out_of_memory]
        self._callback.retry_out_of_memory = False
        if alone:
            self._round(alone, gpus=1.0)
            self._again(gpus=1.0)

    def _left(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Trials to run. One that was to be stopped when its driver went away before it said so, has ended."""
        for trial in trials:
            if self._stopper is not None and self._stopper.stopped_at(trial.key) == trial.step > 0:
                self._recorder.started(trial.key, 1)
                self._recorder.ended(trial.key, Outcome.STOPPED, rung=trial.step)
            else:
                yield trial

    def _kept(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """The same, each noted for further rounds, its folder made."""
        for trial in self._left(trials):
            make_folders([trial], self._options)
            self._trials.append(trial)
            yield trial

    def _one_by_one(self, coming: Iterator[Trial]) -> None:
        searcher = IteratorSearcher(
            coming,
            arguments_of=self._arguments,
            places=lambda: places(self._options),
            refuse=self._callback.refuse,
        )
        self._fit(self._options.gpus_per_trial, searcher=searcher)
        if self._callback.fatal is not None:
            raise self._callback.fatal

    def _again(self, *, gpus: float) -> None:
        for _ in range(RETRIES):
            left = [trial for trial in self._trials if trial.key in self._callback.given_up]
            self._callback.given_up.clear()
            self._round(left, gpus=gpus)

    def _round(self, trials: Sequence[Trial], *, gpus: float) -> None:
        if trials and not self._stopping():
            self._fit(gpus, trials)
        if self._callback.fatal is not None:
            raise self._callback.fatal

    def _stopping(self) -> bool:
        return self._stop_asked() or self._callback.fatal is not None

    def _fit(self, gpus: float, trials: Sequence[Trial] = (), searcher: IteratorSearcher | None = None) -> None:
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * places(self._options) + 2)
        with tempfile.TemporaryDirectory(prefix="mfm_tune-", ignore_cleanup_errors=True) as scratch:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(
                        self._program.trainable(), manifest={trial.key: self._arguments(trial) for trial in trials}
                    ),
                    {"cpu": self._options.cpus_per_trial, "gpu": gpus},
                ),
                param_space={} if searcher else {"trial": tune.grid_search([trial.key for trial in trials])},
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1 if searcher else 1,
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
