"""Stein's two-stage procedure: how many seeds a half-width takes, and the interval that they end with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from mfm_tune.identity import config_id
from mfm_tune.ledger.events import first_stage_event
from mfm_tune.ledger.standing import Stages
from mfm_tune.program import Outcome
from mfm_tune.results.first_stages import settled
from mfm_tune.results.statistics import paired_difference, pairs_needed
from mfm_tune.results.study import Results, collect
from tests.mfm_tune.made_ledger import FINGERPRINT, MadeLedger, stub, stub_study

BASE = (50.0, 51.0, 52.0, 50.5, 51.5, 49.5, 50.2, 51.1)
OWN = (51.0, 51.6, 53.4, 51.7, 52.3, 50.9, 51.0, 52.5)
FIRST = [own - base for own, base in zip(OWN[:3], BASE[:3], strict=True)]  # 1.0, 0.6, 1.4: a sample sd of 0.4


def trial(ledger: MadeLedger, level: int, seed: int, value: float, **settings: Any) -> None:
    """A finished trial with this mIoU."""
    ledger.trial(stub(level), seed, {"student/miou": value, "teacher/miou": value}, **settings)


def first_stage(**settings: Any) -> MadeLedger:
    """A study of one row and one reference, with the trials of its seeds 0, 1 and 2."""
    ledger = MadeLedger(stub_study({1: None}, references={"base": 0}, **settings))
    for seed in range(3):
        trial(ledger, 0, seed, BASE[seed])
        trial(ledger, 1, seed, OWN[seed])
    return ledger


def collected(ledger: MadeLedger) -> Results:
    """The numbers of the ledger's study."""
    return collect(ledger.study, ledger.state)


def settle(ledger: MadeLedger, half_width: float, max_seeds: int = 20) -> int:
    """Write down what the first stage decides, and how many differences it does for."""
    results = collected(ledger)
    found = settled(results, results.configs, half_width=half_width, max_seeds=max_seeds)
    if found:
        ledger._apply(first_stage_event(found))
    return len(found)


def seeds_of(ledger: MadeLedger, level: int) -> tuple[int, ...]:
    """The seeds of both stages of a level."""
    return Stages(state=ledger.state, study="stub", profile="mini").seeds(config_id(stub(level)))


def test_the_pairs_that_a_half_width_takes_are_those_of_steins_rule() -> None:
    """n = max(n0, ceil((t s / d)^2)), with t of n0 - 1 degrees of freedom; absurd ones stay countable."""
    t = stats.t.ppf(0.975, 2)
    assert pairs_needed(0.4, 3, 0.7) == math.ceil((t * 0.4 / 0.7) ** 2) == 7
    assert pairs_needed(0.4, 3, 5.0) == 3
    assert pairs_needed(0.0, 3, 0.1) == 3
    assert pairs_needed(1e200, 3, 1e-200) == 10**9


def test_the_interval_has_the_spread_of_the_first_stage_and_the_pairs_of_both() -> None:
    """Mean +- t s / sqrt(n), where s and the degrees of freedom of t never change, and no seed beyond n counts."""
    ledger = first_stage()
    assert settle(ledger, 0.7) == 1
    assert seeds_of(ledger, 0) == seeds_of(ledger, 1) == tuple(range(7))
    for seed in range(3, 8):  # one more than was asked for, as another command may have trained it
        trial(ledger, 0, seed, BASE[seed])
        trial(ledger, 1, seed, OWN[seed])
    ledger.study = replace(ledger.study, seeds=tuple(range(8)))
    (only,) = collected(ledger).two_stage
    paired = only.paired
    assert list(paired.per_seed) == list(range(7))
    error = stats.tstd(FIRST) / math.sqrt(7)
    mean = stats.tmean([own - base for own, base in zip(OWN[:7], BASE[:7], strict=True)])
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=error)
    assert (paired.low, paired.high) == (pytest.approx(low), pytest.approx(high))
    assert paired.smallest_visible is not None
    assert paired.smallest_visible <= 0.7
    assert paired.p_value == pytest.approx(2 * stats.t.sf(mean / error, 2))


def test_a_settled_first_stage_is_not_settled_again() -> None:
    """Neither by more trials nor by other seeds of the study; another half-width keeps its spread."""
    ledger = first_stage()
    settle(ledger, 0.7)
    before = collected(ledger).two_stage[0].paired.first
    for seed in range(3, 7):
        trial(ledger, 0, seed, BASE[seed])
        trial(ledger, 1, seed, OWN[seed])
    ledger.study = replace(ledger.study, seeds=(0, 1, 2, 3, 4))
    assert settle(ledger, 0.7) == 0
    assert settle(ledger, 0.5) == 1
    after = collected(ledger).two_stage[0].paired.first
    assert before is not None
    assert after is not None
    assert after == replace(before, half_width=0.5, needed=pairs_needed(before.std, 3, 0.5))


