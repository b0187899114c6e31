"""What is said of the paper's directions, and how carefully."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mfm_tune.program import Outcome
from mfm_tune.results import claims as findings
from mfm_tune.results.claims import Direction
from mfm_tune.results.study import Results, collect
from mfm_tune.space import OOM, Paper
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study


def results_of(levels: Mapping[int, Paper], numbers: Mapping[int, tuple[float, ...]]) -> Results:
    """A study whose level k has these numbers, one a seed."""
    study = stub_study(levels)
    ledger = MadeLedger(study)
    for level, values in numbers.items():
        for seed, value in enumerate(values):
            ledger.trial(stub(level), seed, {"student/miou": value})
    return collect(study, ledger.state)


@pytest.mark.parametrize(
    ("numbers", "paper", "direction"),
    [
        ((53.0, 54.1, 54.9), 55.0, Direction.HOLDS),  # about +3 on each seed
        ((51.0, 50.0, 53.5), 55.0, Direction.SAME_SIGN),
        ((49.0, 52.0, 51.0), 55.0, Direction.OTHER_SIGN),
        ((47.0, 48.1, 48.9), 55.0, Direction.CONTRADICTED),
        ((47.0, 48.1, 48.9), 45.0, Direction.HOLDS),
        ((53.0, 54.1, 54.9), 45.0, Direction.CONTRADICTED),
        ((53.0,), 55.0, Direction.SAME_SIGN),  # one seed shows nothing
        ((50.0, 51.0, 52.0), 55.0, Direction.EQUAL),
        ((), 55.0, Direction.OPEN),
    ],
)
def test_a_direction_holds_only_with_the_whole_interval(
    numbers: tuple[float, ...], paper: float, direction: Direction
) -> None:
    results = results_of({0: 50.0, 1: paper}, {0: (50.0, 51.0, 52.0), 1: numbers})
    (claim,) = findings.claims(results)
    assert (claim.first, claim.second) == ("default", "base") or (claim.first, claim.second) == ("base", "default")
    assert claim.direction is direction


def test_each_difference_of_the_paper_is_read_once_and_ties_are_none() -> None:
    results = results_of({0: 50.0, 1: 54.0, 2: 50.0, 3: None}, {})
    assert {frozenset((claim.first, claim.second)) for claim in findings.claims(results)} == {
        frozenset(("base", "default")),
        frozenset(("level 2", "default")),
    }
    assert len(findings.claims(results)) == 2


def test_the_number_of_intervals_and_what_chance_alone_gives_are_said() -> None:
    levels = dict.fromkeys(range(5), 50.0)
    numbers = {level: (50.0 + level, 51.3 + level * level, 52.0 - level) for level in levels}
    said = findings.how_to_read(results_of(levels, numbers))
    assert "7 different 95 % intervals" in said  # 4 to base, 3 more to default
    assert "about 0.4 of them would leave 0 out by chance alone" in said
    assert "Holm" in said


def test_without_intervals_no_significance_is_hinted_at() -> None:
    results = results_of({0: 50.0, 1: 54.0}, {0: (50.0,), 1: (60.0,)})
    assert "takes two seeds" in findings.how_to_read(results)
    assert "One seed cannot tell a difference from chance." in findings.headline(results)[0]


def test_an_interval_that_contains_0_is_called_not_shown() -> None:
    results = results_of({0: 50.0, 1: 54.0}, {0: (50.0, 51.0, 52.0), 1: (51.0, 50.0, 53.5)})
    (said,) = findings.headline(results)
    assert said.startswith("default minus base in student mIoU: +0.5 (95 % interval −2.8 to +3.8, 3 seeds)")
    assert "the paper prints +4.0" in said
    assert said.endswith("The interval contains 0, so a difference is not shown.")


def test_the_best_level_is_compared_with_the_papers() -> None:
    same = results_of({0: 50.0, 1: 54.0}, {0: (50.0,) * 3, 1: (51.0,) * 3})
    assert findings.best_levels(same) == ("The paper's best level has the highest mean here too.",)
    (other,) = findings.best_levels(results_of({0: 50.0, 1: 54.0}, {0: (52.0, 52.5, 53.0), 1: (51.0, 51.0, 51.0)}))
    assert other.startswith(
        "Levels: the paper's best is 1 (54.0); the highest mean here is at 0 (52.5), a difference of"
    )


def test_configs_without_any_difference_are_named_together() -> None:
    numbers = {0: (50.0, 51.0, 52.0), 1: (50.0, 51.0, 52.0), 2: (50.0, 51.0, 52.5), 3: (50.0, 51.0)}
    (said,) = findings.without_effect(results_of(dict.fromkeys(numbers), numbers))
    assert said.endswith("had no effect here: base, default.")


def test_a_table_that_is_not_measured_has_no_best_level() -> None:
    assert findings.best_levels(results_of({0: 50.0, 1: 54.0}, {})) == ()


def test_out_of_memory_is_a_result_beside_the_papers() -> None:
    study = stub_study({0: None, 1: OOM, 2: OOM, 3: OOM, 4: 50.0}, seeds=(0,))
    ledger = MadeLedger(study)
    ledger.trial(stub(1), 0, None, outcome=Outcome.OOM, error="Out of memory.")
    ledger.trial(stub(2), 0, {"student/miou": 50.0})
    ledger.trial(stub(4), 0, None, outcome=Outcome.OOM, error="Out of memory.")
    assert findings.out_of_memory(collect(study, ledger.state)) == (
        "The paper prints OOM for level 1; here too.",
        "The paper prints OOM for level 2; here it fits.",
        "The paper prints OOM for level 3; here it is not measured yet.",
        "level 4 ran out of memory here.",
    )


def test_what_is_missing_is_named_once_with_the_reason() -> None:
    results = results_of({0: None, 1: None, 2: None}, {0: (1.0, 2.0, 3.0), 1: (1.0,)})
    assert findings.missing(results) == ("default: seeds 1, 2 not started", "level 2: seeds 0, 1, 2 not started")


def test_the_status_counts_every_trial() -> None:
    results = results_of({0: None, 1: None}, {0: (1.0, 2.0, 3.0), 1: (1.0,)})
    assert findings.status(results) == (
        "2 cells, 2 distinct configs, 6 trials with seeds 0, 1, 2: 4 finished, 2 not started."
    )
