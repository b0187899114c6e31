"""Which trial is stopped early.

An `EarlyStopper` compares each trial at a few points with the trials of its own seed that came as far: by ASHA (the
stopping variant of Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020), or by the median rule
(Golovin et al., "Google Vizier", 2017). It keeps nothing on disk: given the ledger's reports in their order, it makes
the same decisions again.
"""

from __future__ import annotations

import hashlib
import math
from statistics import fmean, median

import numpy as np

from mfm_tune.execution.settings import Stopping
from mfm_tune.program import Report
from mfm_tune.search_space import Asha, Median, Scheduler


class EarlyStopper:
    """Decide at each report of a trial whether it is stopped.

    A trial is compared with trials of its own seed. A value that is no finite number stops its own trial, where it is
    looked at, and moves no cut-off: Tune would let NaN pass every rung. A missing one is like NaN.

    Args:
        stopping: By which rule and number, and what the ledger has: the rungs are filled with it before anything runs.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._stopped: dict[str, int] = {}
        self._rules: dict[tuple[int, int], AshaRule | MedianRule] = {}
        for key, seed, report in stopping.history:
            self.stops(key, seed, report)

    def stops(self, key: str, seed: int, report: Report) -> bool:
        """Whether a trial is to be stopped after this report. A report of a step that is known changes nothing."""
        scheduler, criterion = self._stopping.scheduler, self._stopping.criterion
        bracket = bracket_of(key, scheduler)
        rule = self._rules.setdefault((seed, bracket), _rule_of(scheduler, bracket))
        value = criterion.oriented(report.get("metrics", {}).get(criterion.key, math.nan))
        step, planned_steps = report["step"], report.get("planned_steps", 0)
        if not rule.stops(key, step=step, planned_steps=planned_steps, value=value) or key in self._stopping.never:
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


def _rule_of(scheduler: Scheduler, bracket: int) -> AshaRule | MedianRule:
    return AshaRule(scheduler, bracket) if isinstance(scheduler, Asha) else MedianRule(scheduler)


class AshaRule:
    """ASHA in one bracket: a trial stops at a rung where its value lies below the best 1 / reduction factor of those
    that came before it. (Linear percentiles, as Ray Tune's `AsyncHyperBandScheduler`; a test compares the two.)"""

    def __init__(self, asha: Asha, bracket: int) -> None:
        self._rule, self._bracket = asha, bracket
        self._passed: dict[str, int] = {}
        self._values: dict[int, list[float]] = {}

    def stops(self, key: str, *, step: int, planned_steps: int, value: float) -> bool:
        """Only the first report at or beyond a rung counts, and fills no lower rung."""
        rung = self._rule.reached(step, planned_steps) - self._bracket
        if step >= planned_steps or rung <= self._passed.get(key, 0):
            return False
        self._passed[key] = rung
        if not math.isfinite(value):
            return True
        before = self._values.setdefault(rung, [])
        below = bool(before) and value < np.percentile(before, 100 * (1 - 1 / self._rule.reduction_factor))
        before.append(value)
        return bool(below)


class MedianRule:
    """The median rule over shares of the planned steps. (Ray's refuses to take a report again that it has had.)"""

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
