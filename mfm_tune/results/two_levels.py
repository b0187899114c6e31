"""How much of a spread lies between groups and how much within them: a balanced one-way layout with random effects.

y_ij = mean + between_i + within_ij for k groups i (sets of initial weights, say) of n numbers j (seeds) each, both
parts normal and all of them independent. The analysis of variance gives mean squares B between groups (k - 1 degrees of
freedom) and W within them (k (n - 1)): the variance within is estimated by W, that between by (B - W) / n, 0 where this
is negative.

Numbers of one seed share the order of images in all groups. In differences to a baseline of the group's own that part
cancels; in the numbers themselves it makes the interval of the mean too narrow, as a baseline that groups share would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, variance

from mfm_tune.results.statistics import CONFIDENCE, t_quantile

LOWER, UPPER = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2  # the two tails


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class TwoLevels:
    """What k groups of n numbers each show.

    Args:
        mean: Over groups and numbers; its interval is for the mean of all groups there could be, those drawn being k
            of them: t with k - 1 degrees of freedom, exact for independent numbers.
        between: Standard deviation of the groups' true means; Williams' interval (1962), whose coverage is at least
            90 % by proof and about 95 % (a simulation in the tests).
        within: Standard deviation of numbers of one group; chi-squared with k (n - 1) degrees of freedom, exact.
        groups, each: k and n.
    """

    mean: Estimate
    between: Estimate
    within: Estimate
    groups: int
    each: int


def two_levels(groups: Sequence[Mapping[int, float]]) -> TwoLevels | None:
    """The analysis over the seeds that all groups with a number have; None for fewer than two groups or two such seeds,
    and for no spread.

    Args:
        groups: Seed -> number, of each group.
    """
    measured = [group for group in groups if group]
    seeds = sorted(set(measured[0]).intersection(*measured)) if measured else []
    n, k = len(seeds), len(measured)
    if k < 2 or n < 2:
        return None
    numbers = [[group[seed] for seed in seeds] for group in measured]
    means = [fmean(group) for group in numbers]
    between, within = n * variance(means), fmean(variance(group) for group in numbers)
    if not within > 0 or not math.isfinite(between):
        return None
    half = t_quantile(UPPER, k - 1) * math.sqrt(between / (k * n))
    mean, inner = fmean(means), k * (n - 1)

    def part_between(tail: float) -> float:
        """The bound whose F and chi-squared quantiles are those of this tail."""
        above = between - _f_quantile(tail, k - 1, inner) * within
        return _root(above * (k - 1) / (n * _chi2_quantile(tail, k - 1)))

    return TwoLevels(
        mean=Estimate(value=mean, low=mean - half, high=mean + half),
        between=Estimate(value=_root((between - within) / n), low=part_between(UPPER), high=part_between(LOWER)),
        within=Estimate(
            value=_root(within),
            low=_root(within * inner / _chi2_quantile(UPPER, inner)),
            high=_root(within * inner / _chi2_quantile(LOWER, inner)),
        ),
        groups=k,
        each=n,
    )


def _root(square: float) -> float:
    return math.sqrt(max(0.0, square))


@cache
def _f_quantile(p: float, df: int, df_below: int) -> float:
    from scipy.stats import f

    return float(f.ppf(p, df, df_below))


@cache
def _chi2_quantile(p: float, df: int) -> float:
    from scipy.stats import chi2

    return float(chi2.ppf(p, df))
