"""Searches: what is proposed, that a restart changes nothing of it, the stages, and what is refused."""

from __future__ import annotations

import inspect
import math
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from packaging.requirements import Requirement

from mfm_tune.display.search import ExploreProgress
from mfm_tune.execution.recorder import Recorder
from mfm_tune.identity import config_id
from mfm_tune.ledger.file import read_events
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.plan import Choice
from mfm_tune.program import Outcome, Report
from mfm_tune.run import REPOSITORY, main
from mfm_tune.search.candidates import best, candidates_of, selection_event, selection_of
from mfm_tune.search.proposals import Explorer, plan_exploration
from mfm_tune.search.sampling import grid, optuna_study, propose
from mfm_tune.search_space import Choice as Options
from mfm_tune.search_space import Float, Grid, Integer, Other, Random, Search, Tpe
from tests.mfm_tune.commands.test_kill import counters, steps_done
from tests.mfm_tune.stub_program import StubConfig, StubProgram
from tests.mfm_tune.stub_search import (
    INTERVAL,
    STEPS,
    explored_keys,
    loaded_search,
    replayed_stops,
    state_of,
    stops,
    write_search,
)
from tests.mfm_tune.stub_space import forgotten_after


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path) -> Iterator[None]:
    """Search spaces of one test are not those of the next."""
    with forgotten_after(tmp_path):
        yield


CODE = TrainingCode(StubProgram().packages)
SEARCH = Search(
    name="stub",
    title="Stub",
    profile="smoke",
    program=StubProgram(),
    parameters={"quality": Float(1, 90), "level": Integer(0, 3), "sign": Options(("plus", "minus"))},
    make=lambda v: StubConfig(steps=STEPS, quality=v["quality"], level=v["level"] + 10 * (v["sign"] == "minus")),
    baselines={"default": StubConfig(steps=STEPS, level=99)},
    trials=9,
    sampler=Tpe(startup=3),
)


def changed(search: Search, **changes: Any) -> Search:
    """The search with other fields."""
    return Search(**{**{each.name: getattr(search, each.name) for each in fields(search)}, **changes})


# --------------------------------------------------------------------------------------------------------------------
# Proposals and restarts, without an engine
# --------------------------------------------------------------------------------------------------------------------

ENDS = ("finished", "stopped", "nan", "infinite", "missing", "oom", "diverged", "failed")
TOLD = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "oom": TrialState.FAIL,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


class Memory:
    """A ledger's writer without a file."""

    def __init__(self) -> None:
        self.lines = 0

    def append(self, event: Event) -> Event:
        self.lines += 1
        return {**event, "time": self.lines}


class Driver:
    """Drivers of one search, one after the other, one trial at a time; `ends[number]` is how a point's trial ends."""

    def __init__(self, search: Search, ends: Sequence[str]) -> None:
        self.search, self.ends = search, ends
        self.state = LedgerState()
        self.ledger = Ledger(Memory(), self.state)  # type: ignore[arg-type]

    def launch(self, trials: int = 10_000) -> None:
        """Run to the end, or be killed within the trial of that number."""
        plan = plan_exploration(self.search, CODE, self.state, Choice())
        recorder = Recorder(self.ledger, storage=Path("/nowhere"), launch="", study="", profile="",
                            trials=plan.to_do)  # fmt: skip
        for count, trial in enumerate(Explorer(plan, self.ledger, recorder)):
            recorder.started(trial.key, 1)
            numbers = {event["key"]: event["number"] for event in self.state.proposals.get(("stub", "smoke"), ())}
            how = self.ends[numbers[trial.key] % len(self.ends)] if trial.key in numbers else "finished"
            recorder.reported(trial.key, self._report(trial.config.quality, "finished", 2))
            if count == trials:
                return
            if how != "stopped":
                recorder.reported(trial.key, self._report(trial.config.quality, how, STEPS))
            ended = Outcome(how) if how in TOLD else Outcome.FINISHED
            recorder.ended(trial.key, ended, rung=2 if how == "stopped" else None)

    def _report(self, quality: float, how: str, step: int) -> Report:
        value = {"nan": math.nan, "infinite": math.inf, "diverged": math.nan}.get(how, quality)
        metrics = {"other": 1.0} if how == "missing" else {"student/miou": value}
        return Report(step=step, planned_steps=STEPS, executed_steps=step, metrics=metrics)

    def told(self) -> list[tuple[dict[str, Any], TrialState, Any]]:
        """What an Optuna study knows of the points."""
        study = optuna_study(self.search, candidates_of(self.state, self.search, CODE))
        return [(trial.params, trial.state, trial.intermediate_values) for trial in study.trials]


