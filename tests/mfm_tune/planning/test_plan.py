"""The plan: distinct configs times seeds, minus what the ledger has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mfm_tune.commands.options import parse_options
from mfm_tune.commands.sentences import further
from mfm_tune.errors import OptionError, SearchSpaceError
from mfm_tune.execution.probe import unknown_costs
from mfm_tune.identity import canonical, config_id
from mfm_tune.ledger.events import study_event
from mfm_tune.ledger.records import ConfigRecord
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.forecast import (
    Slots,
    StepTimes,
    duration,
    estimate_cost,
    forecast,
    hours_a_trial,
    resource_hours,
    step_table,
    unknown_classes,
    wall_time,
)
from mfm_tune.planning.plan import Choice, Plan, Status, changed_code, describe, make_plan, results_of_other_code
from mfm_tune.program import Outcome
from mfm_tune.space import Axis, Study, Table
from tests.mfm_tune.stub_program import StubConfig, StubProgram

CODE = TrainingCode(StubProgram().packages)
DEFAULT = StubConfig(quality=50)
BASELINE = StubConfig(quality=10)
QUALITY = Axis(name="quality", levels=((40, 1.0), (50, 2.0)), make=lambda value: StubConfig(quality=value))
LEVEL = Axis(
    name="level",
    levels=((0, None), (1, None)),
    make=lambda value: StubConfig(level=value),
    against=lambda value: StubConfig(quality=99) if value else None,
)
STUDY = Study(
    name="stub",
    title="A stub",
    profile="smoke",
    program=StubProgram(),
    tables=(Table(name="a", title="Quality", axis=QUALITY), Table(name="b", title="Level", axis=LEVEL)),
    references={"baseline": BASELINE, "default": DEFAULT},
    seeds=(0, 1),
)


def plan(state: LedgerState | None = None, **choice: Any) -> Plan:
    """The study's plan."""
    return make_plan(STUDY, state or LedgerState(), CODE, Choice(**choice))


def told(
    *outcomes: Outcome | None, fingerprint: str | None = None, step: int = 4, wall_s: float = 8.0, device: str = ""
) -> LedgerState:
    """A ledger in which the first trials of the plan have these outcomes (None: still open)."""
    state = LedgerState()
    for number, (trial, outcome) in enumerate(zip(plan().to_do, outcomes, strict=False)):
        code = fingerprint or trial.fingerprint
        key = f"{trial.config_id}-s{trial.seed}-{code[:8]}"
        common = {"time": 1000 * number, "key": key}
        config = {"config": canonical(trial.config), "planned_steps": 4, "cost_class": trial.cost_class}
        where = {"folder": "f", "study": "stub", "profile": "smoke", "benchmark": "stub"}
        who = {"config_id": trial.config_id, "seed": trial.seed, "fingerprint": code}
        state.apply({"event": "config", "config_id": trial.config_id, "benchmark": "stub", "classes": [], **config})
        state.apply({"event": "start", **common, **who, **where})
        steps = {"step": step, "planned_steps": 4, "executed_steps": step}
        machine = {"machine": {"device": device}} if device else {}
        state.apply({"event": "report", **common, **steps, "metrics": {}, **machine})
        if outcome is not None:
            state.apply({"event": "end", **common, "outcome": outcome.value, "step": step, "wall_s": wall_s})
    return state


def test_a_shared_config_trains_once_and_references_come_first() -> None:
    """Four cells and two references are four configs; seed 0 of all comes before seed 1, references before the rest."""
    trials = plan().to_do
    order = [BASELINE, DEFAULT, StubConfig(quality=40), StubConfig(level=1), StubConfig(quality=99)]
    assert [(trial.seed, trial.config_id) for trial in trials] == [
        (seed, config_id(config)) for seed in (0, 1) for config in order
    ]
    assert len({trial.key for trial in trials}) == 10
    assert trials[0].folder == f"trials/{config_id(BASELINE)}/s0-{trials[0].fingerprint[:8]}"