def test_a_first_stage_that_is_trained_again_is_none() -> None:
    """By other code: its spread is that of trials that do not count any more."""
    ledger = first_stage()
    settle(ledger, 0.7)
    trial(ledger, 1, 0, 57.0, fingerprint="e" * 64)
    assert collected(ledger).two_stage == ()
    assert seeds_of(ledger, 1) == ()
    for seed in (1, 2):
        trial(ledger, 1, seed, OWN[seed], fingerprint="e" * 64)
    assert settle(ledger, 0.7) == 1
    assert collected(ledger).two_stage[0].paired.first is not None


def test_a_first_stage_waits_for_its_trials_and_needs_two_pairs() -> None:
    """While one is open or failed nothing is settled; diverged ones are results without a number."""
    ledger = first_stage(seeds=(0, 1, 2, 3))
    trial(ledger, 0, 3, BASE[3])
    assert settle(ledger, 0.7) == 0
    ledger.trial(stub(1), 3, None, outcome=Outcome.FAILED, error="x")
    assert settle(ledger, 0.7) == 0
    ledger.trial(stub(1), 3, None, outcome=Outcome.DIVERGED, error="nan", fingerprint=FINGERPRINT)
    assert settle(ledger, 0.7) == 1
    first = collected(ledger).two_stage[0].paired.first
    assert first is not None
    assert (first.seeds, first.pairs, first.df) == ((0, 1, 2, 3), (0, 1, 2), 2)
    assert seeds_of(ledger, 1) == (0, 1, 2, 3, 4, 5, 6, 7)

    single = MadeLedger(stub_study({1: None}, references={"base": 0}, seeds=(0, 1)))
    for seed in (0, 1):
        trial(single, 0, seed, BASE[seed])
    trial(single, 1, 0, OWN[0])
    single.trial(stub(1), 1, None, outcome=Outcome.DIVERGED, error="nan")
    assert settle(single, 0.7) == 0


def test_a_seed_that_diverges_is_followed_by_the_next_one_up_to_the_largest_number() -> None:
    """So that the second stage has the pairs that it needs, where it may."""
    ledger = first_stage()
    settle(ledger, 0.7, max_seeds=8)
    ledger.trial(stub(1), 4, None, outcome=Outcome.DIVERGED, error="nan")
    assert seeds_of(ledger, 0) == tuple(range(8))
    ledger.trial(stub(0), 5, None, outcome=Outcome.OOM, error="memory")
    assert seeds_of(ledger, 0) == tuple(range(8))  # 8 is the most
    results = collected(ledger)
    first = results.two_stage[0].paired.first
    assert first is not None
    assert results.stages.reach(first) == 6
    assert first.needed == 7
    assert list(first.further) == [3, 4, 5, 6, 7]
    assert list(replace(first, seeds=(2, 5)).further) == [0, 1, 3, 4, 6, 7]


def test_every_config_gets_its_own_number_and_the_baseline_the_largest() -> None:
    """Level 2 differs from the baseline by the same on every seed, level 1 does not."""
    ledger = MadeLedger(stub_study({0: None, 1: None, 2: None}, references={"base": 0}))
    for seed in range(3):
        for level, value in ((0, BASE[seed]), (1, OWN[seed]), (2, BASE[seed] + 1 + 0.01 * seed)):
            trial(ledger, level, seed, value)
    assert settle(ledger, 0.7) == 2
    assert [len(seeds_of(ledger, level)) for level in (0, 1, 2)] == [7, 7, 3]


@pytest.mark.parametrize(
    ("field", "value"), [("pairs", [0]), ("configs", ["a"])], ids=["one pair has no spread", "one config is compared"]
)
def test_a_line_that_settles_nothing_is_refused(field: str, value: list[Any]) -> None:
    """A ledger with it is broken, like one with any other line that contradicts itself."""
    ledger = first_stage()
    event = first_stage_event(settled(collected(ledger), collected(ledger).configs, half_width=1.0, max_seeds=9))
    event["differences"][0][field] = value
    with pytest.raises(ValueError, match="first_stage of"):
        ledger.state.apply(event)


def test_single_trials_are_no_two_stage_comparison() -> None:
    """Without the pairs of the first stage the interval is the paired one."""
    ledger = first_stage()
    settle(ledger, 0.7)
    first = collected(ledger).two_stage[0].paired.first
    assert paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 1.5}, first).first is None
