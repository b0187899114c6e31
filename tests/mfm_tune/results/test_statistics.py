"""Intervals, p-values and Holm's procedure against scipy and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mfm_tune.results.statistics import (
    Verdict,
    holm,
    kendall,
    paired_difference,
    smallest_correlations,
    spearman,
    summary,
    t_quantile,
)

MIOU = "student/miou"
numbers = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


@given(p=st.floats(0.0005, 0.9995), df=st.integers(1, 300))
def test_quantiles_are_those_of_scipy(p: float, df: int) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-10)


def test_three_seeds_take_the_tabulated_quantile() -> None:
    assert t_quantile(0.975, 2) == pytest.approx(4.302652729911275)
    assert t_quantile(0.975, 1) == pytest.approx(12.706204736432095)


@pytest.mark.parametrize(("p", "df"), [(0.0, 2), (1.0, 2), (math.nan, 2), (0.9, 0), (0.9, True), (0.9, 2.0)])
def test_a_quantile_out_of_range_is_refused(p: float, df: int) -> None:
    with pytest.raises(ValueError, match="must"):
        t_quantile(p, df)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_a_paired_difference_is_that_of_scipys_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    a = {seed: first for seed, (first, _) in enumerate(pairs)}
    b = {seed: second for seed, (_, second) in enumerate(pairs)}
    found = paired_difference(a, b)
    differences = np.array([first - second for first, second in pairs])
    assert found.mean == pytest.approx(differences.mean(), abs=1e-9)
    assert found.std == pytest.approx(differences.std(ddof=1), abs=1e-9)
    if differences.std(ddof=1) < 1e-6:  # scipy loses precision there, and warns
        return
    test = stats.ttest_rel([first for first, _ in pairs], [second for _, second in pairs])
    low, high = test.confidence_interval(0.95)
    assert found.low == pytest.approx(low, rel=1e-7, abs=1e-9)
    assert found.high == pytest.approx(high, rel=1e-7, abs=1e-9)
    assert found.p_value == pytest.approx(test.pvalue, rel=1e-6, abs=1e-12)
    assert found.smallest_visible == pytest.approx((high - low) / 2, rel=1e-7)
    shown = low > 0 or high < 0
    assert (found.verdict(MIOU) is not Verdict.INCONCLUSIVE) == shown


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 0.5, 7: 3.0})
    assert dict(found.per_seed) == {0: 0.5, 1: 0.5}
    assert found.n == 2


def test_one_seed_has_a_difference_and_no_interval() -> None:
    found = paired_difference({0: 2.0}, {0: 1.0})
    assert (found.mean, found.n) == (1.0, 1)
    assert (found.std, found.low, found.high, found.smallest_visible, found.p_value) == (None,) * 5
    assert found.verdict(MIOU) is Verdict.INCONCLUSIVE


def test_no_common_seed_has_nothing() -> None:
    found = paired_difference({0: 2.0}, {1: 1.0})
    assert (found.mean, found.n, found.verdict(MIOU)) == (None, 0, Verdict.INCONCLUSIVE)


def test_equal_configs_differ_by_nothing() -> None:
    found = paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})
    assert (found.low, found.high, found.p_value, found.verdict(MIOU)) == (0.0, 0.0, 1.0, Verdict.INCONCLUSIVE)


@given(st.lists(numbers, max_size=10))
def test_a_summary_is_that_of_numpy(values: list[float]) -> None:
    found = summary(values)
    assert found.n == len(values)
    assert (found.mean is None) == (not values)
    assert (found.std is None) == (len(values) < 2)
    if found.mean is not None:
        assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    if found.std is not None:
        assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@given(st.lists(st.floats(0, 1).map(lambda p: round(p, 4)), max_size=12))
def test_holm_rejects_where_the_adjusted_p_value_is_small(p_values: list[float]) -> None:
    """Holm's adjusted p-value of rank k is the largest of (m - j + 1) p_(j) over j <= k (Holm 1979)."""
    ordered, count = sorted(p_values), len(p_values)
    adjusted = {p: max((count - j) * ordered[j] for j in range(ordered.index(p) + 1)) for p in ordered}
    for p, rejected in zip(p_values, holm(p_values), strict=True):
        if abs(adjusted[p] - 0.05) > 1e-9:
            assert rejected == (adjusted[p] < 0.05)


def test_holm_is_stricter_than_reading_each_alone() -> None:
    assert holm([0.04, 0.04, 0.04]) == (False, False, False)
    assert holm([0.001, 0.04, 0.9]) == (True, False, False)
    assert holm([0.04]) == (True,)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=20))
def test_rank_correlations_are_those_of_their_definitions_ties_included(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert spearman(first, second) is None
        assert kendall(first, second) is None
        return
    ranks = [[(sum(v < value for v in each) + sum(v <= value for v in each)) / 2 for value in each]
             for each in (first, second)]  # fmt: skip
    assert spearman(first, second) == pytest.approx(np.corrcoef(ranks)[0, 1])
    signs = [np.sign(np.subtract.outer(each, each)) for each in (first, second)]
    untied = math.sqrt(np.sum(signs[0] ** 2) * np.sum(signs[1] ** 2))
    assert kendall(first, second) == pytest.approx(np.sum(signs[0] * signs[1]) / untied)


def test_two_pairs_have_no_correlation_and_few_need_a_large_one() -> None:
    assert spearman([1.0, 2.0], [1.0, 2.0]) is None
    assert kendall([1.0, 2.0], [1.0, 2.0]) is None
    assert smallest_correlations(9) is None
    assert smallest_correlations(20) == pytest.approx((0.447, 0.326), abs=0.02)  # exact ones, of printed tables


def test_numbers_whose_sum_no_float_holds_have_no_mean() -> None:
    """A trial may report anything; the report of the others is not to fail by it."""
    assert summary([1e308, 1e308, 1.5e308]).mean is None
    assert paired_difference({0: 1e308, 1: 1e308}, {0: -1e308, 1: 0.0}).verdict(MIOU) is Verdict.INCONCLUSIVE


@settings(max_examples=30)
@given(st.lists(numbers, min_size=2, max_size=8))
def test_the_seeds_that_a_difference_takes_are_the_fewest_whose_interval_excludes_0(values: list[float]) -> None:
    """By scipy's quantiles, with the mean and the spread as they are; None for more than 50."""
    found = paired_difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    assert found.mean is not None
    assert found.std is not None
    half = {n: stats.t.ppf(0.975, n - 1) * found.std / math.sqrt(n) for n in range(2, 51)}
    enough = [n for n, width in half.items() if width < abs(found.mean)]
    assert found.seeds_to_tell == (enough[0] if found.mean and enough else None)
    if found.verdict(MIOU) is not Verdict.INCONCLUSIVE:
        assert found.seeds_to_tell is not None
        assert found.seeds_to_tell <= found.n


def test_one_seed_and_no_difference_take_no_number_of_seeds() -> None:
    assert paired_difference({0: 3.0}, {0: 1.0}).seeds_to_tell is None
    assert paired_difference({0: 3.0, 1: 4.0}, {0: 3.0, 1: 4.0}).seeds_to_tell is None