def test_only_takes_axes_and_tables_and_keeps_the_references() -> None:
    """`--only` narrows the cells; references stay, since cells are compared with them, as do a row's own."""
    narrowed = plan(only=("quality",))
    assert [cell.level for cell in narrowed.cells] == ["40", "50"]
    assert {planned.trial.config.quality for planned in narrowed.trials} == {10, 40, 50}
    assert [cell.table for cell in plan(only=("b",)).cells] == ["b", "b"]
    assert plan(only=("quality", "b")).distinct == plan().distinct


def test_only_with_an_unknown_name_lists_what_there_is() -> None:
    """The sentence names all axes and tables."""
    with pytest.raises(OptionError, match="'dim', which study 'stub' does not have; its axes are quality, level, and"):
        plan(only=("dim",))


def test_a_half_done_ledger_leaves_the_rest() -> None:
    """Finished, out of memory and diverged stand; failed, open and stopped trials are to do; new ones too."""
    state = told(Outcome.FINISHED, Outcome.OOM, Outcome.DIVERGED, Outcome.FAILED, Outcome.STOPPED, None)
    half = plan(state)
    assert [planned.status for planned in half.trials] == [
        Status.FINISHED, Status.OOM, Status.DIVERGED, Status.FAILED, Status.STOPPED, Status.OPEN, *[Status.NEW] * 4
    ]  # fmt: skip
    assert [planned.to_do for planned in half.trials] == [False, False, False, *[True] * 7]
    assert half.trials[3].trial.attempts == 1
    assert half.trials[5].trial.step == 4


@pytest.mark.parametrize("outcome", [Outcome.OOM, Outcome.DIVERGED])
def test_oom_and_diverged_are_tried_again_only_when_asked(outcome: Outcome) -> None:
    """Each is asked for by itself."""
    state = told(outcome)
    assert not plan(state).trials[0].to_do
    assert plan(state, retry=frozenset({outcome})).trials[0].to_do
    assert not plan(state, retry=frozenset({Outcome.OOM, Outcome.DIVERGED} - {outcome})).trials[0].to_do


def test_what_asha_stopped_stays_stopped_under_asha() -> None:
    """It goes on when run without."""
    state = told(Outcome.STOPPED)
    assert not plan(state, asha=True).trials[0].to_do
    assert plan(state).trials[0].to_do


def test_what_asha_stopped_stays_stopped_when_other_code_is_reused() -> None:
    """A search whose code changed in what does not matter is not explored again; run without ASHA it begins anew, since
    no trial goes on with another program's checkpoint."""
    state = told(Outcome.STOPPED, None, fingerprint="f" * 64)
    assert plan(state, asha=True).trials[0].to_do
    state.reuse.add(("f" * 64, plan().trials[0].trial.fingerprint))
    again = plan(state, asha=True).trials
    assert (again[0].status, again[0].to_do, again[1].status) == (Status.STOPPED, False, Status.NEW)
    assert plan(state).trials[0].to_do
    assert plan(state).trials[0].trial.step == 0


class Exporting(StubProgram):
    """A program whose trials leave models."""

    def export_command(self, folder: str, model: str) -> str:
        """What is typed to have one."""
        return f"export {folder} {model}"


def test_the_model_to_export_is_of_the_trial_that_counts() -> None:
    """The one that other code left, where its results are reused, in its own folder."""
    state = told(Outcome.FINISHED, fingerprint="f" * 64)
    state.reuse.add(("f" * 64, plan().trials[0].trial.fingerprint))
    reused = make_plan(replace(STUDY, program=Exporting()), state, CODE, Choice())
    lines = further(parse_options(["stub.py"]), reused, state).splitlines()
    assert lines[-1].split() == ["export", "runs/f", "MODEL", "(a", "trained", "model)"]


def test_the_two_configs_to_compare_are_named_so_that_they_are_found() -> None:
    """By name, with study and profile where the ledger has other configs of these names, as another profile's."""
    state = LedgerState()
    larger = replace(STUDY, profile="mini", references={"baseline": StubConfig(quality=5), "default": DEFAULT})
    for study, named in ((STUDY, "baseline default"), (larger, "baseline default --study stub --profile mini")):
        declared = study_event(study, state, {})
        assert declared is not None
        state.apply({**declared, "time": 0})
        for config in study.configs():
            state.configs[config] = ConfigRecord(config={}, benchmark="", classes=(), planned_steps=4, cost_class="")
        planned = make_plan(study, state, CODE, Choice())
        assert f"mfm_tune.diff {named} (two" in further(parse_options(["stub.py"]), planned, state)


