"""What a search has explored, from the ledger: points, ranking, the study that confirms the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from mfm_tune.criteria import TARGET_ENTROPY, TARGET_MIOU
from mfm_tune.errors import SearchSpaceError
from mfm_tune.identity import config_id
from mfm_tune.ledger.events import proposal_event, search_event
from mfm_tune.ledger.file import encoded
from mfm_tune.ledger.records import trial_folder, trial_key
from mfm_tune.ledger.state import LedgerState
from mfm_tune.search.candidates import (
    best,
    candidates_of,
    confirmed_study,
    ranking,
    selected,
    selection_event,
    selection_of,
)
from mfm_tune.search_space import Asha, Choice, Float, Integer, Search
from mfm_tune.tracking.runs import trial_run
from tests.mfm_tune.stub_program import StubConfig, StubProgram

PRINT = "5" * 64
BASELINE = StubConfig(level=99)


def make(values: dict[str, object]) -> StubConfig:
    """The config of a point."""
    return StubConfig(quality=values["quality"], level=values["level"])  # type: ignore[arg-type]


SEARCH = Search(
    name="stub",
    title="Stub",
    profile="smoke",
    program=StubProgram(),
    parameters={"quality": Float(0, 100), "level": Integer(0, 9)},
    make=make,
    baselines={"default": BASELINE},
    trials=5,
    confirm=2,
)


class Told:
    """A ledger's state, told event by event."""

    def __init__(self) -> None:
        self.state = LedgerState()
        self.lines = 0

    def tell(self, event: dict[str, object]) -> None:
        self.lines += 1
        encoded(event)  # it can be written
        self.state.apply({**event, "time": self.lines})

    def point(self, number: int, quality: float, *, seed: int = 0, search: Search = SEARCH) -> str:
        """Propose a point; returns the key of its trial."""
        values = {"quality": quality, "level": number}
        config = config_id(search.make(values))
        key = trial_key(config, seed, PRINT)
        event = proposal_event(search, number=number, values=values, config=config, key=key, sampler={})
        self.tell({**event, "seed": seed})
        return key

    def trial(self, key: str, outcome: str | None, scores: Sequence[float]) -> None:
        """A trial with an evaluation a step, and its end."""
        config, seed = key.split("-")[0], int(key.split("-")[1][1:])
        folder = trial_folder(config, seed, PRINT)
        self.tell({"event": "start", "key": key, "config_id": config, "seed": seed, "fingerprint": PRINT,
                   "folder": folder, "benchmark": "stub", "study": "stub", "profile": "smoke"})  # fmt: skip
        for step, score in enumerate(scores, start=1):
            metrics = {"student/miou": score, "criterion/entropy": 100 - score}
            self.tell({"event": "report", "key": key, "step": step, "planned_steps": 4, "executed_steps": step,
                       "metrics": metrics})  # fmt: skip
        if outcome is not None:
            self.tell({"event": "end", "key": key, "outcome": outcome, "step": len(scores)})


def told() -> Told:
    """Five points: two that finished, two that were stopped at different rungs, one that diverged."""
    ledger = Told()
    ends = (
        ("finished", [10, 20, 30, 40.0]),
        ("stopped", [50.0]),
        ("finished", [10, 20, 30, 35.0]),
        ("stopped", [5, 6.0]),
        ("diverged", [90, math.nan]),
    )
    for number, (outcome, scores) in enumerate(ends):
        ledger.trial(ledger.point(number, float(number)), outcome, scores)
    return ledger


def test_finished_before_stopped_and_further_before_better() -> None:
    """A stopped trial's number is of another step, so it never comes before one that finished; NaN is no score."""
    points = candidates_of(told().state, SEARCH)
    assert [each.number for each in ranking(points, TARGET_MIOU)] == [0, 2, 3, 1]
    assert [each.number for each in ranking(points, TARGET_ENTROPY)] == [0, 2, 3, 1]  # smaller is better
    assert [each.number for each in best(points, SEARCH)] == [0, 2]
    assert points[4].score(TARGET_MIOU) is None
    assert points[4].curve(TARGET_MIOU) == ((1, 90.0),)


def test_points_of_another_declaration_are_left_out() -> None:
    """Another seed, a range that no longer holds the value, a recipe that trains something else."""
    ledger = told()
    ledger.point(5, 5.0, seed=1)
    assert len(candidates_of(ledger.state, SEARCH)) == 5
    changes: list[dict[str, object]] = [
        {"parameters": {"quality": Float(0, 2.5), "level": Integer(0, 9)}},
        {"make": lambda values: make(values) if values["level"] < 3 else BASELINE},
    ]
    fields = {name: getattr(SEARCH, name) for name in Search.__dataclass_fields__}
    for change in changes:
        assert [each.number for each in candidates_of(ledger.state, Search(**{**fields, **change}))] == [0, 1, 2]


