"""Mean, spread, and what a paired difference over seeds can show.

Cells of one seed share initial weights, batches and crops, so two configs are compared seed by seed: the interval is
the 95 % t-interval of the per-seed differences. Half its width, t(0.975, n - 1) * s / sqrt(n), is the smallest mean
difference whose interval would exclude zero on these seeds.

Where a study was asked for a half-width, it ran in two stages (C. Stein, A two-sample test for a linear hypothesis
whose power is independent of the variance, 1945): s and the degrees of freedom are those of the first stage alone, n
that of both, and the coverage is exact although s decides n.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import islice
from statistics import NormalDist, fmean, stdev

from mfm_tune.criteria import criterion_of
from mfm_tune.ledger.stages import FirstStage

CONFIDENCE = 0.95
MOST_SEEDS = 50  # beyond them nobody asks how many a difference would take
MOST_PAIRS = 10**9  # counted: no study has more seeds


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation of n numbers; None where n is too small for one (0 and 1)."""

    mean: float | None
    std: float | None
    n: int


class Verdict(Enum):
    """What an interval shows of a difference."""

    BETTER = "better"  # the whole interval lies on the better side of 0
    WORSE = "worse"  # the whole interval lies on the other side
    INCONCLUSIVE = "inconclusive"  # it contains 0, or there are too few seeds for one


_VERDICTS: Mapping[float, Verdict] = {1: Verdict.BETTER, -1: Verdict.WORSE, 0: Verdict.INCONCLUSIVE}


def sign_of(low: float | None, high: float | None) -> int:
    """1 where an interval lies above 0, -1 where it lies below, 0 where it contains 0 and where there is none."""
    if low is not None and low > 0:
        return 1
    return -1 if high is not None and high < 0 else 0


@dataclass(frozen=True, kw_only=True)
class Paired(Summary):
    """Differences a - b over the seeds that both have.

    Args:
        per_seed: Seed -> difference, seeds rising.
        mean, std, n: Of the differences.
        smallest_visible: Half the width of the mean's 95 % t-interval; None for fewer than 2 seeds.
        first: The first stage, where the interval is that of the two-stage procedure.
    """

    per_seed: Mapping[int, float]
    smallest_visible: float | None
    first: FirstStage | None = None

    @property
    def of_first_stage(self) -> dict[int, float]:
        """Seed -> difference, of the first stage; of all seeds where there was one stage."""
        return {seed: each for seed, each in self.per_seed.items() if self.first is None or seed in self.first.pairs}

    @property
    def low(self) -> float | None:
        """Lower end of the interval; None for fewer than 2 seeds."""
        return None if self.mean is None or self.smallest_visible is None else self.mean - self.smallest_visible

    @property
    def high(self) -> float | None:
        """Upper end of the interval; None for fewer than 2 seeds."""
        return None if self.mean is None or self.smallest_visible is None else self.mean + self.smallest_visible

    @property
    def seeds_to_tell(self) -> int | None:
        """How many seeds would tell this mean from 0 if it and the spread stayed as they are: the smallest n at which
        half the interval, t(0.975, n - 1) * s / sqrt(n), is below |mean|. None where that is more than `MOST_SEEDS`,
        for fewer than 2 seeds, and in two stages, whose interval further seeds do not narrow so."""
        if not self.mean or self.std is None or self.first is not None:
            return None
        ratio = self.std / abs(self.mean)
        return next((n for n in range(2, MOST_SEEDS + 1) if _half_width(ratio, n, n) < 1), None)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero, else 0."""
        return sign_of(self.low, self.high)

    def verdict(self, metric: str) -> Verdict:
        """Better or worse where the interval excludes zero, else inconclusive.

        Args:
            metric: The key of what the differences are of.
        """
        return _VERDICTS[criterion_of(metric).oriented(self.sign)]

    @property
    def p_value(self) -> float | None:
        """Of the two-sided paired t-test against 0; None for fewer than 2 seeds."""
        if self.mean is None or self.std is None:
            return None
        std, df = (self.std, self.n - 1) if self.first is None else (self.first.std, self.first.df)
        if std == 0:
            return 1.0 if self.mean == 0 else 0.0
        angle = math.atan(abs(self.mean) / std * math.sqrt(self.n / df))
        return max(0.0, 1 - _share_within(angle, df))


def holm(p_values: Sequence[float]) -> tuple[bool, ...]:
    """Which null hypotheses Holm's step-down procedure rejects, with a family-wise error of 5 % (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        if p_values[index] > (1 - CONFIDENCE) / (len(p_values) - rank):
            break
        rejected[index] = True
    return tuple(rejected)


