"""Pseudo-labels in a report: what is drawn of a reference, and the warning under source-only with its causes."""

from __future__ import annotations

import csv
import io

from mfm_tune.report.csv_files import curves_csv
from mfm_tune.report.pseudo_labels import pseudo_label_figures, pseudo_label_section, pseudo_label_warnings
from mfm_tune.report.sections import study_text
from mfm_tune.results.study import Results, collect
from mfm_tune.space import Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study
from tests.mfm_tune.stub_program import StubConfig, StubProgram

LEVELS = {"DACS": 0, "source-only": 1, "AdaBN": 2}
SURE_AND_WRONG = {"coverage": (40.0, 80.0), "precision": (90.0, 60.0)}  # at the first evaluation and the last
SURE_AND_RIGHT = {"coverage": (40.0, 80.0), "precision": (60.0, 90.0)}


def study_of(levels: dict[str, int]) -> MadeLedger:
    """One table of methods, DACS the reference."""
    axis = Axis(name="method", levels=tuple((name, None) for name in levels), make=lambda name: stub(levels[name]))
    table = Table(name="t", title="Methods", axis=axis)
    return MadeLedger(stub_study({}, references={"DACS": 0}, seeds=(0,), tables=(table,)))


def made(
    dacs: float, source: float, adabn: float, first: dict[str, tuple[float, float]], coverage: float
) -> tuple[Results, tuple[str, ...]]:
    """Results of the three methods; `first` is what DACS's first class does."""
    ledger = study_of(LEVELS)
    names = StubProgram().class_names(StubConfig())
    ends = {"pseudo_label/coverage": (coverage, coverage), "pseudo_label/precision": (70.0, 70.0)}
    for name in names:
        for key, values in (first if name == names[0] else SURE_AND_RIGHT).items():
            ends[f"pseudo_label/{key}/{name}"] = values
    begin = {last: start for start, last in ends.values()}
    metrics = {"student/miou": dacs} | {key: last for key, (_, last) in ends.items()}
    ledger.trial(stub(0), 0, metrics, curve=lambda value, share: value if share == 1 else begin.get(value, value))
    ledger.trial(stub(1), 0, {"student/miou": source})
    ledger.trial(stub(2), 0, {"student/miou": adabn})
    return collect(ledger.study, ledger.state), names


def test_self_training_under_source_only_is_a_warning_with_the_causes_that_numbers_point_to() -> None:
    wrong = {"coverage": (41.0, 81.0), "precision": (91.0, 61.0)}
    results, names = made(30.0, 33.0, 38.0, wrong, 2.0)
    (warning,) = pseudo_label_warnings(results)
    assert warning.startswith("Warning: under source-only (33.0, Methods) end DACS (30.0), so differences")
    assert "BatchNorm, as re-estimated statistics alone change source-only by +5.0" in warning
    assert "coverage near 0 (2.0 % of the pixels)" in warning
    figures = "precision 91.0 to 61.0, coverage 41.0 to 81.0"
    assert warning.endswith(f"precision falls while coverage grows in {names[0]} ({figures}).")
    results, _ = made(30.0, 33.0, 33.5, SURE_AND_RIGHT, 50.0)
    assert "no cause that these numbers show" in pseudo_label_warnings(results)[0]


def test_a_reference_is_drawn_by_class_and_nothing_warns_above_source_only() -> None:
    results, names = made(36.0, 33.0, 34.0, SURE_AND_WRONG, 50.0)
    assert not pseudo_label_warnings(results)
    assert "nothing is trained on or chosen by" in study_text(results).leading[-1].sentences[0]
    drawn = pseudo_label_figures(results)
    assert list(drawn) == ["pseudo_labels-1-coverage", "pseudo_labels-1-precision"]
    assert f"{names[0]} 90.0 to 60.0" in drawn["pseudo_labels-1-precision"].description
    rows = list(csv.DictReader(io.StringIO(curves_csv(results))))
    own = [row for row in rows if row["metric"] == f"pseudo_label/precision/{names[0]}"]
    assert [(row["name"], row["step"], float(row["value"])) for row in own] == [("DACS", "2", 90), ("DACS", "4", 60)]


def test_a_study_without_such_numbers_has_no_such_section() -> None:
    ledger = study_of(LEVELS)
    ledger.trial(stub(0), 0, {"student/miou": 50.0})
    results = collect(ledger.study, ledger.state)
    assert pseudo_label_section(results) is None
    assert not pseudo_label_figures(results)


def test_a_row_that_loses_is_drawn_beside_the_reference() -> None:
    """Its teacher may be sure and wrong; one that does not lose is not drawn."""
    axis = Axis(name="method", levels=(1, 2), make=stub)
    ledger = MadeLedger(stub_study({}, references={"DACS": 0}, tables=(Table(name="t", title="T", axis=axis),)))
    measured = {"pseudo_label/coverage": 60.0, "pseudo_label/precision": 70.0}
    for seed in (0, 1, 2):
        for level, number in ((0, 40.0), (1, 31.0 + seed), (2, 38.0 + 2 * seed)):
            ledger.trial(stub(level), seed, {"student/miou": number} | measured)
    drawn = pseudo_label_figures(collect(ledger.study, ledger.state))
    titles = [figure.title for name, figure in drawn.items() if name.endswith("coverage")]
    assert titles == ["DACS: coverage of pseudo-labels, %", "method 1: coverage of pseudo-labels, %"]
