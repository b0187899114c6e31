"""Claims of the paper: which are supported here, and that each is read once."""

from __future__ import annotations

import pytest

from mfm_tune.results.claims import Finding, claims
from mfm_tune.results.study import collect
from mfm_tune.space import Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, results_of, stub, stub_study


@pytest.mark.parametrize(
    ("numbers", "paper", "finding"),
    [
        ((53.0, 54.1, 54.9), 55.0, Finding.SUPPORTED),  # about +3 on each seed
        ((51.0, 50.0, 53.5), 55.0, Finding.INCONCLUSIVE),
        ((49.0, 52.0, 51.0), 55.0, Finding.INCONCLUSIVE),
        ((47.0, 48.1, 48.9), 55.0, Finding.CONTRADICTED),
        ((47.0, 48.1, 48.9), 45.0, Finding.SUPPORTED),
        ((53.0, 54.1, 54.9), 45.0, Finding.CONTRADICTED),
        ((53.0,), 55.0, Finding.INCONCLUSIVE),  # one seed shows nothing
        ((50.0, 51.0, 52.0), 55.0, Finding.EQUAL),
        ((), 55.0, Finding.OPEN),
    ],
)
def test_a_claim_is_supported_only_by_the_whole_interval(
    numbers: tuple[float, ...], paper: float, finding: Finding
) -> None:
    results = results_of({0: 50.0, 1: paper}, {0: (50.0, 51.0, 52.0), 1: numbers})
    (claim,) = claims(results)
    assert (claim.first, claim.second) == ("default", "base") or (claim.first, claim.second) == ("base", "default")
    assert claim.finding is finding
    assert claim.paper == 5.0
    assert (claim.first == "default") == (paper > 50.0)  # the one that the paper's numbers call the better one


def test_each_difference_of_the_paper_is_read_once_and_ties_are_none() -> None:
    results = results_of({0: 50.0, 1: 54.0, 2: 50.0, 3: None}, {})
    assert {frozenset((claim.first, claim.second)) for claim in claims(results)} == {
        frozenset(("base", "default")),
        frozenset(("level 2", "default")),
    }
    assert len(claims(results)) == 2


def test_numbers_of_two_metrics_of_the_paper_make_no_claim() -> None:
    """A table of mIoU that prints the baseline, and one of a class's IoU that does not."""
    axes = Axis(name="a", levels=((0, 50.0),), make=stub), Axis(name="b", levels=((1, 85.0), (2, 90.0)), make=stub)
    tables = (
        Table(name="a", title="A", axis=axes[0]),
        Table(name="b", title="B", axis=axes[1], metric="student/iou/car"),
    )
    study = stub_study({}, tables=tables, references={"base": 0})
    assert claims(collect(study, MadeLedger(study).state)) == ()