@settings(max_examples=12)
@given(
    st.lists(st.sampled_from([each for each in ENDS if each != "failed"]), min_size=1, max_size=9),
    st.lists(st.integers(0, 6), max_size=3),
)
def test_a_search_that_is_killed_comes_back_to_the_same_points(ends: list[str], kills: list[int]) -> None:
    """Proposals, order and what Optuna is told are those of the search that nothing disturbed."""
    undisturbed, killed = Driver(SEARCH, ends), Driver(SEARCH, ends)
    undisturbed.launch()
    for trials in kills:
        killed.launch(trials)
    killed.launch()
    assert killed.told() == undisturbed.told()
    assert len(killed.told()) == SEARCH.trials
    for number, (_, state, _) in enumerate(killed.told()):
        assert state is TOLD.get(ends[number % len(ends)], TrialState.FAIL)
    names = [event["config_id"] for event in killed.state.proposals["stub", "smoke"]]
    assert len(set(names)) == SEARCH.trials
    assert Counter(record.attempts for record in killed.state.trials.values())[1] >= SEARCH.trials + 1 - len(kills)


def test_the_number_of_trials_stays_the_same_while_points_are_proposed() -> None:
    """Also while one is asked for ahead, as for Ray: it is proposed, and has not begun."""
    driver = Driver(SEARCH, ["finished"])
    plan = plan_exploration(SEARCH, CODE, driver.state, Choice())
    nowhere = Path("/nowhere")
    progress = ExploreProgress(plan, driver.state, Storage(nowhere), 1)
    recorder = Recorder(driver.ledger, storage=nowhere, launch="", study="", profile="", trials=plan.to_do,
                        display=progress)  # fmt: skip
    explorer = Explorer(plan, driver.ledger, recorder)
    counts, ahead = [progress.snapshot().trials], next(explorer)
    while ahead is not None:
        running, ahead = ahead, next(explorer, None)
        counts.append(progress.snapshot().trials)
        recorder.started(running.key, 1)
        counts.append(progress.snapshot().trials)
        recorder.ended(running.key, Outcome.FINISHED)
    assert set(counts) == {SEARCH.trials + 1}


def test_a_failed_trial_is_told_as_failed_and_tried_again_by_the_next_launch() -> None:
    """As in a table; it is no further point."""
    driver = Driver(SEARCH, ["failed"])
    driver.launch()
    assert {state for _, state, _ in driver.told()} == {TrialState.FAIL}
    driver.ends = ["finished"]
    driver.launch()
    assert [state for _, state, _ in driver.told()] == [TrialState.COMPLETE] * SEARCH.trials


def test_a_number_is_given_once_whatever_becomes_of_the_declaration() -> None:
    """A range that is narrowed leaves points out, and has them again when it is widened."""
    driver = Driver(SEARCH, ["finished"])
    driver.launch()
    driver.search = changed(SEARCH, parameters={**SEARCH.parameters, "quality": Float(1, 50)})
    driver.launch()
    points = candidates_of(driver.state, SEARCH, CODE)
    assert len(points) > SEARCH.trials
    assert [each.number for each in points] == list(range(len(points)))


def test_trials_that_run_side_by_side_are_different_ones() -> None:
    """Also where a point is a baseline that has not ended yet."""
    first = {"quality": 40.0, "level": 0, "sign": "plus"}
    driver = Driver(changed(SEARCH, first=(first,), baselines={"default": SEARCH.make(first)}), ["finished"])
    plan = plan_exploration(driver.search, CODE, driver.state, Choice())
    recorder = Recorder(driver.ledger, storage=Path("/nowhere"), launch="", study="", profile="",
                        trials=plan.to_do)  # fmt: skip
    keys = [trial.key for trial in Explorer(plan, driver.ledger, recorder)]
    assert len(keys) == len(set(keys)) == SEARCH.trials
    assert len(driver.state.proposals["stub", "smoke"]) == SEARCH.trials


