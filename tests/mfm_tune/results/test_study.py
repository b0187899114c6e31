"""From a ledger to numbers: what enters a mean, how cells are compared, and what is marked."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mfm_tune.identity import config_id
from mfm_tune.ledger.records import Status
from mfm_tune.program import Outcome
from mfm_tune.results.cost import gains
from mfm_tune.results.study import OWN, Results, collect
from mfm_tune.space import OOM, Axis, Published, Quoted, Study, Table
from tests.mfm_tune.made_ledger import FINGERPRINT, MACHINE, OTHER_MACHINE, MadeLedger, stub, stub_study
from tests.mfm_tune.stub_program import StubConfig, StubProgram

EARLIER = "e" * 64


def now(study: Study) -> dict[str, str]:
    """Today's fingerprint for every config."""
    return {config_id(cell.config): FINGERPRINT for cell in study.cells()}


def finished(study: Study, **settings: Any) -> MadeLedger:
    """Level k and seed s have mIoU 50 + 2k + s."""
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0 + 2 * config.level + seed, **settings)
    return ledger


def cell_of(results: Results, level: int) -> Any:
    return next(cell for cell in results.cells if cell.cell.level == str(level))


def test_a_cell_has_the_mean_and_spread_of_its_seeds() -> None:
    results = collect((study := stub_study({0: 50.0, 1: 54.0, 2: 53.0})), finished(study).state)
    cell = cell_of(results, 2)
    assert dict(cell.values) == {0: 54.0, 1: 55.0, 2: 56.0}
    assert (cell.summary.mean, cell.summary.std, cell.summary.n) == (55.0, 1.0, 3)
    assert cell.second.mean == 55.5
    assert cell.complete
    assert cell.marks == ()


def test_differences_are_taken_seed_by_seed_to_each_reference() -> None:
    results = collect((study := stub_study({0: 50.0, 1: 54.0, 2: 53.0})), finished(study).state)
    to_base, to_default = cell_of(results, 2).comparisons
    assert (to_base.baseline.name, to_base.paired.mean, to_base.paper) == ("base", 4.0, 3.0)
    assert (to_default.baseline.name, to_default.paired.mean, to_default.paper) == ("default", 2.0, -1.0)
    assert cell_of(results, 0).comparisons[0] is None
    assert cell_of(results, 1).comparisons[1] is None


@pytest.mark.parametrize(
    ("outcome", "standing", "mark"),
    [
        (Outcome.STOPPED, Status.STOPPED, "seed 2 stopped early at step 2 of 4"),
        (Outcome.DIVERGED, Status.DIVERGED, "seed 2 diverged at step 2 of 4"),
        (Outcome.OOM, Status.OOM, "seed 2 out of memory"),
        (Outcome.FAILED, Status.FAILED, "seed 2 failed"),
        (None, Status.OPEN, "seed 2 under way at step 2 of 4"),
    ],
)
def test_only_a_finished_trial_enters_a_mean(outcome: Outcome | None, standing: Status, mark: str) -> None:
    study = stub_study({0: None, 1: None})
    ledger = MadeLedger(study)
    for seed in (0, 1):
        ledger.trial(stub(1), seed, {"student/miou": 60.0})
    ledger.trial(stub(1), 2, {"student/miou": 99.0}, outcome=outcome, steps=(2,))
    cell = cell_of(collect(study, ledger.state), 1)
    assert dict(cell.values) == {0: 60.0, 1: 60.0}
    assert cell.statuses == (Status.FINISHED, Status.FINISHED, standing)
    assert tuple(map(str, cell.marks)) == (mark,)
    assert not cell.complete


def test_a_finished_trial_whose_metric_is_no_number_is_said_and_left_out() -> None:
    study = stub_study({0: None, 1: None}, seeds=(0, 1))
    ledger = MadeLedger(study)
    ledger.trial(stub(1), 0, {"student/miou": math.nan})
    ledger.trial(stub(1), 1, {"student/miou": 40.0})
    cell = cell_of(collect(study, ledger.state), 1)
    assert dict(cell.values) == {1: 40.0}
    assert tuple(map(str, cell.marks)) == ("seed 0 finished without a number",)


def test_an_empty_ledger_has_cells_without_numbers() -> None:
    study = stub_study({0: 50.0, 1: OOM})
    results = collect(study, MadeLedger(study).state)
    assert all(cell.summary.mean is None for cell in results.cells)
    assert results.statuses == {Status.NEW: 6}
    assert not results.intervals
    assert tuple(map(str, cell_of(results, 1).marks)) == ("seeds 0, 1, 2 not started",)


