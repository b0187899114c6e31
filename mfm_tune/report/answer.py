"""The answer to "does A beat B" in one line: the paired difference with its interval, and what it shows."""

from __future__ import annotations

from collections.abc import Sequence

from mfm_tune.criteria import digits_of, is_ranked, unit
from mfm_tune.ledger.state import LedgerState
from mfm_tune.report.numbers import interval_name, metric_name, signed
from mfm_tune.results.comparison import Side, metrics_of
from mfm_tune.results.differences import newest_stages
from mfm_tune.results.names import metric_of
from mfm_tune.results.statistics import Paired, Verdict, paired_difference

MIOU = "student/miou"


def answer(state: LedgerState, a: Side, b: Side, wanted: Sequence[str] = ()) -> str:
    """Whether A beats B, in the metric by which the ledger's studies compare them.

    Args:
        wanted: Only metrics whose names hold one of these; empty takes the metric of the studies.
    """
    if a.id == b.id:
        return f"the same: A and B are one, {a.name}"
    metric = chosen_metric(state, a, b, wanted)
    if metric is None:
        return f"not measured: no finished trial of {a.name} or {b.name} has a metric to compare"
    first = newest_stages(state, a.result.config_id, b.result.config_id).get(metric)
    paired = paired_difference(a.result.finals(metric), b.result.finals(metric), first)
    return _sentence(_called(a, b), metric, paired)


def chosen_metric(state: LedgerState, a: Side, b: Side, wanted: Sequence[str] = ()) -> str | None:
    """The metric that the two are compared by where both are declared, else mIoU, else the first that there is."""
    keys = metrics_of(a, b, wanted)
    declared = metric_of(state, a.result.config_id, b.result.config_id)
    return next((each for each in (declared, MIOU) if each in keys), next(iter(keys), None))


def _called(a: Side, b: Side) -> tuple[str, str]:
    """Their names; their ids where both have one name, as two trials of a config have."""
    return (a.name, b.name) if a.name != b.name else (a.id, b.id)


def _sentence(names: tuple[str, str], metric: str, paired: Paired) -> str:
    (first, second), of = names, unit(metric)
    minus = f"{first} minus {second} is {quantity(metric, paired.mean)}{of}"
    name = metric_name(metric)
    if paired.mean is None:
        return f"not measured: no seed has a finished trial of both {first} and {second} with a number of {name}"
    if paired.low is None or paired.high is None:
        seeds = ", ".join(map(str, paired.per_seed))
        return f"inconclusive: {minus} (seed {seeds} alone, {name}); an interval needs two seeds"
    if not any(paired.per_seed.values()):
        return f"no difference: {first} and {second} are equal on each of {paired.n} seeds ({name})"
    if not paired.sign:
        return f"inconclusive: {minus} ({_interval(metric, paired, 1)}, {name})"
    if not is_ranked(metric):
        where = "above" if paired.sign > 0 else "below"
        return f"{first} is {where} {second}: {quantity(metric, paired.mean)} ({_interval(metric, paired, 1)}, {name})"
    wins = paired.verdict(metric) is Verdict.BETTER
    winner, loser, sign = (first, second, 1) if wins else (second, first, -1)
    gain = quantity(metric, sign * paired.mean)
    return f"{winner} beats {loser} by {gain}{of} ({_interval(metric, paired, sign)}, {name})"


def _interval(metric: str, paired: Paired, sign: int) -> str:
    assert paired.low is not None
    assert paired.high is not None
    low, high = sorted((sign * paired.low, sign * paired.high))
    name = "" if paired.first is None else f"{interval_name(paired)} "
    return f"{name}95 % {quantity(metric, low)} to {quantity(metric, high)}, {paired.n} seeds"


def quantity(metric: str, value: float | None) -> str:
    """A difference in a metric, signed, with its digits."""
    return signed(value, digits_of(metric))
