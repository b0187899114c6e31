"""What happens to trials in Ray Tune, carried to the recorder. Imports ray."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from mfm_tune.errors import UserError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.program import Outcome, Report, numbers_only
from mfm_tune.tune.start_order import OrderedScheduler, key_of

log = logging.getLogger(__name__)


def report_of(result: Mapping[str, Any]) -> Report:
    """The report in what a trial's `step` returned to Tune (see `trainables.tune.ProgramTrial`)."""
    return numbers_only(json.loads(result["report"]))


class LedgerCallback(tune.Callback):
    """Carry what happens to trials in Tune to the recorder.

    Tune ends a whole run when a callback raises. So nothing is raised here: a `UserError` (the storage is full) is kept
    in `fatal`, at which the run stops in order; anything else is logged, and the trial stays open in the ledger.
    """

    def __init__(
        self, recorder: Recorder, scheduler: OrderedScheduler, *, retry_out_of_memory: bool, retries: int = 3
    ) -> None:
        self.fatal: UserError | None = None
        self.out_of_memory: set[str] = set()
        self.given_up: set[str] = set()
        self.retry_out_of_memory = retry_out_of_memory
        self._retries = retries
        self._recorder = recorder
        self._scheduler = scheduler
        self._attempts: Counter[str] = Counter()
        self._recoveries: Counter[str] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks so as to restore them, which we never do, and a display cannot be pickled."""
        return {}

    def refuse(self, error: UserError) -> None:
        """Something that ends the run happened apart from any trial."""
        self.fatal = self.fatal or error

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A worker took a trial, for the first time or again."""
        key = key_of(trial)
        self._attempts[key] += 1
        self._guarded(lambda: self._recorder.started(key, self._attempts[key]))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial returned from a block."""
        self._guarded(lambda: self._result(key_of(trial), result))

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A worker was lost; Tune will start the trial again."""
        self._recoveries[key_of(trial)] += 1

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Tune gave a trial up."""
        self._guarded(lambda: self._error(key_of(trial), trial))

    def _result(self, key: str, result: Mapping[str, Any]) -> None:
        report = report_of(result)
        if report.get("metrics"):
            self._recorder.reported(key, report)
        outcome = report.get("outcome")
        if outcome is None:
            if self._scheduler.stopped_at(key) == report["step"]:  # an earlier stop is one that the trial went on from
                self._recorder.ended(key, Outcome.STOPPED, rung=report["step"])
            return
        if outcome == Outcome.OOM.value and self.retry_out_of_memory:
            self.out_of_memory.add(key)
            return
        self._recorder.ended(key, Outcome(outcome), error=report.get("error", ""))
        if result["refused"]:
            raise UserError(result["refused"])

    def _error(self, key: str, trial: TuneTrial) -> None:
        if self._recoveries[key] < self._retries:
            self.given_up.add(key)
            return
        self._recorder.ended(key, Outcome.FAILED, error=_failures_of(trial))

    def _guarded(self, tell: Callable[[], None]) -> None:
        if self.fatal is not None:
            return
        try:
            tell()
        except UserError as error:
            self.fatal = error
        except Exception:
            log.exception("What a trial returned could not be recorded; it resumes at the next launch.")


def _failures_of(trial: TuneTrial) -> str:
    """What Tune wrote down about a trial's failures. (Its `get_error` looks where the file is copied only later.)"""
    path = trial.error_file
    return Path(path).read_text(errors="replace") if path and os.path.exists(path) else "The worker was lost."