def test_the_selection_stands_while_confirming_changes_the_ranking() -> None:
    """A stopped point that is confirmed goes on; that must not put another in its place."""
    ledger = told()
    points = candidates_of(ledger.state, SEARCH)
    ledger.tell(selection_event(SEARCH, points, points[1:3]))
    assert [each.number for each in selected(ledger.state, SEARCH)] == [1, 2]
    study = confirmed_study(SEARCH, ledger.state)
    assert [cell.level for cell in study.cells()] == ["default", "trial 1", "trial 2"]
    assert next(cell.trained for cell in study.cells() if cell.level == "trial 2") == "quality 2, level 2"
    fields = {name: getattr(SEARCH, name) for name in Search.__dataclass_fields__}
    assert [each.number for each in selected(ledger.state, Search(**{**fields, "confirm": 3}))] == [0, 2, 3]


def test_a_choice_holds_under_the_terms_that_it_was_made_by() -> None:
    """Under others it is none; under the first ones again it is the first one, whatever was written since."""
    ledger = told()
    points = candidates_of(ledger.state, SEARCH)
    ledger.tell(selection_event(SEARCH, points, points[1:3]))
    for change in ({"confirm": 3}, {"criterion": TARGET_ENTROPY}, {"trials": 6}):
        changed = replace(SEARCH, **change)
        assert selection_of(ledger.state, changed) is None
        ledger.tell(selection_event(changed, points, points[:1] + points[2:4]))
        assert [each.number for each in selected(ledger.state, changed)] == [0, 2, 3][: changed.confirm + 1]
    assert [each.number for each in selected(ledger.state, SEARCH)] == [1, 2]


def test_a_choice_is_of_configs_and_not_of_numbers_that_a_changed_declaration_gives_anew() -> None:
    """Points 0 to 4 of another `make` are no candidates of the choice among the first five."""

    def longer(values: Mapping[str, object]) -> StubConfig:
        return replace(make(dict(values)), steps=6)

    ledger, changed = told(), replace(SEARCH, make=longer)
    points = candidates_of(ledger.state, SEARCH)
    ledger.tell(selection_event(SEARCH, points, points[1:3]))
    for number in range(5):
        key = ledger.point(number, float(number), search=changed)
        ledger.trial(key, "finished", [1, 2, 3, 10.0 * number])
    assert selection_of(ledger.state, changed) is None
    assert [each.number for each in selected(ledger.state, changed)] == [4, 3]
    chosen = selected(ledger.state, SEARCH)
    assert [each.config_id for each in chosen] == [each.config_id for each in points[1:3]]


def test_a_choice_of_an_earlier_version_is_read_by_its_numbers() -> None:
    """They are those of the points that had been proposed until then."""
    ledger = told()
    points = candidates_of(ledger.state, SEARCH)
    ledger.tell({"event": "selection", "search": "stub", "profile": "smoke", "trials": 5, "confirm": 2,
                 "criterion": "student/miou", "seed": 0, "numbers": [1, 2], "scores": [50.0, 30.0]})  # fmt: skip
    ledger.point(2, 77.0)
    assert [each.config_id for each in selected(ledger.state, SEARCH)] == [each.config_id for each in points[1:3]]


def test_a_choice_that_lacked_scores_is_made_again_when_there_are_more() -> None:
    """As when most trials of the first launch failed."""
    ledger = Told()
    keys = [ledger.point(number, float(number)) for number in range(5)]
    ledger.trial(keys[0], "finished", [1, 2, 3, 40.0])
    for key in keys[1:]:
        ledger.trial(key, "failed", [])
    points = candidates_of(ledger.state, SEARCH)
    ledger.tell(selection_event(SEARCH, points, best(points, SEARCH)))
    assert [each.number for each in selected(ledger.state, SEARCH)] == [0]
    assert selection_of(ledger.state, SEARCH) is not None
    for number, score, chosen in ((3, 50.0, [3, 0]), (4, 60.0, [4, 3]), (1, 5.0, [4, 3])):
        ledger.trial(keys[number], "finished", [1, 2, 3, score])
        assert selection_of(ledger.state, SEARCH) is None
        points = candidates_of(ledger.state, SEARCH)
        ledger.tell(selection_event(SEARCH, points, best(points, SEARCH)))
        assert [each.number for each in selected(ledger.state, SEARCH)] == chosen


