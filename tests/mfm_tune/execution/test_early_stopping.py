"""ASHA by seed, in thousands of simulated runs: whatever trials report, each ends, and is judged as it should be.

Workers and time are simulated. The scheduler, the stopping rule, the narrator, the recorder and what the ledger
adds up to are real.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import AsyncHyperBandScheduler

from mfm_tune.criteria import TARGET_MIOU, Criterion
from mfm_tune.execution.early_stopping import EarlyStopper, bracket_of
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import Stopping
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome, Report
from mfm_tune.results.study import collect
from mfm_tune.search_space import Asha, Median, Scheduler
from mfm_tune.space import Axis, Study, Table
from mfm_tune.tune.callback import LedgerCallback, report_of
from mfm_tune.tune.start_order import OrderedScheduler
from tests.mfm_tune.stub_launch import executed_steps, launch, stub_trials
from tests.mfm_tune.stub_program import StubConfig, StubProgram

METRIC = "student/miou"
STEPS, INTERVAL = 8, 2  # ASHA looks after 2 and 4 of 8 steps
MISSING = "missing"
Value = float | str | None
Curve = tuple[Value, ...]  # one value an evaluation
finite = st.floats(0, 100)
anything = st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf, None, MISSING]))
curves = st.lists(st.tuples(*[anything] * (STEPS // INTERVAL)), min_size=1, max_size=8)
good_curves = st.lists(st.tuples(*[finite] * (STEPS // INTERVAL)), min_size=1, max_size=8)


# --------------------------------------------------------------------------------------------------------------------
# Simulated workers
# --------------------------------------------------------------------------------------------------------------------


class Memory:
    """A ledger's writer without a file."""

    def __init__(self) -> None:
        self.lines = 0

    def append(self, event: Event) -> Event:
        self.lines += 1
        return {**event, "time": self.lines}


@dataclass
class TuneTrial:
    """What schedulers and callbacks read of one of Tune's trials."""

    config: Mapping[str, str]
    status: str = "PENDING"
    step: int = 0


