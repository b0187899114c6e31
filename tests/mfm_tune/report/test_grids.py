"""Heat maps: each class against the baseline, and every config against every other."""

from __future__ import annotations

from mfm_tune.report.grids import MOST_PAIRED, class_differences, matrix, trial_grid
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
    assert [name for name, _ in found.rows] == ["level 1 minus level 0"]


def test_trials_are_listed_in_the_metric_of_their_table_with_baselines_that_are_no_row() -> None:
    """One table prints `road`, as SYNTHIA's prints a mean over fewer classes; the other is compared with level 3."""
    levels = (Axis(name=name, levels=(level,), make=stub) for name, level in (("a", 1), ("b", 2)))
    road, plain = levels
    study = stub_study(
        {},
        tables=(
            Table(name="a", title="A", axis=road, metric="student/iou/road"),
            Table(name="b", title="B", axis=plain),
        ),
        references={"base": 3},
        seeds=(0,),
    )
    ledger = MadeLedger(study)
    for level in (1, 2):
        ledger.trial(stub(level), 0, {"student/miou": 50.0 + level, "student/iou/road": 90.0 + level})
    rows = [row[:3] for row in trial_grid(collect(study, ledger.state)).rows]
    assert rows == [
        ("a 1", "student IoU of road", "91.00"),
        ("b 2", "student mIoU", "52.00"),
        ("base", "student IoU of road", "not started"),
        ("base", "student mIoU", "not started"),
    ]


def test_rows_of_one_level_in_two_tables_are_two_rows() -> None:
    """A ratio and a lambda of 1, say, against one baseline that is no row itself."""
    axes = (
        Axis(name="a", levels=(1,), make=stub, against=lambda _: stub(0)),
        Axis(name="b", levels=(1,), make=lambda level: stub(level, 5), against=lambda _: stub(0)),
    )
    study = stub_study({}, tables=tuple(Table(name=axis.name, title="T", axis=axis) for axis in axes), references={})
    ledger = MadeLedger(study)
    for config in (stub(0), stub(1), stub(1, 5)):
        ledger.trial(config, 0, {"student/miou": 50.0, "student/iou/road": 50.0 + config.level})
    found = class_differences(collect(study, ledger.state))
    assert found is not None
    assert [name.split(" minus ")[0] for name, _ in found.rows] == ["a 1", "b 1"]


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