def test_seeds_that_confirm_are_by_default_those_that_exploring_has_not_used() -> None:
    assert SEARCH.seeds == (1, 2, 3)
    fields = {name: getattr(SEARCH, name) for name in Search.__dataclass_fields__ if name != "seeds"}
    assert Search(**{**fields, "explore_seed": 1}).seeds == (0, 2, 3)


def test_a_declaration_is_written_when_it_changed() -> None:
    """And every kind of distribution can be written."""
    state = LedgerState()
    fields = {name: getattr(SEARCH, name) for name in Search.__dataclass_fields__}
    options = Choice((TARGET_MIOU.key, 3, None))
    search = Search(**{**fields, "parameters": {**SEARCH.parameters, "option": options}})
    event = search_event(search, state)
    assert event is not None
    state.apply({**event, "time": 1})
    assert search_event(search, state) is None
    assert event["parameters"]["option"]["options"] == ["student/miou", 3, "None"]


def test_a_point_in_mlflow_carries_its_values_and_its_stage() -> None:
    """Values are params, so that MLflow's own charts can be drawn over them; confirming is told apart by its seeds."""
    ledger = told()
    event = search_event(SEARCH, ledger.state)
    assert event is not None
    ledger.tell(event)
    point = candidates_of(ledger.state, SEARCH)[3]
    confirmed = trial_key(point.config_id, 1, PRINT)
    ledger.trial(confirmed, "finished", [1, 2, 3, 4.0])
    first, second = (trial_run(ledger.state, ledger.state.trials[key], "l", []) for key in (point.key, confirmed))
    assert {"quality": "3.0", "level": "3"}.items() <= first.params.items()
    assert first.params.items() - {("seed", "0")} == second.params.items() - {("seed", "1")}
    tags = {"mfm.search": "stub", "mfm.stage": "explore", "mfm.point": "3", "mlflow.runName": "stub/trial 3/s0"}
    assert tags.items() <= first.tags.items()
    assert second.tags["mfm.stage"] == "confirm"
    baseline = trial_key(config_id(BASELINE), 0, PRINT)
    ledger.trial(baseline, None, [1])
    assert trial_run(ledger.state, ledger.state.trials[baseline], "l", []).tags["mlflow.runName"] == "default/s0"
    seeded = proposal_event(SEARCH, number=9, values={"seed": 5}, config=point.config_id, key=point.key, sampler={})
    ledger.tell(seeded)
    params = trial_run(ledger.state, ledger.state.trials[point.key], "l", []).params
    assert (params["seed"], params["axis_seed"]) == ("0", "5")


def test_a_point_in_mlflow_has_the_number_of_its_own_search() -> None:
    """Another search, under whatever name of parameters, proposed the same config later as its third point."""
    ledger = told()
    other = replace(SEARCH, name="other", parameters={"q": Float(0, 100)})
    config = candidates_of(ledger.state, SEARCH)[3].config_id
    for search in (SEARCH, other):
        event = search_event(search, ledger.state)
        assert event is not None
        ledger.tell(event)
    key = trial_key(config, 0, PRINT)
    ledger.tell(proposal_event(other, number=2, values={"q": 3.0}, config=config, key=key, sampler={}))
    run = trial_run(ledger.state, ledger.state.trials[key], "l", [])
    assert (run.tags["mfm.search"], run.tags["mfm.point"]) == ("stub", "3")
    assert run.tags["mlflow.runName"] == "stub/trial 3/s0"
    assert run.params.keys() == {"config_id", "seed", "quality", "level"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Float(1, 1),
        lambda: Float(0, 1, log=True),
        lambda: Float(0, math.inf),
        lambda: Integer(0, 5, step=2),
        lambda: Choice(()),
        lambda: Choice((1, "1")),
        lambda: Asha(reduction_factor=1),
        lambda: Asha(brackets=3),
        lambda: Search(**{**{n: getattr(SEARCH, n) for n in Search.__dataclass_fields__}, "confirm": 6}),
        lambda: Search(**{**{n: getattr(SEARCH, n) for n in Search.__dataclass_fields__}, "baselines": {}}),
        lambda: Search(**{**{n: getattr(SEARCH, n) for n in Search.__dataclass_fields__}, "first": ({"level": 3},)}),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(wrong: object) -> None:
    with pytest.raises(SearchSpaceError, match=r"got|give") as caught:
        wrong()  # type: ignore[operator]
    assert str(caught.value).endswith(".")