@dataclass
class Simulation:
    """Trials with the curves they will report, on `workers` workers whose blocks take `paces` units of time."""

    trials: Sequence[Trial]
    curves: Mapping[str, Curve]
    workers: int = 1
    paces: Sequence[int] = (1,)
    state: LedgerState = field(default_factory=LedgerState)
    scheduler: Scheduler = field(default_factory=Asha)
    criterion: Criterion = TARGET_MIOU
    never: frozenset[str] = frozenset()

    def run(self, *, blocks: int = 10_000) -> LedgerState:
        """Run to the end, or up to a number of blocks, as if the driver were killed then."""
        stopping = Stopping(
            scheduler=self.scheduler,
            criterion=self.criterion,
            never=self.never,
            history=self.state.history(self.state.trials),
        )
        left = [trial for trial in self.trials if self._outcome(trial) is None]
        scheduler = OrderedScheduler(EarlyStopper(stopping), report_of)
        recorder = Recorder(
            Ledger(Memory(), self.state), storage=Path("/nowhere"), launch="", study="", profile="", trials=self.trials
        )
        narrator = LedgerCallback(recorder, scheduler, retry_out_of_memory=False)
        waiting = [TuneTrial({"trial": trial.key}, step=self._step(trial)) for trial in left]
        for trial in waiting:
            scheduler.on_trial_add(None, trial)
        self._drive(scheduler, narrator, waiting, blocks)
        assert narrator.fatal is None
        return self.state

    def _drive(
        self, scheduler: OrderedScheduler, narrator: LedgerCallback, trials: list[TuneTrial], blocks: int
    ) -> None:
        controller = type("Controller", (), {"get_trials": lambda _: trials})()
        busy: list[tuple[int, int, TuneTrial]] = []
        now = 0
        while blocks > 0:
            while len(busy) < self.workers and (trial := scheduler.choose_trial_to_run(controller)) is not None:
                trial.status = "RUNNING"
                narrator.on_trial_start(0, trials, trial)
                self._begin_block(busy, trial, now)
            if not busy:
                return
            now, _, trial = heapq.heappop(busy)
            blocks -= 1
            if self._one_block(scheduler, narrator, trials, trial):
                trial.status = "TERMINATED"
            else:
                self._begin_block(busy, trial, now)

    def _begin_block(self, busy: list[tuple[int, int, TuneTrial]], trial: TuneTrial, now: int) -> None:
        rank = [each.key for each in self.trials].index(trial.config["trial"])
        heapq.heappush(busy, (now + self.paces[rank % len(self.paces)], rank, trial))

    def _one_block(
        self, scheduler: OrderedScheduler, narrator: LedgerCallback, trials: list[TuneTrial], trial: TuneTrial
    ) -> bool:
        """Whether the trial has ended, told in the order in which Tune does."""
        key = trial.config["trial"]
        trial.step += INTERVAL
        value = self.curves[key][trial.step // INTERVAL - 1]
        done = trial.step >= STEPS
        report = {"step": trial.step, "planned_steps": STEPS, "metrics": {} if value == MISSING else {METRIC: value}}
        report["outcome"] = "finished" if done else None
        seed = next(each.seed for each in self.trials if each.key == key)
        result: dict[str, Any] = {"report": json.dumps(report), "seed": seed, "refused": "", "done": done}
        stopped = not done and scheduler.on_trial_result(None, trial, result) == OrderedScheduler.STOP
        narrator.on_trial_result(0, trials, trial, result)
        return done or stopped

    def _outcome(self, trial: Trial) -> Outcome | None:
        record = self.state.trials.get(trial.key)
        return None if record is None else record.outcome

    def _step(self, trial: Trial) -> int:
        record = self.state.trials.get(trial.key)
        return 0 if record is None else record.step


def simulated(values: Sequence[Curve], *, seeds: Sequence[int] = (0,), first: int = 0, **how: Any) -> Simulation:
    """One trial a curve and seed; the seeds share curves, and the configs are numbered from `first`."""
    trials = stub_trials([StubConfig(steps=STEPS, level=first + number) for number in range(len(values))], seeds)
    level = {trial.key: trial.config.level - first for trial in trials}
    return Simulation(trials, {key: values[number] for key, number in level.items()}, **how)


def ends(state: LedgerState) -> dict[str, tuple[Outcome | None, int | None]]:
    """Outcome and rung of each trial."""
    return {key: (record.outcome, record.rung) for key, record in state.trials.items()}


def is_finite(value: Value) -> bool:
    return isinstance(value, float) and math.isfinite(value)


# --------------------------------------------------------------------------------------------------------------------
# Properties
# --------------------------------------------------------------------------------------------------------------------


any_run = given(curves, st.integers(1, 4), st.lists(st.integers(1, 5), min_size=1, max_size=5))


@settings(max_examples=100)
@any_run
def test_every_trial_ends_whatever_it_reports(values: list[Curve], workers: int, paces: list[int]) -> None:
    """NaN, infinity, None and missing metrics hang nothing: each trial finishes, or was stopped at one of the rungs."""
    check_every_trial_ends(values, workers, paces)


@pytest.mark.slow
@settings(max_examples=4000)
@any_run
def test_every_trial_ends_in_thousands_of_runs(values: list[Curve], workers: int, paces: list[int]) -> None:
    """The same, thousands of times."""
    check_every_trial_ends(values, workers, paces)


@settings(max_examples=60)
@given(curves, st.integers(1, 4), st.sampled_from([Asha(brackets=2), Asha(reduction_factor=3), Median(trials=2)]))
def test_every_trial_ends_under_other_rules(values: list[Curve], workers: int, scheduler: Scheduler) -> None:
    """Brackets, another factor, median stopping; and a replay of the ledger judges each trial as it was judged."""
    simulation = simulated(values, seeds=(0, 1), workers=workers, scheduler=scheduler)
    state = simulation.run()
    assert {outcome for outcome, _ in ends(state).values()} <= {Outcome.FINISHED, Outcome.STOPPED}
    judged = EarlyStopper(Stopping(scheduler=scheduler, history=state.history(state.trials)))
    reported = [
        key
        for key, record in state.trials.items()  # a report without metrics is not in the ledger
        if len(record.reports) == record.step // INTERVAL and record.rung in (None, record.step)
    ]
    assert {key: judged.stopped_at(key) for key in reported} == {key: ends(state)[key][1] for key in reported}


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=1, max_size=8))
def test_smaller_is_better_mirrors_larger_is_better(values: list[list[int]]) -> None:
    """A criterion's direction turns the comparison around, and nothing else."""
    smaller = Criterion(key=METRIC, label="", larger_is_better=False)
    for scheduler in (Asha(), Median(trials=1)):
        own = simulated([tuple(map(float, each)) for each in values], criterion=smaller, scheduler=scheduler)
        mirrored = simulated([tuple(100.0 - each for each in curve) for curve in values], scheduler=scheduler)
        assert list(ends(own.run()).values()) == list(ends(mirrored.run()).values())


