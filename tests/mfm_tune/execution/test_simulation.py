"""`--simulate`: finished curves on virtual slots, with the scheduler that trials run under."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm_tune.criteria import TARGET_MIOU
from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.settings import Stopping
from mfm_tune.execution.simulation import Curve, curves_of, replay, simulate
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.planning.forecast import wall_time
from mfm_tune.program import Outcome, Report
from mfm_tune.run import main
from tests.mfm_tune.execution.test_early_stopping import ends, simulated
from tests.mfm_tune.made_ledger import MadeLedger, stub_study
from tests.mfm_tune.stub_space import forgotten_after, write_space

METRIC = "student/miou"
STEPS = 8


def curve(number: int, values: tuple[float, ...], *, seed: int = 0, step_s: float = 1.0) -> Curve:
    """A trial of 8 steps with a report each 8 / len(values) of them."""
    interval = STEPS // len(values)
    reports = tuple(
        Report(step=interval * (at + 1), planned_steps=STEPS, metrics={METRIC: value})
        for at, value in enumerate(values)
    )
    return Curve(f"c{number}-s{seed}", f"c{number}", seed, reports, step_s)


def test_a_replay_worked_by_hand() -> None:
    """One slot, curves of 4 reports, rungs after 2 and 4 of 8 steps: the first finishes; the second is worse at the
    first rung and stops after 2 steps; the third is the best at both and finishes, twice as slow."""
    curves = [curve(0, (50, 50, 50, 50)), curve(1, (40, 90, 90, 90)), curve(2, (60, 60, 60, 60), step_s=2.0)]
    early = replay(curves, EarlyStopper(Stopping()), 1)
    assert (early.steps, early.seconds, early.stopped) == (8 + 2 + 8, 8 + 2 + 16, {"c1-s0": 2})
    full = replay(curves, None, 1)
    assert (full.steps, full.seconds, full.stopped) == (24, 32, {})


def test_the_winner_that_asha_would_have_picked() -> None:
    """In the given order a late bloomer is stopped: regret is the difference after all steps, by seed."""
    curves = [curve(0, (50, 50, 50, 50)), curve(1, (40, 90, 90, 90)), curve(0, (10.0,) * 4, seed=1)]
    [given] = simulate(curves, Stopping(), 1, orders=1)
    assert [(pick.seed, pick.full, pick.early, pick.regret) for pick in given.picks] == [
        (0, "c1", "c0", 40.0),
        (1, "c0", "c0", 0.0),
    ]
    assert given.steps_saved == pytest.approx(100 * 6 / 24)
    orders = simulate(curves, Stopping(), 1, orders=20)
    assert {result.picks[0].early for result in orders} == {"c0", "c1"}  # started first, it is not stopped


def test_a_baseline_is_never_stopped_and_wins_where_it_may() -> None:
    """As when trials run: it may come to a rung last, because its first steps take long, and goes on all the same. A
    search chooses among the others."""
    slow, *others = [curve(number, (value,) * 4) for number, value in enumerate((70, 60, 50))]
    curves = [replace(slow, step_s=9.0), *others]
    for winners, best in ((None, "c0"), (["c1", "c2"], "c1")):
        for result in simulate(curves, Stopping(), 3, first=["c0"], winners=winners):
            assert "c0-s0" not in result.early.stopped
            assert (result.picks[0].full, result.picks[0].early) == (best, best)
    strong = [curve(number, value) for number, value in enumerate(((70,) * 4, (50, 50, 60, 60), (40, 90, 90, 90)))]
    [given] = simulate(strong, Stopping(), 1, first=["c0"], winners=["c1", "c2"], orders=1)
    assert set(given.early.stopped) == {"c1-s0", "c2-s0"}  # against the baseline, so that the best of them is picked
    assert (given.picks[0].full, given.picks[0].early, given.picks[0].regret) == ("c2", "c1", 30.0)
    late = [replace(curves[0], reports=curve(0, (1,) * 4).reports), *others]
    assert all("c0-s0" not in result.early.stopped for result in simulate(late, Stopping(), 3, first=["c0"]))


steps_of = st.lists(st.floats(0.01, 10), min_size=1, max_size=12)


@settings(max_examples=50)
@given(steps_of, st.integers(1, 5))
def test_without_a_scheduler_slots_are_filled_as_the_forecast_says(paces: list[float], slots: int) -> None:
    """The virtual clock is that of `wall_time`."""
    curves = [curve(number, (1.0, 2.0), step_s=pace) for number, pace in enumerate(paces)]
    full = replay(curves, None, slots)
    assert full.seconds == pytest.approx(wall_time([STEPS * pace for pace in paces], slots))
    assert full.steps == STEPS * len(paces)


values = st.lists(st.tuples(*[st.floats(0, 100)] * 4), min_size=1, max_size=8)


@settings(max_examples=30)
@given(values, st.integers(1, 3))
def test_a_replay_stops_the_trials_that_a_run_stops(curves: list[tuple[float, ...]], slots: int) -> None:
    """The same curves through the narrator, the recorder and the ledger end at the same rungs."""
    run = ends(simulated(curves, workers=slots).run())
    made = [curve(number, each) for number, each in enumerate(curves)]
    stopped = replay(made, EarlyStopper(Stopping()), slots).stopped
    assert [stopped.get(each.key) for each in made] == [
        rung if outcome is Outcome.STOPPED else None for outcome, rung in run.values()
    ]


def test_only_finished_trials_with_a_duration_are_replayed() -> None:
    """A stopped or failed trial has no full curve."""
    made = MadeLedger(stub_study({1: None, 2: None}))
    made.trial(made.study.tables[0].axis.make(1), 0, {METRIC: 1.0})
    made.trial(made.study.tables[0].axis.make(2), 0, {METRIC: 2.0}, outcome=Outcome.STOPPED)
    kept = curves_of(list(made.state.trials.values()))
    assert [each.value(TARGET_MIOU) for each in kept] == [1.0]


def test_the_command_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the ledger alone; with too little in it, one sentence."""
    body = 'STUDY = study("smoke", seeds=(0, 1), make=lambda v: StubConfig(level=v, quality=10.0 * v, steps=8))'
    storage = tmp_path / "storage"
    with forgotten_after(tmp_path):
        command = [str(write_space(tmp_path, body)), "--storage", str(storage), "--no-tracking"]
        LedgerWriter(made_folder(storage) / "ledger.jsonl").close()
        assert main([*command, "--simulate"]) == 2
        assert "at least two configs, and the ledger has 0" in capsys.readouterr().err
        assert main([*command, "--inline"]) == 0
        capsys.readouterr()
        before = (storage / "ledger.jsonl").read_bytes()
        assert main([*command, "--simulate", "--slots", "1"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 trials replayed from the ledger on 1 slot, ASHA" in said
    assert "steps        32 ->" in said
    assert "seed 0       best student mIoU: level 2; picked in 20 of 20 orders; mean regret 0.00" in said
    assert (storage / "ledger.jsonl").read_bytes() == before
    alone = body.replace(
        "steps=8)", "steps=8), references={f'{v}': StubConfig(level=v, quality=10.0 * v, steps=8) for v in (1, 2)}"
    )
    with forgotten_after(tmp_path):
        write_space(tmp_path, alone)
        assert main([*command, "--simulate"]) == 2
    assert "--simulate stops no baseline and no reference" in capsys.readouterr().err


def test_inline_runs_and_the_simulation_of_asha_need_no_ray(tmp_path: Path) -> None:
    """The stopping rule is our own: both run where ray cannot be imported."""
    body = 'STUDY = study("smoke", seeds=(0, 1), make=lambda v: StubConfig(level=v, quality=10.0 * v, steps=8))'
    command = [str(write_space(tmp_path, body)), "--storage", str(tmp_path / "storage"), "--no-tracking"]
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from mfm_tune.run import main\n"
        "assert main([*sys.argv[1:], '--inline']) == 0\n"
        "assert main([*sys.argv[1:], '--simulate', '--slots', '1']) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code, *command], check=True)


def made_folder(path: Path) -> Path:
    """The folder, made."""
    path.mkdir()
    return path
