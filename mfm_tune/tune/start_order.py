"""The order in which trials run in Ray Tune, and their early stopping. Imports ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.program import Report


class OrderedScheduler(FIFOScheduler):
    """Start trials in the order in which they came, and a trial that lost its worker before any that has not begun.

    Tune's own queue forgets the order: a retried trial goes to its end, and a free worker takes any trial that waits.

    Args:
        stopper: Stops trials early; None lets all run to their end.
        report_of: Reads the report out of what a trial returned to Tune.
    """

    def __init__(
        self,
        stopper: EarlyStopper | None = None,
        report_of: Callable[[Mapping[str, Any]], Report] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rank: dict[str, int] = {}
        self._stopper = stopper
        self._report_of = report_of

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """A trial came."""
        self._rank.setdefault(key_of(trial), len(self._rank))

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """The first trial in order that waits."""
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == TuneTrial.PENDING]
        return min(waiting, key=lambda trial: self._rank[key_of(trial)], default=None)

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """STOP or CONTINUE, after a report without an outcome."""
        if self._stopper is not None and self._report_of is not None:
            stops = self._stopper.stops(key_of(trial), int(result["seed"]), self._report_of(result))
            return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)
        return str(TrialScheduler.CONTINUE)

    def stopped_at(self, key: str) -> int | None:
        """The step of the rung at which a trial was stopped; None while it may continue.

        Tune ends a stopped trial as it ends a finished one, so the mark is kept by the stopper.
        """
        return None if self._stopper is None else self._stopper.stopped_at(key)


def key_of(trial: TuneTrial) -> str:
    """Our key of one of Tune's trials."""
    return str(trial.config["trial"])
