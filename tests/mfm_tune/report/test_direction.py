"""A metric of which less is better is judged so wherever a report judges."""

from __future__ import annotations

import math
from typing import Any

from mfm_tune.commands.study import StudyCommand
from mfm_tune.report.first_page import claims_section
from mfm_tune.report.grids import matrix
from mfm_tune.report.sentences import best_level
from mfm_tune.report.tables import printed
from mfm_tune.results.statistics import Verdict
from mfm_tune.results.study import Results, collect
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study

ENTROPY = "criterion/entropy"


def measured(**settings: Any) -> Results:
    """Entropies of 30, 24 and 35, level 0 being the baseline; a paper that prints 30, 24 and 26."""
    study = stub_study({0: 30.0, 1: 24.0, 2: 26.0}, references={"base": 0}, **settings)
    made = MadeLedger(study)
    for level, entropy in enumerate((30.0, 24.0, 35.0)):
        for seed in study.seeds:
            made.trial(stub(level), seed, {ENTROPY: entropy + 0.1 * seed * level, "student/miou": 50.0})
    return collect(study, made.state)


def test_less_entropy_is_better_in_tables_claims_sentences_and_for_asha() -> None:
    results = measured(metric=ENTROPY, second_metric=None)
    (table,) = results.tables
    rows = printed(results, table).rows
    value, _, minus_base = zip(*(row.entries for row in rows), strict=True)
    assert [entry.best for entry in value] == [False, True, False]
    assert [entry.verdict for entry in minus_base] == [None, Verdict.BETTER, Verdict.WORSE]
    assert best_level(table) == "The paper's best is 1 (24.000), and it has the lowest mean here too."
    lines = [(claim, found, paper) for claim, found, _, paper, _ in claims_section(results).rows]
    assert lines == [("level 1 beats base", "supported", "−6.000"), ("level 2 beats base", "contradicted", "−4.000")]
    shaded = matrix(results)
    assert shaded is not None
    assert [math.copysign(1, each.level) for each in shaded.rows[1][1] if each.text] == [1, 1]  # less than both
    criterion = StudyCommand(session=None, study=results.study).criterion  # type: ignore[arg-type]
    assert (criterion.label, criterion.oriented(1.0)) == (ENTROPY, -1.0)


def test_the_second_metric_has_its_own_direction() -> None:
    results = measured(metric="student/miou", second_metric=ENTROPY)
    rows = printed(results, results.tables[0]).rows
    assert [row.entries[-1].verdict for row in rows] == [None, Verdict.BETTER, Verdict.WORSE]
