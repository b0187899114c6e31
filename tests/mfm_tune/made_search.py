"""A ledger of a search without training: proposals and their trials, with numbers that a test chooses."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mfm_tune.criteria import CRITERIA, SOURCE_MIOU, TARGET_MIOU, Criterion
from mfm_tune.identity import canonical, config_id
from mfm_tune.ledger.events import proposal_event, search_event
from mfm_tune.ledger.records import trial_folder, trial_key
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome
from mfm_tune.search.candidates import candidates_of, selection_event
from mfm_tune.search_space import Asha, Choice, Float, Integer, Search
from tests.mfm_tune.made_ledger import BEGIN, FINGERPRINT, FIRST_LINE, MACHINE
from tests.mfm_tune.stub_program import StubConfig, StubProgram

PARAMETERS = {
    "ratio": Float(0.1, 0.9),
    "learning rate": Float(1e-4, 1e-1, log=True),
    "blocks": Integer(1, 4),
    "objective": Choice(("pixel cls.", "pixel rec.")),
}
BASELINE = StubConfig(level=99)
STEPS = 8


def make(values: Mapping[str, Any]) -> StubConfig:
    """A config for each point."""
    return StubConfig(steps=STEPS, need="/".join(str(values[name]) for name in PARAMETERS))


def stub_search(criterion: Criterion = TARGET_MIOU, **settings: Any) -> Search:
    """A search over four parameters, one of each kind, with one baseline."""
    given: dict[str, Any] = {
        "name": "stub",
        "title": "A stub search",
        "profile": "mini",
        "program": StubProgram(),
        "parameters": PARAMETERS,
        "make": make,
        "baselines": {"DACS": BASELINE},
        "trials": 20,
        "confirm": 2,
        "seeds": (0, 1, 2),
        "criterion": criterion,
        "scheduler": Asha(),
        **settings,
    }
    return Search(**given)


@dataclass
class MadeSearch:
    """Events of a search, applied to `state` as they are told, and appended to `written`."""

    search: Search = field(default_factory=stub_search)
    state: LedgerState = field(default_factory=LedgerState)
    now: int = BEGIN
    written: list[dict[str, Any]] = field(default_factory=lambda: [dict(FIRST_LINE)])

    def __post_init__(self) -> None:
        event = search_event(self.search, self.state)
        assert event is not None
        self._apply(event)

    def point(
        self,
        number: int,
        metrics: Mapping[str, float],
        *,
        outcome: Outcome | None = Outcome.FINISHED,
        step: int = STEPS,
        **values: Any,
    ) -> None:
        """A point and its trial, told at one step; values that are not given follow from the number."""
        chosen = {
            "ratio": round(0.1 + 0.03 * (number % 25), 4),
            "learning rate": float(f"{10 ** (-4 + (number * 7 % 12) / 4):.4g}"),
            "blocks": 1 + number % 4,
            "objective": ("pixel cls.", "pixel rec.")[number % 2],
            **values,
        }
        config = make(chosen)
        key = trial_key(config_id(config), self.search.explore_seed, FINGERPRINT)
        self._apply(
            proposal_event(self.search, number=number, values=chosen, config=config_id(config), key=key, sampler={})
        )
        self.trial(config, self.search.explore_seed, metrics, outcome=outcome, step=step)

    def trial(
        self,
        config: StubConfig,
        seed: int,
        metrics: Mapping[str, float],
        *,
        outcome: Outcome | None = Outcome.FINISHED,
        step: int = STEPS,
    ) -> None:
        """A trial that reports once; 8 steps are planned."""
        name = config_id(config)
        key, program = trial_key(name, seed, FINGERPRINT), self.search.program
        about = {"key": key, "config_id": name, "seed": seed, "fingerprint": FINGERPRINT}
        self._apply(
            {
                "event": "config", "config_id": name, "config": canonical(config), "classes": ["road", "car"],
                "benchmark": program.benchmark(config), "planned_steps": STEPS,
                "cost_class": program.cost_class(config),
            }
        )  # fmt: skip
        self._apply(
            {
                "event": "start", **about, "launch": "aabbccdd", "folder": trial_folder(name, seed, FINGERPRINT),
                "attempt": 1, "benchmark": program.benchmark(config), "study": "stub", "profile": "mini",
            }
        )  # fmt: skip
        told = {"step": step, "planned_steps": STEPS, "executed_steps": step, "metrics": dict(metrics)}
        self._apply({"event": "report", "key": key, "machine": dict(MACHINE), "pictures": {}, **told})
        if outcome is not None:
            self._apply({"event": "end", "key": key, "outcome": outcome.value, "step": step, "wall_s": 9.5})

    def select(self, *numbers: int) -> None:
        """The choice is made."""
        points = candidates_of(self.state, self.search)
        by_number = {each.number: each for each in points}
        self._apply(selection_event(self.search, points, [by_number[number] for number in numbers]))

    def config(self, number: int) -> StubConfig:
        """The config of a point."""
        config = next(each.config for each in candidates_of(self.state, self.search) if each.number == number)
        assert isinstance(config, StubConfig)
        return config

    def _apply(self, event: dict[str, Any]) -> None:
        self.now += 1000
        self.state.apply({**event, "time": self.now})
        self.written.append({**event, "time": self.now})


def full_search(criterion: Criterion = TARGET_MIOU) -> MadeSearch:
    """A search that is through: 20 points of which 12 finished and one diverged, two confirmed with three seeds."""
    made, noise = MadeSearch(stub_search(criterion)), random.Random(5)
    made.trial(BASELINE, 0, metrics(46.0, noise))
    for number in range(20):
        miou = 40 + 12 * (number % 25) / 20 + noise.uniform(-2, 2)
        if number == 6:
            made.point(number, {}, outcome=Outcome.DIVERGED, step=3)
        elif number % 3 == 2 or number == 7:
            made.point(number, metrics(miou - 9, noise), outcome=Outcome.STOPPED, step=2 if number % 2 else 4)
        else:
            made.point(number, metrics(miou, noise))
    made.select(19, 18)
    for seed in (1, 2):
        made.trial(BASELINE, seed, metrics(46.0 + seed, noise))
        made.trial(made.config(19), seed, metrics(48.0 + 1.1 * seed, noise))
        made.trial(made.config(18), seed, metrics(47.0 + 0.9 * seed, noise))
    return made


def metrics(miou: float, noise: random.Random) -> dict[str, float]:
    """Numbers of a report that follow target mIoU, some closely and some loosely."""
    near = {each.key: (miou if each.larger_is_better else -miou) / 40 for each in CRITERIA if not each.oracle}
    told = {key: value + noise.uniform(-0.2, 0.2) for key, value in near.items()}
    told[SOURCE_MIOU.key] = 60 + noise.uniform(-3, 3)
    return {**told, "student/miou": miou, "teacher/miou": miou + 1, "time/step_ms": 20.0, "memory/peak_mib": 300.0}
