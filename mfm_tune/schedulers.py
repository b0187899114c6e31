"""Which trial runs next, and which one is stopped early. Imports ray.

`InOrder` starts trials in the order given. A `Stopper` compares each trial at a few points with the trials of its own
seed that came as far: by Ray Tune's ASHA (`AsyncHyperBandScheduler`, the stopping variant of Li et al., "A System for
Massively Parallel Hyperparameter Tuning", 2020), or by the median rule (Golovin et al., "Google Vizier", 2017). It
keeps nothing on disk: told the ledger's reports in their order, it knows again what it knew.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Protocol

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from mfm_tune.engine import Stopping
from mfm_tune.program import Report
from mfm_tune.search_space import Asha, Median, Scheduler


class InOrder(FIFOScheduler):
    """Starts trials in the order of `keys`, and a trial that lost its worker before any that has not begun.

    Tune's own queue forgets the order: a retried trial goes to its end, and a free worker takes any trial that waits.

    Args:
        keys: Trial keys, first to last; trials that are not named follow in the order in which they came.
        stopper: Stops trials early; None lets all go on.
        report_of: Reads the report out of what a trial returned to Tune.
    """

    def __init__(
        self,
        keys: Sequence[str],
        stopper: Stopper | None = None,
        report_of: Callable[[Mapping[str, Any]], Report] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rank = {key: rank for rank, key in enumerate(keys)}
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
        """The step of the rung at which a trial was stopped; None while it may go on.

        Tune ends a stopped trial as it ends a finished one, so the mark is kept by the stopper.
        """
        return None if self._stopper is None else self._stopper.stopped_at(key)


class Stopper:
    """Judges each report of each trial.

    A trial is compared with trials of its own seed. A value that is no finite number stops its own trial, where it is
    looked at, and moves no cut-off: Tune would let NaN pass every rung. A missing one is like NaN.

    Args:
        stopping: By which rule and number, and what the ledger has: the rungs are filled with it before anything runs.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._stopped: dict[str, int] = {}
        self._judges: dict[tuple[int, int], _Judge] = {}
        for key, seed, report in stopping.history:
            self.stops(key, seed, report)

    def stops(self, key: str, seed: int, report: Report) -> bool:
        """Whether a trial is to be stopped after this report. A report of a step that is known changes nothing."""
        scheduler, criterion = self._stopping.scheduler, self._stopping.criterion
        bracket = bracket_of(key, scheduler)
        judge = self._judges.setdefault((seed, bracket), _judge(scheduler, bracket))
        value = criterion.oriented(report.get("metrics", {}).get(criterion.key, math.nan))
        step, planned_steps = report["step"], report.get("planned_steps", 0)
        if not judge.stops(key, step=step, planned_steps=planned_steps, value=value) or key in self._stopping.never:
            return False
        self._stopped[key] = step
        return True

    def stopped_at(self, key: str) -> int | None:
        """The step at which a trial was stopped."""
        return self._stopped.get(key)


def bracket_of(key: str, scheduler: Scheduler) -> int:
    """A trial's bracket: drawn from its key, so that a restart draws the same; weighted as Ray's, by the softmax of the
    number of rungs."""
    if not isinstance(scheduler, Asha) or scheduler.brackets == 1:
        return 0
    weights = [math.exp(scheduler.rungs - bracket) for bracket in range(scheduler.brackets)]
    drawn = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32 * sum(weights)
    for bracket, weight in enumerate(weights):
        drawn -= weight
        if drawn < 0:
            return bracket
    return scheduler.brackets - 1


class _Judge(Protocol):
    """Compares trials of one seed (and bracket); larger is better."""

    def stops(self, key: str, *, step: int, planned_steps: int, value: float) -> bool: ...


def _judge(scheduler: Scheduler, bracket: int) -> _Judge:
    return _AshaJudge(scheduler, bracket) if isinstance(scheduler, Asha) else _MedianJudge(scheduler)


@dataclass(frozen=True)
class _Named:
    """What ASHA needs of a trial: an id. Ours is the key, which is the same one after a restart."""

    trial_id: str


class _AshaJudge:
    """Ray's ASHA in one bracket. Its time is 1 at the first rung, r at the second, r² at the third."""

    def __init__(self, asha: Asha, bracket: int) -> None:
        self._rule, self._bracket = asha, bracket
        self._passed: dict[str, int] = {}
        self._asha: Any = AsyncHyperBandScheduler(
            time_attr="time",
            metric="value",
            mode="max",
            max_t=asha.reduction_factor ** (asha.rungs - bracket),
            grace_period=1,
            reduction_factor=asha.reduction_factor,
        )

    def stops(self, key: str, *, step: int, planned_steps: int, value: float) -> bool:
        """Only the first report at or beyond a rung counts; Tune would also fill lower rungs with later values."""
        if key not in self._passed:
            self._passed[key] = 0
            self._asha.on_trial_add(None, _Named(key))
        rung = self._rule.reached(step, planned_steps) - self._bracket
        if step >= planned_steps or rung <= self._passed[key]:
            return False
        self._passed[key] = rung
        if not math.isfinite(value):
            return True
        result = {"time": self._rule.reduction_factor ** (rung - 1), "value": value}
        return bool(self._asha.on_trial_result(None, _Named(key), result) == TrialScheduler.STOP)


class _MedianJudge:
    """The median rule over shares of the planned steps. (Ray's refuses to be told again what it has judged.)"""

    def __init__(self, rule: Median) -> None:
        self._rule = rule
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def stops(self, key: str, *, step: int, planned_steps: int, value: float) -> bool:
        """Whether the best value so far lies below the median of the others' means up to this share of the steps."""
        share = step / planned_steps if planned_steps else 1.0
        curve = self._curves.setdefault(key, [])
        if curve and share <= curve[-1][0]:
            return False
        looked_at = self._rule.grace <= share < 1
        if not math.isfinite(value):
            return looked_at
        curve.append((share, value))
        means = [mean for other in self._curves if other != key and (mean := self._mean(other, share)) is not None]
        enough = len(means) >= self._rule.trials
        return looked_at and enough and max(each for _, each in curve) < median(means)

    def _mean(self, key: str, share: float) -> float | None:
        """The mean of a trial's values up to a share of its steps, if it came as far."""
        curve = self._curves[key]
        if not curve or curve[-1][0] < share:
            return None
        values = [value for at, value in curve if self._rule.grace <= at <= share]
        return fmean(values) if values else None


def key_of(trial: TuneTrial) -> str:
    """Our key of one of Tune's trials."""
    return str(trial.config["trial"])
