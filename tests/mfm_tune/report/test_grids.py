"""Heat maps: each class against the baseline, and every config against every other."""

from __future__ import annotations

from mfm_tune.report.grids import MOST_PAIRED, class_differences, matrix
from mfm_tune.results.study import Results, collect
from mfm_tune.space import Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, results_of, stub, stub_study

GAINS = {"road": (0.2, 0.4, 0.6), "car": (-6.5, -7.5, -8.5)}


def measured(**settings: object) -> Results:
    """Level 1 gains a little on `road` and loses much on `car`, on every seed."""
    study = stub_study({0: None, 1: None}, **settings)
    ledger = MadeLedger(study)
    for level in (0, 1):
        for seed in study.seeds:
            ious = {f"student/iou/{name}": 50.0 + seed + level * gain[seed] for name, gain in GAINS.items()}
            ledger.trial(stub(level), seed, {"student/miou": 50.0, **ious})
    return collect(study, ledger.state)


def test_classes_are_shaded_by_how_far_a_row_is_from_the_baseline_and_bold_where_the_interval_excludes_0() -> None:
    found = class_differences(measured())
    assert found is not None
    assert found.headings[0] == "config"
    ((name, entries),) = found.rows
    shown = {
        heading: (each.text, each.level, each.told) for heading, each in zip(found.headings[1:], entries, strict=True)
    }
    assert name == "default"
    assert shown["road"] == ("+0.4", 0, False)
    assert shown["car"] == ("−7.5", -4, True)


def test_rows_with_baselines_of_their_own_are_named_with_them() -> None:
    axis = Axis(name="level", levels=(0, 1), make=stub, against=lambda level: stub(0) if level else None)
    found = class_differences(measured(tables=(Table(name="t", title="T", axis=axis),), references={}))
    assert found is not None
    assert [name for name, _ in found.rows] == ["1 minus level 0"]


def test_nothing_is_shaded_without_classes() -> None:
    assert class_differences(results_of({0: None, 1: None}, {0: (50.0,), 1: (51.0,)})) is None


def test_every_pair_is_there_twice_with_opposite_signs() -> None:
    found = matrix(results_of({0: None, 1: None, 2: None}, {0: (50.0, 51.0), 1: (52.0, 53.1), 2: (50.0, 51.5)}))
    assert found is not None
    assert found.headings == ("row minus column", "base", "default", "level 2")
    texts = [[each.text for each in entries] for _, entries in found.rows]
    assert texts == [["", "−2.1", "−0.2"], ["+2.1", "", "+1.8"], ["+0.2", "−1.8", ""]]
    assert [each.told for each in dict(found.rows)["base"]] == [False, True, False]


def test_one_config_and_too_many_have_no_matrix() -> None:
    assert matrix(results_of({0: None}, {0: (50.0,)})) is None
    numbers = dict.fromkeys(range(MOST_PAIRED + 1), (50.0,))
    assert matrix(results_of(dict.fromkeys(numbers), numbers)) is None