@pytest.mark.parametrize("sampler", [Tpe(startup=2), Random(), Grid()], ids=str)
def test_a_discrete_space_is_gone_through_once_and_then_called_exhausted(sampler: Any) -> None:
    """However much one point is favoured, none is trained twice."""
    small = changed(
        SEARCH,
        parameters={"level": Integer(0, 3), "sign": Options(("plus", "minus"))},
        make=lambda v: StubConfig(steps=STEPS, level=v["level"] + 10 * (v["sign"] == "minus"), quality=v["level"]),
        trials=20,
        sampler=sampler,
    )
    driver = Driver(small, ["finished"])
    driver.launch()
    assert len({event["config_id"] for event in driver.state.proposals["stub", "smoke"]}) == 8
    assert len(driver.state.proposals["stub", "smoke"]) == 8
    assert propose(small, candidates_of(driver.state, small, CODE), 8) is None


def test_another_sampler_of_optuna_takes_one_line_and_keeps_what_it_knows() -> None:
    """What it writes down about a trial (here its generation) goes through the ledger."""
    genetic = Other(lambda seed: optuna.samplers.NSGAIISampler(population_size=2, seed=seed), "NSGA-II")
    driver = Driver(changed(SEARCH, trials=6, sampler=genetic), ["finished"])
    driver.launch(3)
    driver.launch()
    kept = [event["sampler"] for event in driver.state.proposals["stub", "smoke"]]
    assert len(kept) == 6
    assert max(value for each in kept for value in each.values()) >= 1  # the second generation knows of the first


DEPRECATED = frozenset(
    {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma", "weights",
     "warn_independent_sampling", "constraints_func"}
)  # fmt: skip


def test_no_default_of_optuna_has_a_part_in_what_tpe_proposes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting is named but for those that Optuna gives up, and naming those would be a warning."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("mfm_tune.search.sampling.TPESampler", lambda **named: given.update(named) or RandomSampler())
    propose(SEARCH, [], 0)
    known = inspect.signature(optuna.samplers.TPESampler).parameters.keys()
    assert given.keys() == known - DEPRECATED


def test_tpe_proposes_the_points_that_it_always_has() -> None:
    """Three random ones, then six that follow from what became of them. Optuna 4 proposes others with these settings,
    so that it is not among the versions that the project takes."""
    driver = Driver(SEARCH, ["finished", "stopped", "finished"])
    driver.launch()
    assert [tuple(event["values"].values()) for event in driver.state.proposals["stub", "smoke"]] == [
        (57.1, 0, "minus"), (60.61, 0, "minus"), (83.44, 3, "minus"), (86.5, 3, "minus"), (15.98, 3, "minus"),
        (4.237, 1, "plus"), (29.5, 2, "minus"), (89.34, 1, "plus"), (63.67, 3, "plus"),
    ]  # fmt: skip
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (needed,) = (Requirement(each) for each in project["dependencies"] if each.startswith("optuna"))
    assert optuna.__version__ in needed.specifier
    assert "4.9.0" not in needed.specifier


def test_points_that_are_no_config_are_drawn_again() -> None:
    """`make` may refuse a combination; one that refuses all is an error with its own sentence."""

    def picky(values: Any) -> StubConfig:
        if values["quality"] < 45:
            raise ValueError("quality must be at least 45.")
        return SEARCH.make(values)  # type: ignore[no-any-return]

    driver = Driver(changed(SEARCH, make=picky), ["finished"])
    driver.launch()
    assert all(event["values"]["quality"] >= 45 for event in driver.state.proposals["stub", "smoke"])
    assert len(driver.state.proposals["stub", "smoke"]) == SEARCH.trials
    impossible = changed(SEARCH, make=picky, parameters={**SEARCH.parameters, "quality": Float(1, 44)})
    with pytest.raises(Exception, match=r"makes no config of any candidate drawn; .*at least 45"):
        propose(impossible, [], 0)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_a_grid_visits_every_combination_once(seed: int, points: int, levels: int) -> None:
    search = changed(SEARCH, explore_seed=seed,
                     parameters={"a": Float(0, 1), "b": Integer(0, levels), "c": Options(("x", "y"))})  # fmt: skip
    values = [tuple(each.values()) for each in grid(search, points)]
    assert len(values) == len(set(values)) == points * (levels + 1) * 2


# --------------------------------------------------------------------------------------------------------------------
# Through the command line
# --------------------------------------------------------------------------------------------------------------------


def command(path: Path, storage: Path, *options: str) -> list[str]:
    """The command that is given again and again."""
    return [str(path), "--storage", str(storage), "--no-tracking", *options]


