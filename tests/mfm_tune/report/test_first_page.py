"""What a stranger reads first: does it gain, can these seeds tell, and what the paper claims."""

from __future__ import annotations

import pytest

from mfm_tune.report.first_page import answers, banner, claims_section
from mfm_tune.results.study import collect
from mfm_tune.space import Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, results_of, stub, stub_study

BASE = (50.0, 51.0, 52.0)


@pytest.mark.parametrize(
    ("numbers", "answer"),
    [
        (
            (51.0, 50.0, 53.5),
            "default gains +0.5 mIoU over base here; three seeds cannot tell that from 0 (−2.8 to +3.8).",
        ),
        (
            (49.0, 51.5, 50.0),
            "default loses 0.8 mIoU to base here; three seeds cannot tell that from 0 (−4.0 to +2.3).",
        ),
        ((53.0, 54.1, 54.9), "default gains +3.0 mIoU over base here, and three seeds tell it from 0 (+2.8 to +3.2)."),
        ((47.0, 48.1, 48.9), "default loses 3.0 mIoU to base here, and three seeds tell it from 0 (−3.2 to −2.8)."),
        ((53.0,), "default gains +3.0 mIoU over base here; one seed cannot tell that from chance."),
        (BASE, "default and base are equal on every seed."),
    ],
)
def test_the_banner_says_who_gains_and_whether_the_seeds_can_tell(numbers: tuple[float, ...], answer: str) -> None:
    (said,) = answers(results_of({0: 50.0, 1: 54.0}, {0: BASE, 1: numbers}))
    assert said == f"{answer} The paper prints +4.0."


def test_a_banner_without_numbers_says_so() -> None:
    (said,) = answers(results_of({0: 50.0, 1: 54.0}, {}))
    assert said == "default against base: not measured yet, no seed has both."


def test_a_metric_that_is_no_percentage_is_above_or_below() -> None:
    study = stub_study({0: None, 1: None}, metric="loss/target_entropy", second_metric=None)
    ledger = MadeLedger(study)
    for level, config in enumerate(study.configs().values()):
        for seed in study.seeds:
            ledger.trial(config, seed, {"loss/target_entropy": 0.5 - 0.25 * level})
    (said,) = answers(collect(study, ledger.state))
    assert said.startswith("default is 0.25 below base in loss/target_entropy")
    assert "(−0.25 to −0.25)" in said


def test_the_scale_and_what_the_references_are_stand_under_the_answer() -> None:
    study = stub_study({0: 50.0, 1: 54.0}, comparable=("Toy data.", "Small."), about={"base": "self-training alone"})
    context = banner(collect(study, MadeLedger(study).state)).context
    assert context[0] == "Profile mini, 4 training steps a trial. Toy data."
    assert context[1:] == ("base: self-training alone; in the tables: level 0.", "default: in the tables: level 1.")


def test_claims_of_one_name_have_that_of_their_table() -> None:
    """As the same methods have on two benchmarks."""
    tables = tuple(
        Table(
            name=name,
            title=name,
            axis=Axis(
                name="method",
                levels=(("plain", 50.0), ("more", 54.0)),
                make=lambda level, first=first: stub(first + (level == "more")),
                against=lambda level, first=first: None if level == "plain" else stub(first),
            ),
        )
        for name, first in (("here", 0), ("there", 2))
    )
    study = stub_study({}, tables=tables, references={})
    rows = claims_section(collect(study, MadeLedger(study).state)).rows
    assert [row[0] for row in rows] == [
        "here more beats here plain",
        "there more beats there plain",
    ]


def test_every_claim_of_the_paper_has_a_line_with_finding_interval_and_seeds() -> None:
    """The difference is that of the paper's winner; those to further references are folded."""
    numbers = {0: BASE, 1: (53.0, 54.1, 54.9), 2: (50.5, 50.0, 52.6), 3: (49.9, 51.3, 52.0), 4: BASE}
    section = claims_section(results_of({0: 50.0, 1: 54.0, 2: 51.0, 3: 49.0, 4: 55.0, 5: 52.0}, numbers))
    assert section.sentences[0] == (
        "Of 9 claims of the paper: 3 supported, 1 contradicted, 2 inconclusive, 1 no difference at all, 2 not measured."
    )
    assert section.visible == 5
    assert section.rows[:5] == (
        ("default beats base", "supported", "+3.0 [+2.8, +3.2]", "+4.0", "2"),
        ("level 2 beats base", "inconclusive", "0.0 [−2.2, +2.3]", "+1.0", "more than 50"),
        ("base beats level 3", "inconclusive", "−0.1 [−0.6, +0.5]", "+1.0", "40"),
        ("level 4 beats base", "no difference at all", "0.0 [0.0, 0.0]", "+5.0", "–"),
        ("level 5 beats base", "not measured", "–", "+2.0", "–"),
    )
    assert {row[0] for row in section.rows[5:]} == {
        "default beats level 2", "default beats level 3", "level 4 beats default", "default beats level 5",
    }  # fmt: skip


def test_a_study_without_numbers_of_the_paper_has_no_claims() -> None:
    section = claims_section(results_of({0: None, 1: None}, {0: BASE, 1: BASE}))
    assert (section.sentences, section.rows) == ((), ())