@given(st.text(max_size=12), st.integers(1, 4))
def test_a_bracket_is_drawn_from_the_key(key: str, brackets: int) -> None:
    """So it is the same one after a restart, and one that there is."""
    drawn = bracket_of(key, Asha(rungs=4, brackets=brackets))
    assert drawn == bracket_of(key, Asha(rungs=4, brackets=brackets))
    assert 0 <= drawn < brackets


def test_a_baseline_is_compared_with_and_never_stopped() -> None:
    """It fills the rungs for the others."""
    simulation = simulated([(90.0,) * 4, (10.0,) * 4, (20.0,) * 4])
    keys = [trial.key for trial in simulation.trials]
    simulation.never = frozenset({keys[1]})
    after = ends(simulation.run())
    assert after[keys[1]] == (Outcome.FINISHED, None)
    assert after[keys[2]] == (Outcome.STOPPED, 2)


@dataclass(frozen=True)
class Named:
    """What Ray's ASHA needs of a trial."""

    trial_id: str


@settings(max_examples=100)
@given(st.integers(2, 4), st.integers(1, 3), st.lists(st.tuples(st.integers(0, 5), finite), max_size=40))
def test_asha_stops_what_ray_tunes_own_would_stop(factor: int, rungs: int, reported: list[tuple[int, float]]) -> None:
    """Trial by trial, in any order of reports that climb the rungs one by one."""
    steps = factor**rungs
    own = EarlyStopper(Stopping(scheduler=Asha(reduction_factor=factor, rungs=rungs)))
    rays = AsyncHyperBandScheduler(
        time_attr="time", metric="value", mode="max", max_t=steps, grace_period=1, reduction_factor=factor
    )
    climbed: dict[str, int] = {}
    for name, value in reported:
        key = str(name)
        rung = climbed.get(key, -1) + 1
        if rung >= rungs:
            continue
        if rung == 0:
            rays.on_trial_add(None, Named(key))
        report = Report(step=factor**rung, planned_steps=steps, metrics={METRIC: value})
        decision = rays.on_trial_result(None, Named(key), {"time": factor**rung, "value": value})
        assert own.stops(key, 0, report) == (decision == AsyncHyperBandScheduler.STOP)
        climbed[key] = rungs if decision == AsyncHyperBandScheduler.STOP else rung


def check_every_trial_ends(values: list[Curve], workers: int, paces: list[int]) -> None:
    simulation = simulated(values, seeds=(0, 1), workers=workers, paces=paces)
    state = simulation.run()
    assert set(state.trials) == {trial.key for trial in simulation.trials}
    assert {outcome for outcome, _ in ends(state).values()} <= {Outcome.FINISHED, Outcome.STOPPED}
    assert all((rung in (2, 4)) == (outcome is Outcome.STOPPED) for outcome, rung in ends(state).values())


@settings(max_examples=40)
@given(curves)
def test_a_trial_without_a_number_is_stopped_at_the_rung(values: list[Curve]) -> None:
    """Ray's ASHA lets NaN pass every rung, so that a diverged trial takes the whole budget; ours does not."""
    simulation = simulated(values)
    state = simulation.run()
    for trial in simulation.trials:
        curve = simulation.curves[trial.key]
        if not is_finite(curve[0]):
            assert ends(state)[trial.key] == (Outcome.STOPPED, 2)
        if state.trials[trial.key].outcome is Outcome.FINISHED:
            assert is_finite(curve[0])
            assert is_finite(curve[1])


@settings(max_examples=40)
@given(good_curves, st.integers(0, 8), st.sampled_from([math.nan, math.inf, -math.inf, None, MISSING]))
def test_a_trial_without_a_number_moves_no_cut_off(values: list[Curve], place: int, bad: Value) -> None:
    """The others end as if it had not been there."""
    among = [*values[:place], (bad,) * 4, *values[place:]]
    alone = list(ends(simulated(values).run()).values())
    together = list(ends(simulated(among).run()).values())
    del together[min(place, len(values))]
    assert together == alone


@settings(max_examples=40)
@given(good_curves, curves)
def test_seeds_do_not_meet(values: list[Curve], others: list[Curve]) -> None:
    """A seed whose numbers are lower throughout loses no trial for that."""
    own, other = simulated(values), simulated(others, seeds=(1,), first=100)
    alone = ends(own.run())
    both = Simulation([*other.trials, *simulated(values).trials], {**own.curves, **other.curves})
    together = ends(both.run())
    assert {key: together[key] for key in alone} == alone