def test_all_stages_in_one_command_and_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Explore, confirm, report; the same command then has nothing to do, and more points go on from there."""
    path, storage = write_search(tmp_path), tmp_path / "runs"
    assert main(command(path, storage, "--plan")) == 0
    assert "14 to do (12 to propose)" in capsys.readouterr().out
    assert main(command(path, storage, "--inline")) == 0
    said, state, search = capsys.readouterr().out, state_of(storage), loaded_search(path)
    assert len(explored_keys(state)) == len(set(explored_keys(state))) == 12
    assert stops(state) == replayed_stops(state, search) != {}
    finished = [record for record in state.trials.values() if record.outcome is Outcome.FINISHED]
    # the first point is a baseline; four configs are confirmed with two seeds
    assert len(finished) == 12 + 1 - len(stops(state)) + 4 * 2
    assert "Explored with seed 0: the best 10 of 12, oracle selection" in said
    baselines = [config_id(config) for config in search.baselines.values()]
    assert all(state.counts(each, 0, record.fingerprint).outcome is Outcome.FINISHED  # type: ignore[union-attr]
               for each in baselines for record in finished)  # fmt: skip
    report = (storage / "reports" / "stub-smoke" / "report.md").read_text()
    assert "oracle selection" in report
    assert all(f"trial {number}" in report for number in state.selections["stub", "smoke"][-1]["numbers"])

    lines = (storage / "ledger.jsonl").read_bytes()
    assert main(command(path, storage, "--inline")) == 0
    assert (storage / "ledger.jsonl").read_bytes() == lines
    assert main(command(path, storage, "--plan")) == 0
    assert "nothing to do" in capsys.readouterr().out
    write_search(tmp_path, "trials=14, confirm=2, seeds=(1, 2)")
    assert main(command(path, storage, "--inline")) == 0
    assert len(explored_keys(state_of(storage))) == 14


def test_nodes_are_asked_for_the_code_that_a_search_defines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are made up while others run; classes of the search's own file are known before, by its baselines."""
    from mfm_tune.tune.nodes import modules_of

    path, given = write_search(tmp_path), []
    own = "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Own(StubConfig):\n    pass\n"
    text = path.read_text().replace("\n\n\ndef config", f"\n{own}\n\ndef config")
    path.write_text(text.replace("return StubConfig", "return Own"))
    monkeypatch.setattr(
        "mfm_tune.commands.session.engine_of", lambda options: lambda *arguments: given.extend(arguments)
    )
    assert main(command(path, tmp_path / "runs")) == 1  # nothing was trained
    program, _, _, options = given
    assert modules_of(program, options.representative_configs) == (*program.packages, path.stem)


