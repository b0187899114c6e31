"""A search of stub trials, written for a test, and what its ledger says afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.settings import Stopping
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.planning.loading import load_search_space
from mfm_tune.program import Outcome
from mfm_tune.search_space import Search

STEPS, INTERVAL = 8, 2  # ASHA looks after 2 and 4 of 8 steps
TEXT = '''"""A search for a test."""
from mfm_tune.search_space import *
from tests.mfm_tune.stub_program import StubConfig, StubProgram


def config(quality, level, **further):
    return StubConfig(steps={steps}, interval={interval}, quality=quality, level=level, sleep_s={sleep_s}, **further)


SEARCH = Search(
    name="stub", title="A stub", profile="smoke", program=StubProgram(),
    parameters={{"quality": Float(1, 90), "level": Integer(0, 3), "sign": Choice(("plus", "minus"))}},
    make=lambda values: config(values["quality"], values["level"] + 10 * (values["sign"] == "minus")),
    baselines={{"weak": config(5.0, 50), "default": config(40.0, 0)}},
    first=({{"quality": 40.0, "level": 0, "sign": "plus"}},),
    {fields}
)
'''


def write_search(folder: Path, fields: str = "trials=12, confirm=2, seeds=(1, 2)", *, sleep_s: float = 0.0) -> Path:
    """A file with a search; its first point is the default."""
    path = folder / "search_under_test.py"
    path.write_text(TEXT.format(steps=STEPS, interval=INTERVAL, sleep_s=sleep_s, fields=fields))
    return path


def loaded_search(path: Path) -> Search:
    """The search of a file."""
    sys.modules.pop(path.stem, None)
    return load_search_space(path).declared["smoke"]


def state_of(storage: Path) -> LedgerState:
    """What the ledger says; an empty one before it is there."""
    return read_ledger(storage / "ledger.jsonl")


def explored_keys(state: LedgerState) -> list[str]:
    """Keys of the points' trials in the order of proposal."""
    return [event["key"] for event in state.proposals.get(("stub", "smoke"), ())]


def stops(state: LedgerState) -> dict[str, int | None]:
    """The points that were stopped, and at which step."""
    records = (state.trials[key] for key in explored_keys(state) if key in state.trials)
    return {record.key: record.rung for record in records if record.outcome is Outcome.STOPPED}


def replayed_stops(state: LedgerState, search: Search) -> dict[str, int | None]:
    """The points that a scheduler stops which is told the ledger's reports of exploring, in its order."""
    assert search.scheduler is not None
    keys = [key for key, record in state.trials.items() if record.seed == search.explore_seed]
    stopper = EarlyStopper(Stopping(scheduler=search.scheduler, history=state.history(keys)))
    return {key: step for key in explored_keys(state) if (step := stopper.stopped_at(key)) is not None}
