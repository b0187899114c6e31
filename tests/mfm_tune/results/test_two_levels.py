"""Variation between groups and within them, on a textbook example and on drawn numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mfm_tune.results.two_levels import Estimate, two_levels

# Yield of dyestuff of five preparations from each of six batches, grams (Davies, Statistical Methods in Research and
# Production, 1947): the example of random effects, with variances 1764.05 and 2451.25 about a mean of 1527.5.
DYESTUFF = (
    (1545, 1440, 1440, 1520, 1580),
    (1540, 1555, 1490, 1560, 1495),
    (1595, 1550, 1605, 1510, 1560),
    (1445, 1440, 1595, 1465, 1545),
    (1595, 1630, 1515, 1635, 1625),
    (1520, 1455, 1450, 1480, 1445),
)


def seeded(groups: Sequence[Sequence[float]]) -> list[dict[int, float]]:
    """Numbers by seed."""
    return [dict(enumerate(group)) for group in groups]


def test_the_textbook_example_has_its_variances() -> None:
    """Intervals by the printed quantiles: t 2.5706, chi2 12.401 and 39.364 (24), 0.8312 and 12.833 (5), F 3.1548 and
    0.1593 (5 and 24)."""
    found = two_levels(seeded(DYESTUFF))
    assert found is not None
    assert (found.groups, found.each, found.mean.value) == (6, 5, 1527.5)
    assert found.between.value**2 == pytest.approx(1764.05)
    assert found.within.value**2 == pytest.approx(2451.25)
    half = 2.5706 * (11271.5 / 30) ** 0.5
    assert (found.mean.low, found.mean.high) == pytest.approx((1527.5 - half, 1527.5 + half), rel=1e-4)
    within = [(24 * 2451.25 / quantile) ** 0.5 for quantile in (39.364, 12.401)]
    assert (found.within.low, found.within.high) == pytest.approx(within, rel=1e-4)
    pairs = ((3.1548, 12.833), (0.1593, 0.8312))
    between = [(5 * (11271.5 - ratio * 2451.25) / (5 * quantile)) ** 0.5 for ratio, quantile in pairs]
    assert (found.between.low, found.between.high) == pytest.approx(between, rel=1e-3)


def covers(estimate: Estimate, truth: float) -> bool:
    """Whether the interval holds it."""
    return estimate.low <= truth <= estimate.high


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_the_intervals_hold_the_truth_as_often_as_they_promise(between: float) -> None:
    """Five groups of three, as the study of initial weights has: 95 % within two standard errors of 1,000 draws."""
    draws, error = np.random.default_rng(1), 2 * (0.05 * 0.95 / 1000) ** 0.5
    hits = np.zeros(3)
    for _ in range(1000):
        groups = (draws.normal(3.0, between, (5, 1)) + draws.normal(0.0, 1.0, (5, 3))).tolist()
        found = two_levels(seeded(groups))
        assert found is not None
        hits += (covers(found.mean, 3.0), covers(found.between, between), covers(found.within, 1.0))
    mean, part, within = hits / 1000
    assert mean == pytest.approx(0.95, abs=error)
    assert within == pytest.approx(0.95, abs=error)
    assert part >= 0.95 - error


def test_what_cannot_be_divided_is_none() -> None:
    """One group, one number a group, numbers without spread."""
    for groups in ([[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 1.0], [2.0, 2.0]], [], [[], [1.0, 2.0]]):
        assert two_levels(seeded(groups)) is None


def test_groups_are_compared_on_the_seeds_that_all_of_them_have() -> None:
    """A trial that diverged costs its seed; a group without any number is left out."""
    numbers = [{0: 1.0, 1: 2.0, 2: 4.0}, {0: 3.0, 2: 4.5}, {}, {2: 7.0, 0: 5.0}]
    assert two_levels(numbers) == two_levels([{0: 1.0, 2: 4.0}, {0: 3.0, 2: 4.5}, {0: 5.0, 2: 7.0}])