def summary(values: Iterable[float]) -> Summary:
    """Mean and sample standard deviation (divisor n - 1); none of numbers whose sum no float holds."""
    numbers = tuple(values)
    try:
        mean = fmean(numbers) if numbers else None
        std = stdev(numbers) if len(numbers) > 1 and all(map(math.isfinite, numbers)) else None
    except OverflowError:
        return Summary(mean=None, std=None, n=len(numbers))
    return Summary(mean=mean, std=std, n=len(numbers))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], first: FirstStage | None = None) -> Paired:
    """The differences a - b, seed by seed.

    Args:
        first: The first stage, where the two were compared in two stages: the differences are those of its seeds and
            of as many further ones as it asks for. None takes all seeds that both have.
    """
    both = a.keys() & b.keys()
    if first is not None and not both.issuperset(first.pairs):
        first = None  # these are not the trials of the procedure
    seeds = sorted(both) if first is None else _of_both_stages(first, both)
    per_seed = {seed: a[seed] - b[seed] for seed in sorted(seeds)}
    whole = summary(per_seed.values())
    mean, std, n = whole.mean, whole.std, whole.n
    half = None
    if mean is not None and std is not None:
        half = _half_width(std, n, n) if first is None else _half_width(first.std, len(first.pairs), n)
    return Paired(per_seed=per_seed, mean=mean, std=std, n=n, smallest_visible=half, first=first)


def _of_both_stages(first: FirstStage, both: Collection[int]) -> list[int]:
    further = (seed for seed in first.further if seed in both)
    return [*first.pairs, *islice(further, first.needed - len(first.pairs))]


def pairs_needed(std: float, n: int, half_width: float) -> int:
    """How many pairs of seeds a 95 % interval of at most this half-width takes, by Stein's rule.

    Args:
        std, n: Sample standard deviation and number of the differences of the first stage.
    """
    ratio = _quantile(n) * std / half_width
    return max(n, math.ceil(min(ratio * ratio, MOST_PAIRS)))


@cache
def _quantile(n: int) -> float:
    return t_quantile((1 + CONFIDENCE) / 2, n - 1)


def _half_width(std: float, of: int, n: int) -> float:
    """Of the interval of a mean of n numbers, with the spread `of` so many."""
    return _quantile(of) * std / math.sqrt(n)


def t_quantile(p: float, df: int) -> float:
    """The quantile of Student's t-distribution with an integer number of degrees of freedom.

    Args:
        p: Probability in (0, 1).
        df: Degrees of freedom, at least 1.

    Raises:
        ValueError: p or df is out of range.
    """
    if not 0 < p < 1:
        raise ValueError(f"p must lie in (0, 1), got {p!r}.")
    if isinstance(df, bool) or not isinstance(df, int) or df < 1:
        raise ValueError(f"df must be an integer of at least 1, got {df!r}.")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    if p == 0.5:
        return 0.0
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    return math.sqrt(df) * math.tan(_angle(2 * p - 1, df))


def _angle(share: float, df: int) -> float:
    """The angle atan(t / sqrt(df)) at which P(|T| <= t) is the share, by bisection to the last bit."""
    low, high = 0.0, math.pi / 2
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        if _share_within(middle, df) < share:
            low = middle
        else:
            high = middle


def _share_within(angle: float, df: int) -> float:
    """P(|T| <= sqrt(df) tan(angle)): the finite sums of Abramowitz and Stegun, 26.7.3 (odd df) and 26.7.4 (even df)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    square = cosine * cosine
    odd = df % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(df // 2):
        total += term
        term *= square * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


# --------------------------------------------------------------------------------------------------------------------
# Rank correlation
# --------------------------------------------------------------------------------------------------------------------


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks, ties sharing their mean rank.

    None for fewer than three pairs, and where one side has no two different numbers.
    """
    if not _have_correlation(first, second):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's rank correlation (tau-b): concordant minus discordant pairs, corrected for ties.

    None for fewer than three pairs, and where one side has no two different numbers.
    """
    if not _have_correlation(first, second):
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def _have_correlation(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) > 2 and len(set(first)) > 1 and len(set(second)) > 1


def smallest_correlations(n: int) -> tuple[float, float] | None:
    """The smallest ρ and the smallest τ of n pairs that two-sided tests tell from none at 5 %.

    By Student's t with n - 2 degrees of freedom, and by the normal approximation to Kendall's score. None for fewer
    than ten pairs, where they are too small by more than 0.02.
    """
    if n < 10:
        return None
    quantile = t_quantile((1 + CONFIDENCE) / 2, n - 2)
    tau = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    return quantile / math.sqrt(n - 2 + quantile**2), tau
