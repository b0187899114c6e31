"""Which trial runs next, and which one is stopped early. Imports ray.

`InOrder` starts trials in the order given. `SeedwiseAsha` does too, and stops trials by Ray Tune's ASHA
(`AsyncHyperBandScheduler`, the stopping variant of Li et al., "A System for Massively Parallel Hyperparameter Tuning",
2020), one a seed, so that a trial is compared with trials of its own seed only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from mfm_tune.ledger import TrialRecord
from mfm_tune.program import Report


class InOrder(FIFOScheduler):
    """Starts trials in the order of `keys`, and a trial that lost its worker before any that has not begun.

    Tune's own queue forgets the order: a retried trial goes to its end, and a free worker takes any trial that waits.

    Args:
        keys: Trial keys, first to last.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rank = {key: rank for rank, key in enumerate(keys)}

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """The first trial in order that waits."""
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == TuneTrial.PENDING]
        return min(waiting, key=lambda trial: self._rank[key_of(trial)], default=None)

    def stopped_at(self, key: str) -> int | None:
        """The step at which this scheduler stopped a trial; None while it may go on."""
        return None


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """Where ASHA looks: after 1/4 and 1/2 of a trial's planned steps by default, and half of the trials go on.

    A fraction of the planned steps rather than a number of them, so that trials that train longer (equal compute) meet
    the others at the same part of their schedule.

    Args:
        reduction_factor: One in this many trials goes on beyond a rung.
        count: How many rungs there are below the last step.
    """

    reduction_factor: int = 2
    count: int = 2

    def reached(self, step: int, planned_steps: int) -> int:
        """The number of rungs at or below a step, 0 to `count`."""
        return sum(step * self.reduction_factor ** (self.count - rung) >= planned_steps for rung in range(self.count))


@dataclass(frozen=True)
class _Named:
    """What ASHA needs of a trial: an id. Ours is the key, which is the same one after a restart."""

    trial_id: str


class _AshaOfSeed:
    """ASHA among the trials of one seed. Its time is 1 at the first rung, r at the second, r² at the third."""

    def __init__(self, rungs: Rungs) -> None:
        self._rungs = rungs
        self._passed: dict[str, int] = {}
        self._asha: Any = AsyncHyperBandScheduler(
            time_attr="time",
            metric="value",
            mode="max",
            max_t=rungs.reduction_factor**rungs.count,
            grace_period=1,
            reduction_factor=rungs.reduction_factor,
        )

    def stops(self, key: str, *, step: int, planned_steps: int, value: float) -> bool:
        """Whether a trial is to be stopped after this report.

        Only the first report at or beyond a rung counts; Tune would also fill lower rungs with later values. At a rung
        a value that is no finite number stops its own trial and moves no cut-off: Tune would let NaN pass every rung.
        """
        if key not in self._passed:
            self._passed[key] = 0
            self._asha.on_trial_add(None, _Named(key))
        rung = self._rungs.reached(step, planned_steps)
        if step >= planned_steps or rung <= self._passed[key]:
            return False
        self._passed[key] = rung
        if not math.isfinite(value):
            return True
        result = {"time": self._rungs.reduction_factor ** (rung - 1), "value": value}
        return bool(self._asha.on_trial_result(None, _Named(key), result) == TrialScheduler.STOP)


class SeedwiseAsha(InOrder):
    """Stops a trial that is, at a rung, among the worse of those of its seed that came so far.

    Tune ends a stopped trial as it ends a finished one, so the mark is kept here (`stopped_at`).

    Args:
        keys: Trial keys, first to last. The references stand first, so that the others are compared with them.
        metric: The metric's key in a trial's report; larger is better.
        report_of: Reads the report out of what a trial returned to Tune.
        history: What earlier launches reported: the rungs are filled with it before anything runs.
    """

    def __init__(
        self,
        keys: Sequence[str],
        *,
        metric: str,
        report_of: Callable[[Mapping[str, Any]], Report],
        history: Iterable[TrialRecord] = (),
        rungs: Rungs | None = None,
    ) -> None:
        super().__init__(keys)
        self._stopped: dict[str, int] = {}
        self._metric_key = metric
        self._report_of = report_of
        self._rungs = rungs or Rungs()
        self._by_seed: dict[int, _AshaOfSeed] = {}
        for record in history:
            for report in record.reports:
                self._stops(record.key, record.seed, report)

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """STOP or CONTINUE, after a report without an outcome."""
        key, report = key_of(trial), self._report_of(result)
        if not self._stops(key, int(result["seed"]), report):
            return str(TrialScheduler.CONTINUE)
        self._stopped[key] = report["step"]
        return str(TrialScheduler.STOP)

    def stopped_at(self, key: str) -> int | None:
        """The step of the rung at which a trial was stopped."""
        return self._stopped.get(key)

    def _stops(self, key: str, seed: int, report: Report) -> bool:
        asha = self._by_seed.setdefault(seed, _AshaOfSeed(self._rungs))
        value = report.get("metrics", {}).get(self._metric_key, math.nan)
        return asha.stops(key, step=report["step"], planned_steps=report.get("planned_steps", 0), value=value)


def key_of(trial: TuneTrial) -> str:
    """Our key of one of Tune's trials."""
    return str(trial.config["trial"])