def test_results_of_other_code_are_counted_and_the_changed_files_named() -> None:
    """Finished trials of another fingerprint are neither counted as done nor passed over in silence."""
    state = told(Outcome.FINISHED, Outcome.FINISHED, Outcome.FAILED, fingerprint="f" * 64)
    files = next(iter(plan().fingerprints.values())).files
    state.codes["f" * 64] = {**files, "tests/mfm_tune/stub_program.py": "other", "gone.py": "x"}
    after = plan(state)
    others = results_of_other_code(after, state)
    today = after.trials[0].trial.fingerprint
    assert others == {("f" * 64, today): 2}
    assert len(after.to_do) == 10
    sentence = str(changed_code(after, state, others))
    assert sentence.startswith("2 finished trials were trained by other code")
    assert "gone.py, tests/mfm_tune/stub_program.py;" in sentence
    assert "--reuse" in sentence
    assert "--retrain" in sentence
    state.reuse.update(others)
    assert len(plan(state).to_do) == 8
    assert not results_of_other_code(plan(state), state)


def test_the_time_is_known_where_a_config_or_its_cost_class_ran() -> None:
    """Nothing ran: unknown. One of the class ran at 2 s a step: nine trials of 4 steps on two slots, 72 s in all."""
    nothing = forecast(plan().to_do, StepTimes(LedgerState()), 2)
    assert (nothing.wall_s, nothing.busy_s, nothing.unknown) == (None, 0.0, {"stub, 0 s a step": 10})
    state = told(Outcome.FINISHED)
    known = forecast(plan(state).to_do, StepTimes(state), 2)
    assert (known.wall_s, known.busy_s, known.unknown) == (40.0, 72.0, {})


def test_a_probe_tells_the_time_until_a_trial_of_the_class_has_run() -> None:
    """1 s a step and two evaluations of 4 s make 3 s a step of four; a trial that took 2 s a step knows better."""
    state = LedgerState()
    state.apply(probed(step_s=1.0, evaluation_s=4.0))
    assert forecast(plan().to_do, StepTimes(state), 1).wall_s == 10 * 4 * 3.0
    ran = told(Outcome.FINISHED)
    ran.apply(probed(step_s=1.0, evaluation_s=4.0))
    assert forecast(plan(ran).to_do, StepTimes(ran), 1).wall_s == 9 * 4 * 2.0
    assert plan(state).to_do == plan().to_do  # a probe is never a result


@dataclass(frozen=True)
class Shipping(StubProgram):
    """A stub that brings step times."""

    def step_times(self) -> list[tuple[str, bool, dict[str, float]]]:
        """Of its one cost class, on a CPU and on a GPU."""
        return [("a core", False, {"stub, 0 s a step": 1.0}), ("a GPU", True, {"stub, 0 s a step": 90.0})]


def test_times_that_come_with_the_program_count_until_this_machine_has_its_own() -> None:
    """1 s a step elsewhere: 40 s. Where another class of the benchmark took twice as long here, so does this one."""
    table = step_table(Shipping(), gpu=False)
    assert table is not None
    assert forecast(plan().to_do, StepTimes(LedgerState(), table), 1).wall_s == 40.0
    ran = told(Outcome.FINISHED)  # 2 s a step
    assert forecast(plan(ran).to_do, StepTimes(ran, table), 1).wall_s == 9 * 4 * 2.0
    two = table._replace(seconds={**table.seconds, "other": 5.0})
    other = replace(plan().to_do[0], config_id="other", cost_class="other")
    assert StepTimes(ran, two).seconds(other) == 10.0
    assert StepTimes(LedgerState(), two).seconds(replace(other, cost_class="third")) is None