def test_a_seed_whose_convolutions_ran_in_other_arithmetic_is_marked() -> None:
    """Ledgers of GPUs from before it was recorded are read as what held then, TF32 in convolutions."""
    study = stub_study({0: None, 1: None})
    ledger = MadeLedger(study)
    recorded = (OTHER_MACHINE, OTHER_MACHINE | {"tf32": "convolutions"}, OTHER_MACHINE | {"tf32": "nothing"})
    for seed, machine in enumerate(recorded):
        ledger.trial(stub(1), seed, {"student/miou": 50.0}, machine=machine)
    results = collect(study, ledger.state)
    assert [str(each).split(", ")[-1] for each in results.environments] == ["TF32 in convolutions", "no TF32"]
    assert tuple(map(str, cell_of(results, 1).marks)) == ("seed 2 ran on machine B",)


def test_a_seed_from_another_machine_is_marked() -> None:
    study = stub_study({0: None, 1: None})
    ledger = MadeLedger(study)
    for seed, machine in ((0, MACHINE), (1, OTHER_MACHINE), (2, MACHINE)):
        ledger.trial(stub(1), seed, {"student/miou": 50.0}, machine=machine)
    results = collect(study, ledger.state)
    assert [each.device for each in results.environments] == ["cpu", "cuda"]
    assert tuple(map(str, cell_of(results, 1).marks)) == ("seed 1 ran on machine B",)


def test_results_of_earlier_code_stand_only_after_reuse_and_are_marked() -> None:
    study = stub_study({0: None, 1: None}, seeds=(0, 1))
    ledger = MadeLedger(study)
    ledger.trial(stub(1), 0, {"student/miou": 50.0}, fingerprint=EARLIER)
    ledger.trial(stub(1), 1, {"student/miou": 51.0})
    assert dict(cell_of(collect(study, ledger.state, now(study)), 1).values) == {1: 51.0}
    ledger.state.apply({"event": "reuse", "from": EARLIER, "to": FINGERPRINT, "time": 0})
    cell = cell_of(collect(study, ledger.state, now(study)), 1)
    assert dict(cell.values) == {0: 50.0, 1: 51.0}
    assert tuple(map(str, cell.marks)) == ("seed 0 trained by earlier code",)


def test_two_configs_compared_from_both_sides_are_one_interval() -> None:
    study = stub_study({0: None, 1: None, 2: None})
    results = collect(study, finished(study).state)
    assert len(results.intervals) == 3  # 1-0, 2-0 and 2-1; 0-1 is 1-0 again
    assert len(results.second_intervals) == 3


def test_a_reference_that_stands_in_no_table_is_still_compared() -> None:
    study = stub_study({5: None}, references={"base": 0, "default": 1})
    results = collect(study, finished(study).state)
    assert [each.paired.mean for each in results.main] == [2.0]
    assert len(results.intervals) == 3


def test_rows_with_a_baseline_of_their_own_are_compared_with_it_alone() -> None:
    against = {1: 3, 2: 0, 3: None}
    axis = Axis(
        name="level",
        levels=((1, 60.0), (2, 52.0), (3, 58.5)),
        make=stub,
        against=lambda level: None if against[level] is None else stub(against[level]),
    )
    study = Study(
        name="own",
        title="Own references",
        profile="mini",
        program=StubProgram(),
        tables=(Table(name="t", title="T", axis=axis),),
        references={"base": stub(0)},
    )
    results = collect(study, finished(study).state)
    assert results.tables[0].baselines == (OWN,)
    first, second, third = results.cells
    for cell, numbers in ((first, ("level 3", -4.0, 1.5)), (second, ("base", 4.0, None))):
        (own,) = cell.comparisons
        assert (own.baseline.name, own.paired.mean, own.paper) == numbers
    assert third.comparisons == (None,)


def test_a_steps_time_is_a_range_over_seeds_and_repeats() -> None:
    """Each trial's first report, in which it warms up, is left out where there are others."""
    study = stub_study({0: None, 1: None}, seeds=(0, 1))
    ledger = MadeLedger(study)
    ledger.trial(stub(0), 0, {"student/miou": 50.0}, steps=(2, 3, 4), step_ms=(900.0, 48.7, 50.0))
    ledger.trial(stub(0), 1, {"student/miou": 50.0}, steps=(2, 3, 4), step_ms=(700.0, 53.1, 49.0))
    ledger.trial(stub(1), 0, {"student/miou": 50.0, "time/step_ms": 150.0}, steps=(4,))
    results = collect(study, ledger.state)
    assert cell_of(results, 0).config.step_ms == (48.7, 53.1)
    assert cell_of(results, 1).config.step_ms == (150.0, 150.0)


