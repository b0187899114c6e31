"""`--simulate`: what early stopping would have saved, and which winner it would have picked.

Trials that finished are run again on a virtual clock: their learning curves are the recorded ones, each block of steps
takes what a step of the trial took, and they queue for a number of slots. The scheduler is the one that trials run
under. Of one set of curves only the order of the starts is chance, so that several orders are drawn. Nothing is
trained, and no Ray is started.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mfm_tune.criteria import Criterion, digits_of_a_seed
from mfm_tune.digits import number
from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.settings import Stopping
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.planning.forecast import duration, seconds_a_step
from mfm_tune.program import Outcome, Report

ORDERS = 20
NAMED = 3  # other winners that are named


@dataclass(frozen=True)
class Curve:
    """A finished trial: its recorded reports, and the seconds of a step, evaluations included."""

    key: str
    config_id: str
    seed: int
    reports: tuple[Report, ...]
    step_s: float

    @property
    def steps(self) -> int:
        return self.reports[-1]["step"]

    def value(self, criterion: Criterion) -> float:
        """The criterion after the last step, larger is better; NaN where it was not measured."""
        return criterion.oriented(self.reports[-1]["metrics"].get(criterion.key, math.nan))


@dataclass(frozen=True)
class Replay:
    """What came of running curves under a scheduler.

    Args:
        steps: Steps trained, all trials together.
        seconds: Virtual seconds from the first start to the last end.
        stopped: Trials that the scheduler stopped, and at which step.
    """

    steps: int
    seconds: float
    stopped: Mapping[str, int]


def curves_of(records: Sequence[TrialRecord]) -> tuple[Curve, ...]:
    """The records that can be replayed: finished, with reports and durations."""
    curves = []
    for record in records:
        step_s = seconds_a_step(record)
        if record.outcome is Outcome.FINISHED and record.reports and step_s is not None:
            curves.append(Curve(record.key, record.config_id, record.seed, record.reports, step_s))
    return tuple(curves)


def replay(curves: Sequence[Curve], stopper: EarlyStopper | None, slots: int) -> Replay:
    """Run curves in order, each on the slot that is free first, until they end or are stopped."""
    waiting = list(reversed(curves))
    busy: list[tuple[float, int, Curve, int]] = []  # when a block ends, order of its start, whose it is, which one
    number = steps = 0
    now = 0.0
    stopped: dict[str, int] = {}

    def begin(curve: Curve, block: int) -> None:
        nonlocal number
        number += 1
        heapq.heappush(busy, (now + _block(curve, block) * curve.step_s, number, curve, block))

    while busy or waiting:
        while waiting and len(busy) < slots:
            begin(waiting.pop(), 0)
        now, _, curve, block = heapq.heappop(busy)
        steps += _block(curve, block)
        if block + 1 == len(curve.reports):
            continue
        if stopper is not None and stopper.stops(curve.key, curve.seed, curve.reports[block]):
            stopped[curve.key] = curve.reports[block]["step"]
        else:
            begin(curve, block + 1)
    return Replay(steps, now, stopped)


def _block(curve: Curve, block: int) -> int:
    """Steps of a block."""
    return curve.reports[block]["step"] - (curve.reports[block - 1]["step"] if block else 0)


# --------------------------------------------------------------------------------------------------------------------
# With early stopping and without
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The config that a seed's trials speak for, under the full budget and as a search ranks them that stops trials.

    `regret` is how much better the full budget's winner is, both after all steps.
    """

    seed: int
    full: str
    early: str
    regret: float


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """One start order, without early stopping and with it."""

    full: Replay
    early: Replay
    picks: tuple[Pick, ...]

    @property
    def steps_saved(self) -> float:
        """Share of the steps, percent."""
        return 100 * (1 - self.early.steps / self.full.steps)

    @property
    def time_saved(self) -> float:
        """Share of the wall-clock, percent."""
        return 100 * (1 - self.early.seconds / self.full.seconds)


def simulate(
    curves: Sequence[Curve],
    stopping: Stopping,
    slots: int,
    *,
    first: Sequence[str] = (),
    winners: Collection[str] | None = None,
    orders: int = ORDERS,
) -> tuple[Simulated, ...]:
    """Run curves without and with early stopping, in the given order and in others drawn with the seeds 1, 2, ...

    Args:
        stopping: The rule, and the criterion by which it compares and by which winners win.
        first: Ids of configs that start first whatever the order, and that are never stopped (the references).
        winners: Ids of configs that can win; None for all.
    """
    stopping = replace(stopping, never=frozenset(curve.key for curve in curves if curve.config_id in first))
    rivals = [curve for curve in curves if winners is None or curve.config_id in winners]
    results = []
    for order in range(orders):
        drawn = _ordered(curves, first, order)
        full, early = replay(drawn, None, slots), replay(drawn, EarlyStopper(stopping), slots)
        results.append(Simulated(full=full, early=early, picks=_picks(rivals, stopping.criterion, early.stopped)))
    return tuple(results)