def test_a_plan_of_a_search_imports_neither_torch_nor_ray_nor_optuna(tmp_path: Path) -> None:
    argv = command(write_search(tmp_path), tmp_path / "runs", "--plan")
    code = (
        f"import sys; from mfm_tune.run import main; status = main({argv!r}); "
        "print(sorted({'torch', 'ray', 'optuna', 'mlflow', 'rich'} & set(sys.modules))); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "dim"], "--only picks axes of a study"),
        (["--half-width", "0.5"], "--half-width is for the tables of a study"),
        (["--asha"], "--asha is for tables"),
        (["--seeds", "0,0"], "--seeds: seeds must be distinct"),
        (["--profile", "huge"], "--profile got 'huge'"),
    ],
)
def test_what_a_search_has_no_use_for_is_refused(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(write_search(tmp_path), tmp_path / "runs", *options)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_make_that_fails_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As that of an axis; it is first called when the command is checked."""
    path = write_search(tmp_path)
    path.write_text(path.read_text().replace('config(values["quality"], values', 'config(values["qualty"], values'))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "qualty" in text)
    assert main(command(path, tmp_path / "runs", "--plan")) == 2
    assert f"{path}:{line}: Search 'stub', make: KeyError: 'qualty'; correct the file.\n" == capsys.readouterr().err


def process(path: Path, storage: Path, *options: str) -> subprocess.Popen[str]:
    """A driver in a process group of its own, that takes SIGINT as one in the foreground does."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from mfm_tune.run import main; "
    )
    argv = command(path, storage, *options)
    return subprocess.Popen([sys.executable, "-c", f"{code} sys.exit(main({argv!r}))"], cwd=REPOSITORY, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip


def wait_until(true: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    """Wait for something to happen while a driver runs."""
    while not true():
        assert driver.poll() is None, "the driver ended before it was interrupted"
        time.sleep(0.005)


def adds_up(said: str, *, explored: int) -> None:
    """The last lines of a search that was stopped while exploring: few, and counts whose sum is that of all trials."""
    stopped, *others = said.partition("Stopped by SIGINT while exploring ")[2].splitlines()
    assert len(others) <= 4
    assert any(line.endswith("To resume, give the same command again.") for line in others)
    counts = re.sub(r"\(.*?\)", "", stopped.partition(": ")[2])
    assert sum(map(int, re.findall(r"\d+", counts))) == explored, stopped


@pytest.mark.slow
def test_ctrl_c_while_exploring_and_while_confirming(tmp_path: Path) -> None:
    """Each time at most five lines of what is done and how to resume, exit code 130; the same command then resumes."""
    path, storage = write_search(tmp_path, sleep_s=0.05), tmp_path / "runs"
    driver = process(path, storage, "--inline")
    wait_until(lambda: len(stops(state_of(storage))) >= 1, driver)
    os.kill(driver.pid, signal.SIGINT)
    said, errors = driver.communicate(timeout=250)
    assert driver.returncode == 130, errors
    adds_up(said, explored=12 + 1)
    assert "Traceback" not in errors

    driver = process(path, storage, "--inline")
    wait_until(lambda: any(record.seed == 2 for record in state_of(storage).trials.values()), driver)
    os.kill(driver.pid, signal.SIGINT)
    said, errors = driver.communicate(timeout=250)
    assert driver.returncode == 130, errors
    assert "Stopped by SIGINT: of 8 trials" in said
    assert "trial " in said.split("Stopped by SIGINT")[0]
    assert main(command(path, storage, "--inline")) == 0
    assert len(explored_keys(state_of(storage))) == 12


def test_a_stopped_point_that_is_cut_off_while_it_is_confirmed_is_not_selected_anew(tmp_path: Path) -> None:
    """With the exploring seed among those that confirm: the trial is confirming's to finish, and the choice stands."""
    path, storage = write_search(tmp_path, "trials=4, confirm=4, seeds=(0, 1)"), tmp_path / "runs"
    assert main(command(path, storage, "--inline")) == 0
    ledger = storage / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    chosen = next(number for number, line in enumerate(lines) if '"event":"selection"' in line)
    again = next(key for key in explored_keys(state_of(storage)) if any(
        '"event":"start"' in line and key in line for line in lines[chosen:]))  # fmt: skip
    further = [number for number, line in enumerate(lines) if number > chosen and '"report"' in line and again in line]
    ledger.write_text("".join(lines[: further[0] + 1]))  # killed after its first further report
    assert state_of(storage).trials[again].outcome is None
    assert main(command(path, storage, "--plan")) == 0
    assert main(command(path, storage, "--inline")) == 0
    assert ledger.read_text().count('"event":"selection"') == 1
    assert state_of(storage).trials[again].outcome is Outcome.FINISHED


def selections(storage: Path) -> list[Event]:
    """The choices that the ledger of a storage holds."""
    return [event for _, event in read_events(storage / "ledger.jsonl") if event["event"] == "selection"]


@pytest.mark.slow
def test_a_choice_is_written_once_for_its_terms(tmp_path: Path) -> None:
    """Another `confirm` is another choice, although nothing is left to explore; the first one still holds after it."""
    storage = tmp_path / "runs"
    for confirm, written in ((2, 1), (2, 1), (3, 2), (3, 2), (2, 2)):
        path = write_search(tmp_path, f"trials=6, confirm={confirm}, seeds=(1,)")
        assert main(command(path, storage, "--inline")) == 0
        assert len(selections(storage)) == written
    assert [len(each["numbers"]) for each in selections(storage)] == [2, 3]


def test_a_candidate_that_fails_while_it_is_confirmed_stays_the_candidate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every launch: no other takes its place, and exploring does not try it again."""
    fields, needed = "trials=6, confirm=4, scheduler=Asha(reduction_factor=4)", tmp_path / "needed"
    needed.touch()

    def launch(seeds: str) -> int:
        path = write_search(tmp_path, f"{fields}, seeds={seeds}")
        path.write_text(path.read_text().replace("return StubConfig(", f"return StubConfig(need={str(needed)!r}, "))
        return main(command(path, storage, "--inline"))

    storage = tmp_path / "runs"
    assert launch("(1,)") == 0
    (chosen,) = selections(storage)
    state = state_of(storage)
    rungs = [state.trials[explored_keys(state)[number]].rung for number in chosen["numbers"]]
    assert None in rungs  # one finished
    assert any(rungs)  # one was stopped, and goes on where the exploring seed confirms, too
    needed.unlink()
    for _ in range(2):
        assert launch("(0, 1)") == 1
        assert "failed; the same command" in capsys.readouterr().err
        assert selections(storage) == [chosen]


def test_a_choice_is_of_results_of_the_code_that_made_it() -> None:
    """Other code explores anew and chooses anew, unless the user let the results stand for its own."""
    driver = Driver(SEARCH, ["finished"])
    driver.launch()
    points = candidates_of(driver.state, SEARCH, CODE)
    driver.ledger.append(selection_event(SEARCH, points, best(points, SEARCH)))
    other = TrainingCode(("tests.mfm_tune.stub_space",))
    assert selection_of(driver.state, SEARCH, CODE) is not None
    assert selection_of(driver.state, SEARCH, other) is None
    driver.state.reuse.add((points[0].record.fingerprint, other.fingerprint(points[0].config).digest))  # type: ignore[union-attr]
    assert selection_of(driver.state, SEARCH, other) is not None


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("engine", [["--inline"], []], ids=["inline", "ray"])
def test_kills_of_a_search(tmp_path: Path, engine: list[str]) -> None:
    """Kill -9 of a driver with all its processes, twice, and Ctrl-C once: 40 points in all, none twice, the
    steps of a search that nothing disturbed but for a checkpoint's interval a trial in flight, and the stops of a
    replay."""
    path = write_search(tmp_path, "trials=40, confirm=2, seeds=(0, 1)", sleep_s=0.03)
    storage = tmp_path / "runs"
    in_flight: Counter[str] = Counter()
    for moment in (30, 100):
        driver = process(path, storage, *engine)
        wait_until(lambda moment=moment: steps_done(storage) >= moment, driver)  # type: ignore[misc]
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
        in_flight.update(key for key, record in state_of(storage).trials.items() if record.outcome is None)
    interrupted = process(path, storage, *engine)
    wait_until(lambda: steps_done(storage) >= 150, interrupted)
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal's Ctrl-C, which reaches workers too
    said, errors = interrupted.communicate(timeout=250)
    assert interrupted.returncode == 130, errors
    adds_up(said, explored=40 + 1)
    assert "Traceback" not in errors
    in_flight.update(key for key, record in state_of(storage).trials.items() if record.outcome is None)
    last = process(path, storage, *engine)
    said, errors = last.communicate(timeout=900)
    assert last.returncode == 0, said + errors

    state, search = state_of(storage), loaded_search(path)
    proposals = state.proposals["stub", "smoke"]
    assert [event["number"] for event in proposals] == list(range(40))
    assert len({event["config_id"] for event in proposals}) == 40
    study = optuna_study(search, candidates_of(state, search))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(state.launches) >= 4
    assert in_flight
    for key, record in state.trials.items():
        executed, step = counters(storage / record.folder)
        assert step == record.step
        assert executed <= record.step + INTERVAL * in_flight[key]
    confirmed = set(state.selections["stub", "smoke"][-1]["numbers"])
    replayed = replayed_stops(state, search)
    for event in proposals:  # one that was confirmed may have gone on
        if event["number"] not in confirmed:
            assert stops(state).get(event["key"]) == replayed.get(event["key"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_that_really_trains(tmp_path: Path) -> None:
    """The project's own search at the smoke scale, cut to a few points, through Ray and all stages."""
    path, storage = tmp_path / "short_search.py", tmp_path / "runs"
    path.write_text(
        '"""The search over MFM, short."""\n'
        "from dataclasses import replace\n"
        "from search_spaces.search_mfm import SEARCHES as FULL\n"
        "SEARCH = replace(FULL['smoke'], trials=4, confirm=1, seeds=(0, 1))\n"
    )
    done = subprocess.run([sys.executable, "-m", "mfm_tune.run", *command(path, storage)], cwd=REPOSITORY,
                          capture_output=True, text=True, timeout=800)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    state = state_of(storage)
    assert len(state.proposals["search_mfm", "smoke"]) == 4
    ends = Counter(record.outcome for record in state.trials.values())
    assert set(ends) <= {Outcome.FINISHED, Outcome.STOPPED, Outcome.DIVERGED}
    # DACS, the default (which is the first point) and, where another point is better, that one: with both seeds
    confirmed = {record.config_id for record in state.trials.values() if record.seed == 1}
    assert len(confirmed) >= 2
    metrics = next(record.metrics for record in state.trials.values() if record.outcome is Outcome.FINISHED)
    assert {"source/miou", "criterion/entropy", "criterion/snd"} <= set(metrics)