def test_an_estimate_names_the_machine_that_step_times_are_of() -> None:
    """Once this one has all, it does not; where there is no GPU, hours of one are still known."""
    trials, slots = plan().to_do, Slots(count=1, cpus=1, gpus=0.0)
    time, cost = estimate_cost(trials, LedgerState(), slots, Shipping())
    assert time == "about 40 s, one trial after the other (measured on a core; --probe measures yours)"
    assert cost == "about 0.011 CPU-hours"
    ran = told(Outcome.FINISHED)
    assert "measured on" not in estimate_cost(plan(ran).to_do, ran, slots, Shipping())[0]
    others = [replace(trial, cost_class="other") for trial in trials[:1]]
    assert estimate_cost([*trials, *others], LedgerState(), slots, Shipping()) == (
        "unknown: there is no step time of 1 trial of cost class other; --probe measures it",
        "at least 1 GPU-hours on a GPU, the others unknown",
    )
    assert set(hours_a_trial(trials, LedgerState(), Shipping()).values()) == {"0.1 GPU-hours"}


def test_times_of_a_gpu_alone_are_the_least_that_a_shared_one_takes() -> None:
    """Those measured elsewhere and by a probe are of trials side by side with none; those of trials here are not."""
    trials, shared = plan().to_do, Slots(count=2, cpus=1, gpus=0.5)
    time, cost = estimate_cost(trials, LedgerState(), shared, Shipping())
    assert time.startswith("at least 30 min, 2 trials side by side, as if each trial had its GPU alone (measured on")
    assert cost == "at least 0.5 GPU-hours (0.5 GPUs a trial)"
    state = LedgerState()
    state.apply({**probed(5.0, 0.0), "machine": {"device": "cuda"}})
    assert estimate_cost(trials, state, shared, Shipping())[0].endswith("as if each trial had its GPU alone")
    whole = estimate_cost(trials, state, replace(shared, gpus=1.0), Shipping())
    ran = told(Outcome.FINISHED, device="cuda")
    assert not any("at least" in each or "alone" in each for each in (*whole, *estimate_cost(trials, ran, shared)))


def test_times_of_a_cpu_are_no_hours_of_a_gpu() -> None:
    """2 s a step on a CPU here; a GPU elsewhere takes 90 s, and a probe of a GPU here 5 s."""
    state, trials = told(Outcome.FINISHED, device="cpu"), plan().to_do[:1]
    assert hours_a_trial(trials, state, Shipping()) == {trials[0].config_id: "0.1 GPU-hours"}
    assert unknown_costs(trials, StepTimes(state, gpu=True)) == tuple(trials)
    assert unknown_costs(trials, StepTimes(state, gpu=False)) == ()
    state.apply({**probed(5.0, 0.0), "machine": {"device": "cuda"}})
    assert StepTimes(state, gpu=True).known(trials[0]) == 5.0
    assert StepTimes(state, gpu=False).known(trials[0]) == 2.0


def probed(step_s: float, evaluation_s: float) -> dict[str, Any]:
    """What `--probe` writes of the study's one cost class."""
    class_of = {"benchmark": "stub", "cost_class": "stub, 0 s a step"}
    times = {"step_s": step_s, "evaluation_s": evaluation_s, "evaluations": 2, "planned_steps": 4}
    return {"event": "probe", "time": 0, **class_of, **times}