def _ordered(curves: Sequence[Curve], first: Sequence[str], order: int) -> list[Curve]:
    """Seed after seed; within a seed `first`, then the others as given (order 0) or shuffled."""
    place = {curve.key: number for number, curve in enumerate(curves)}
    if order:
        shuffled = list(curves)
        random.Random(order).shuffle(shuffled)
        place = {curve.key: number for number, curve in enumerate(shuffled)}
    rank = {config: number for number, config in enumerate(first)}
    seeds = list(dict.fromkeys(curve.seed for curve in curves))
    return sorted(
        curves, key=lambda curve: (seeds.index(curve.seed), rank.get(curve.config_id, len(rank)), place[curve.key])
    )


def _picks(curves: Sequence[Curve], criterion: Criterion, stopped: Mapping[str, int]) -> tuple[Pick, ...]:
    picks = []
    for seed in dict.fromkeys(curve.seed for curve in curves):
        scored = [curve for curve in curves if curve.seed == seed and math.isfinite(curve.value(criterion))]
        if scored:
            full = max(scored, key=lambda curve: curve.value(criterion))
            early = max(scored, key=lambda curve: _seen(curve, criterion, stopped.get(curve.key)))
            regret = full.value(criterion) - early.value(criterion)
            picks.append(Pick(seed=seed, full=full.config_id, early=early.config_id, regret=regret))
    return tuple(picks)


def _seen(curve: Curve, criterion: Criterion, rung: int | None) -> tuple[bool, int, float]:
    """By what a search ranks a trial: finished ones, then stopped ones, those that came further first."""
    if rung is None:
        return True, 0, curve.value(criterion)
    report = next(reported for reported in curve.reports if reported["step"] == rung)
    value = criterion.oriented(report["metrics"].get(criterion.key, math.nan))
    return False, rung, value if math.isfinite(value) else -math.inf


# --------------------------------------------------------------------------------------------------------------------
# In words
# --------------------------------------------------------------------------------------------------------------------


def describe_simulation(results: Sequence[Simulated], names: Mapping[str, str], stopping: Stopping) -> list[str]:
    """The simulation as lines for people. `names` are those of the configs by id."""
    full, early = [result.full for result in results], [result.early for result in results]
    steps = fmean(run.steps for run in early)
    return [
        f"  steps        {full[0].steps:,} -> {steps:,.0f} with early stopping: "
        + _range([result.steps_saved for result in results]),
        f"  wall-clock   {duration(fmean(run.seconds for run in full))} -> "
        f"{duration(fmean(run.seconds for run in early))}: " + _range([result.time_saved for result in results]),
        f"  stopped      {fmean(len(run.stopped) for run in early):.1f} trials",
        *(
            _winner(seed, results, names, stopping.criterion)
            for seed in dict.fromkeys(p.seed for p in results[0].picks)
        ),
        "  (after all steps; the start order is drawn; what all are compared with stands first and is never stopped)",
    ]


def _range(saved: Sequence[float]) -> str:
    return f"{fmean(saved):.0f} % saved ({min(saved):.0f} to {max(saved):.0f} over {len(saved)} start orders)"


def _winner(seed: int, results: Sequence[Simulated], names: Mapping[str, str], criterion: Criterion) -> str:
    picks = [pick for result in results for pick in result.picks if pick.seed == seed]
    hits = sum(pick.early == pick.full for pick in picks)
    others = dict.fromkeys(names.get(pick.early, pick.early) for pick in picks if pick.early != pick.full)
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    instead = f", else {', '.join(list(others)[:NAMED])}{more}" if others else ""
    full, digits = names.get(picks[0].full, picks[0].full), digits_of_a_seed(criterion.key)
    return (
        f"  seed {seed:<6}  best {criterion.label}: {full}; picked in {hits} of {len(picks)} orders{instead}; "
        f"mean regret {number(fmean(pick.regret for pick in picks), digits)}, "
        f"worst {number(max(pick.regret for pick in picks), digits)}"
    )