def test_peak_memory_is_that_of_gpus() -> None:
    """What a process holds on a CPU is no property of a config."""
    study = stub_study({0: None, 1: None}, seeds=(0,))
    ledger = MadeLedger(study)
    ledger.trial(stub(0), 0, {"student/miou": 50.0, "memory/peak_mib": 7.0})
    ledger.trial(stub(1), 0, {"student/miou": 50.0, "memory/peak_mib": 9.0}, machine=OTHER_MACHINE)
    results = collect(study, ledger.state)
    assert [cell.config.peak_mib for cell in results.cells] == [None, 9.0]


def test_columns_take_the_papers_value_by_key_or_heading() -> None:
    paper = Published(miou=52.1, columns={"Road": 89.9, "student/iou/car": 84.5})
    table = Table(
        name="t",
        title="T",
        axis=Axis(name="level", levels=((0, paper),), make=stub),
        columns=(("student/iou/road", "Road"), ("student/iou/car", "Car"), ("student/iou/bus", "Bus")),
        quoted=(Quoted(label="other", paper=paper),),
    )
    study = Study(name="s", title="S", profile="mini", program=StubProgram(), tables=(table,))
    results = collect(study, MadeLedger(study).state)
    assert results.tables[0].paper_columns(paper) == (89.9, 84.5, None)
    assert results.tables[0].has_paper


def test_curves_leave_out_what_is_no_number() -> None:
    study = stub_study({0: None, 1: None}, seeds=(0,))
    ledger = MadeLedger(study)
    shape = lambda value, share: math.nan if share < 0.4 else value * share  # noqa: E731
    ledger.trial(stub(1), 0, {"student/miou": 50.0}, steps=(1, 2, 4), curve=shape)
    curve = cell_of(collect(study, ledger.state), 1).config.curve("student/miou")
    assert curve == {0: ((2, 25.0), (4, 50.0))}


def costing(level: int) -> StubConfig:
    """A config whose step takes longer, but for that of level 0."""
    return StubConfig(level=level, sleep_s=0.5 if level else 0.0)


def test_a_gain_stands_beside_the_time_a_step_of_all_trials_that_cost_alike() -> None:
    """Medians over both configs of a cost class, the first report apart; a multiple of the first reference's."""
    axis = Axis(name="level", levels=(0, 1, 2), make=costing)
    study = stub_study({}, tables=(Table(name="t", title="T", axis=axis),), references={"base": 0})
    ledger = MadeLedger(study)
    for level, times in ((0, (900.0, 10.0)), (1, (900.0, 14.0)), (2, (900.0, 16.0))):
        for seed in study.seeds:
            ledger.trial(costing(level), seed, {"student/miou": 50.0 + level + seed}, step_ms=times)
    results = collect(study, ledger.state)
    assert [(each.config.name, ratio, each.paired.mean) for ratio, each in gains(results)] == [
        ("level 1", 1.5, 1.0),
        ("level 2", 1.5, 2.0),
    ]


def test_no_gain_is_printed_beside_a_time_that_all_share() -> None:
    study = stub_study({0: None, 1: None})
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0, step_ms=(10.0, 20.0))
    assert gains(collect(study, ledger.state)) == ()


def test_equal_ends_of_unequal_curves_are_not_said_to_have_no_effect() -> None:
    """Two collapsed networks can end with one number."""
    study = stub_study({0: None, 1: None, 2: None}, seeds=(0,))
    ledger = MadeLedger(study)
    for level in (0, 1, 2):
        ledger.trial(
            stub(level), 0, {"student/miou": 5.0}, curve=lambda value, share, level=level: value * share**level
        )
    assert collect(study, ledger.state).alike == {}


def test_seeds_that_a_report_is_not_asked_for_are_named() -> None:
    study = stub_study({0: None})
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0)
    ledger.trial(stub(0), 7, {"student/miou": 90.0})
    ledger.trial(stub(0), 8, {"student/miou": 90.0}, outcome=None)
    assert collect(study, ledger.state).other_seeds == (7,)