def test_an_open_trial_costs_only_what_is_left_of_it() -> None:
    """A trial that was killed at step 2 of 4 has two steps left."""
    state = told(Outcome.FINISHED, None, step=2, wall_s=4.0)
    left = [trial for trial in plan(state).to_do if trial.step == 2]
    assert forecast(left, StepTimes(state), 1).wall_s == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("trials", "state", "slots", "time", "cost"),
    [
        (0, told(), {"count": 1}, "nothing to do", "nothing"),
        (1, LedgerState(), {"count": 1}, "unknown: there is no step time of 1 trial of cost class stub", "unknown"),
        (9, told(Outcome.FINISHED), {"count": 2}, "about 40 s, 2 trials side by side", "about 0.02 CPU-hours"),
        (9, told(Outcome.FINISHED), {"count": 1, "cpus": 4}, "about 72 s, one trial", "about 0.08 CPU-hours"),
        (9, told(Outcome.FINISHED), {"count": 1, "gpus": 0.5}, "about 72 s", "about 0.01 GPU-hours (0.5 GPUs a trial)"),
        (9, told(Outcome.FINISHED), {"count": 1, "gpus": 1}, "about 72 s", "about 0.02 GPU-hours (1 GPU a trial)"),
        (9, told(Outcome.FINISHED), {"count": 2, "guessed": True}, "about 40 s, if as many trials", "about 0.02"),
    ],
)
def test_a_cost_estimate_has_time_and_cost(
    trials: int, state: LedgerState, slots: dict[str, Any], time: str, cost: str
) -> None:
    """Wall-clock on the slots, hours of what trials take; what is unknown is said."""
    expected_time, expected_cost = estimate_cost(
        plan(state).to_do[:trials], state, Slots(**{"cpus": 1, "gpus": 0.0, **slots})
    )
    assert expected_time.startswith(time)
    assert expected_cost.startswith(cost)


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        ({"stub": 1}, "1 trial of cost class stub"),
        ({"gta: DACS": 57, "mini": 3}, "60 trials of 2 cost classes, such as gta: DACS"),
    ],
)
def test_what_has_no_step_time_is_counted(unknown: dict[str, int], words: str) -> None:
    assert unknown_classes(unknown) == words


def test_hours_are_of_gpus_where_a_trial_takes_any() -> None:
    """Two hours on half a GPU are one GPU-hour."""
    assert resource_hours(7200, cpus=4, gpus=0.5) == "1 GPU-hours"
    assert resource_hours(36_000_000, cpus=2, gpus=0) == "20,000 CPU-hours"


def test_the_last_job_ends_when_slots_are_filled_in_order() -> None:
    """Four jobs on two slots: 3 | 1, 1, 4 ends at 6."""
    assert wall_time([3, 1, 1, 4], 2) == 6
    assert wall_time([], 2) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min"), (200_000, "2 d 7 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    """Coarser the longer."""
    assert duration(seconds) == text


def test_a_plan_in_words() -> None:
    """Cells, distinct configs, trials done and to do, time."""
    lines = describe(plan(told(Outcome.FINISHED, Outcome.OOM)), "about 2 min", "about 3.2 GPU-hours")
    assert lines == [
        "A stub (study stub, profile smoke)",
        "  cells    4 (a quality 2, b level 2)",
        "  configs  5 distinct",
        "  trials   10 (seeds 0, 1): 1 finished, 1 out of memory, 8 to do",
        "  time     about 2 min",
        "  cost     about 3.2 GPU-hours",
    ]


def test_a_table_that_is_called_as_its_axis_is_named_once() -> None:
    """As in a study of schedules, with a table for each."""
    made = plan()
    tables = (replace(made.tables[0], name="quality"), *made.tables[1:])
    assert describe(replace(made, tables=tables), "", "")[1] == "  cells    4 (quality 2, b level 2)"


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"cost_class": None}, "Described.cost_class must be one line of at most 300 characters"),
        ({"benchmark": "\x1b[2J"}, "Described.benchmark must be one line of at most 300 characters"),
        ({"planned_steps": 0}, "Described.planned_steps must be an integer of at least 1, got 0"),
        ({"class_names": ("a", "\ud800")}, "Described.class_names must hold no control characters"),
        ({"packages": ("../x",)}, "The program names the package '../x', which cannot be found"),
    ],
)
def test_what_a_program_says_of_a_config_is_checked(answers: dict[str, Any], sentence: str) -> None:
    """Before it reaches the ledger, a terminal or MLflow; in one sentence."""
    methods = {name: lambda self, config, told=told: told for name, told in answers.items() if name != "packages"}
    odd = type("Odd", (StubProgram,), methods)(packages=answers.get("packages", StubProgram().packages))
    with pytest.raises(SearchSpaceError, match=re.escape(sentence)):
        make_plan(replace(STUDY, program=odd), LedgerState(), TrainingCode(odd.packages), Choice())