@settings(max_examples=40)
@given(good_curves)
def test_the_first_and_the_best_so_far_always_go_on(values: list[Curve]) -> None:
    """So a reference that stands first finishes; and among growing numbers nobody is stopped."""
    state = simulated(values).run()
    assert next(iter(ends(state).values())) == (Outcome.FINISHED, None)
    growing = ends(simulated(sorted(values, key=max), seeds=(0,)).run())
    assert len(growing) == len(values)
    constant = sorted(max(each) for each in values if isinstance(max(each), float))
    risen = ends(simulated([(each,) * 4 for each in constant]).run())
    assert set(risen.values()) == {(Outcome.FINISHED, None)}


@settings(max_examples=40)
@given(curves, st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_a_restart_goes_on_as_if_there_had_been_none(values: list[Curve], kills: list[int]) -> None:
    """Rungs are rebuilt from the ledger: the driver killed between any two blocks, the same trials are stopped."""
    undisturbed = ends(simulated(values, seeds=(0, 1)).run())
    disturbed = simulated(values, seeds=(0, 1))
    for blocks in kills:
        disturbed.run(blocks=blocks)
    assert ends(disturbed.run()) == undisturbed


@settings(max_examples=30)
@given(st.lists(good_curves.map(lambda each: each[0]), min_size=3, max_size=8))
def test_a_stopped_trial_never_enters_an_average(values: list[Curve]) -> None:
    """Each printed number is that of finished trials, and the cell of a stopped one says that seeds are missing."""
    simulation = simulated(values, seeds=(0, 1))
    state = simulation.run()
    axis = Axis(
        name="level",
        levels=tuple((number, None) for number in range(len(values))),
        make=lambda number: StubConfig(steps=STEPS, level=number),
    )
    study = Study(
        name="stub",
        title="Stub",
        profile="smoke",
        program=StubProgram(),
        tables=(Table(name="a", title="(a)", axis=axis),),
        references={"first": StubConfig(steps=STEPS, level=0)},
        seeds=(0, 1),
        metric=METRIC,
    )
    for cell in collect(study, state).cells:
        finished = [each for each in cell.config.records if each.outcome is Outcome.FINISHED]
        assert set(cell.values) == {each.seed for each in finished}
        assert list(cell.values.values()) == [each.metrics[METRIC] for each in finished]
        assert cell.complete == (len(finished) == 2)


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(1, 4), st.integers(1, 500), st.integers(1, 500))
def test_rungs_lie_at_parts_of_the_planned_steps(factor: int, count: int, blocks: int, step: int) -> None:
    """The number of rungs at or below a step is that of the planned steps / factor**k reached."""
    planned = blocks * factor**count
    bounds = [planned // factor**k for k in range(count, 0, -1)]
    reached = Asha(reduction_factor=factor, rungs=count).reached(step, planned)
    assert reached == sum(step >= bound for bound in bounds)


# --------------------------------------------------------------------------------------------------------------------
# Through Ray
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_through_ray_weaker_trials_stop_and_go_on_without_asha(ray_head: str, tmp_path: Path) -> None:
    """Seed 1 is worse throughout, yet loses only what is worse within seed 1; later, without ASHA, all finish, and no
    step is executed twice."""

    def configs(shift: float, level: int) -> list[StubConfig]:
        return [StubConfig(steps=STEPS, quality=quality - shift, level=level) for quality in (60.0, 40.0)]

    silent = StubConfig(steps=STEPS, without_metrics=True)
    diverging = StubConfig(steps=STEPS, nan_at=5, quality=70)
    trials = (
        *stub_trials([*configs(0, 0), diverging, silent], seeds=(0,)),
        *stub_trials(configs(30, 1), seeds=(1,)),
    )
    after = launch(tmp_path, trials, address=ray_head, asha=True, cpus_per_trial=2)
    stopped = (Outcome.STOPPED, 2)
    finished = (Outcome.FINISHED, None)
    expected = [finished, stopped, (Outcome.DIVERGED, None), stopped, finished, stopped]
    assert [ends(after.state)[trial.key] for trial in trials] == expected
    weak = [trials[1], trials[3], trials[5]]
    later = launch(tmp_path, weak, address=ray_head)
    assert [ends(later.state)[trial.key] for trial in weak] == [finished] * 3
    assert [executed_steps(tmp_path, trial) for trial in weak] == [STEPS] * 3


def test_the_simulation_uses_the_words_of_ray() -> None:
    """Of a trial's status."""
    assert (RayTrial.PENDING, RayTrial.RUNNING, RayTrial.TERMINATED) == ("PENDING", "RUNNING", "TERMINATED")
