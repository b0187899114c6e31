"""A metric is printed with digits that show something, the same wherever it stands."""

from __future__ import annotations

import pytest

from mfm_tune.digits import number, signed
from mfm_tune.display.progress import cell_text
from mfm_tune.report.documents import latex
from mfm_tune.report.first_page import answers
from mfm_tune.report.grids import matrix, trial_grid
from mfm_tune.report.sentences import best_level
from mfm_tune.report.tables import Printed, printed
from mfm_tune.report.terminal import terminal_table
from mfm_tune.results.claims import claims
from mfm_tune.results.study import Results, collect
from mfm_tune.space import Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study

LEVELS = {0: 0.3000, 1: 0.2418, 2: 0.2423}  # of seed 0


def of(metric: str) -> tuple[MadeLedger, Results, Printed]:
    """A study whose levels have these numbers in a metric, a little more of it on each seed."""
    axis = Axis(name="level", levels=((0, 0.31), (1, 0.25), (2, 0.255)), make=stub)
    table = Table(name="t", title="Levels", axis=axis, columns=(("student/iou/car", "car"), ("loss/source", "loss")))
    references = {"base": 0, "default": 1}
    ledger = MadeLedger(stub_study({}, references=references, tables=(table,), metric=metric, second_metric=None))
    for level, value in LEVELS.items():
        for seed in ledger.study.seeds:
            spread = 0.001 * seed * (1 + level)
            told = {metric: value + spread, "student/iou/car": 61.24, "loss/source": 0.0004123 + spread / 100}
            ledger.trial(stub(level), seed, told)
    results = collect(ledger.study, ledger.state)
    return ledger, results, printed(results, results.tables[0])


def test_a_criterion_has_three_decimals_in_tables_bold_sentences_and_on_the_terminal() -> None:
    ledger, results, table = of("criterion/entropy")
    texts = [[entry.text for entry in row.entries] for row in table.rows]
    assert [row[:3] for row in texts] == [
        ["0.301 ± 0.001 (3)", "0.310", ""],
        ["0.244 ± 0.002 (3)", "0.250", "−0.057 [−0.060, −0.055]"],
        ["0.245 ± 0.003 (3)", "0.255", "−0.056 [−0.061, −0.051]"],
    ]
    assert [row.entries[0].best for row in table.rows] == [False, True, False]  # with one decimal there were two
    assert table.rows[1].entries[2].detail == "paper −0.060; half-width 0.002"
    assert texts[0][4:] == ["61.2 ± 0.0", "0.000422 ± 1e-05"]  # percent, and a loss, of which nobody knows the scale
    assert "0.244 $\\pm$ 0.002 (3)" in latex(table)
    assert "0.245 ± 0.003 (3)" in terminal_table(ledger.study, ledger.state, width=160)
    assert best_level(results.tables[0]) == "The paper's best is 1 (0.250), and it has the lowest mean here too."
    assert answers(results) == (
        "default is 0.057 below base in criterion/entropy, better, here, and three seeds tell it from 0 "
        "(−0.060 to −0.055). The paper prints −0.060.",
    )
    assert {(claim.first, claim.second) for claim in claims(results)} >= {("default", "level 2")}  # 0.005 is no tie
    shaded, seeds = matrix(results), trial_grid(results).rows[0]
    assert shaded is not None
    assert shaded.rows[1][1][0].text == "−0.057"
    assert seeds[2:5] == ("0.300", "0.301", "0.302")
    assert cell_text(dict(enumerate(results.references[1].records)), "criterion/entropy", 3) == "0.244 ± 0.002"


def test_percent_has_one_decimal_as_papers_print_it() -> None:
    _, results, table = of("student/miou10")
    assert [entry.text for entry in table.rows[1].entries[:3]] == ["0.2 ± 0.0 (3)", "0.2", "−0.1 [−0.1, −0.1]"]
    assert trial_grid(results).rows[0][2:5] == ("0.30", "0.30", "0.30")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0004123, "0.000412"), (48.72, "48.7"), (999.4, "999"), (999.6, "1000"), (12345.6, "12346"), (-2.0, "−2"),
     (-0.0, "0"), (6e-5, "6e-05")],
)  # fmt: skip
def test_a_number_of_unknown_scale_has_three_significant_digits(value: float, text: str) -> None:
    assert number(value, None) == text
    assert signed(value, None) == (text if text[0] in "−0" and not value > 0 else f"+{text}")
