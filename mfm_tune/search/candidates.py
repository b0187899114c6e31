"""What a search has explored, read from the ledger, and what follows from it: the best, and the study of them.

The ledger is the truth: a `proposal` event says which values were tried under which number, and the trial's own events
how that ended. Nothing else is kept of a search.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mfm_tune.criteria import Criterion
from mfm_tune.errors import SearchSpaceError
from mfm_tune.identity import config_id
from mfm_tune.ledger.records import TrialRecord, is_number
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.program import Outcome
from mfm_tune.search_space import Printed, Search
from mfm_tune.space import Axis, Config, Experiment, Study, Table

TABLE = "confirmed"  # of the study that confirms
_RANKED = {Outcome.FINISHED: 0, Outcome.STOPPED: 1}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate of a search, and its trial.

    Args:
        number: From 0, in the order of proposal.
        values: As printed, by parameter.
        config: What is trained.
        key: Of its trial.
        record: The trial as the ledger knows it; None while it has not begun.
        sampler: What Optuna's sampler keeps about the candidate.
    """

    number: int
    values: Mapping[str, Printed]
    config: Config
    config_id: str
    seed: int
    key: str
    record: TrialRecord | None
    sampler: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How it is called: `trial 17`."""
        return candidate_name(self.number)

    @property
    def outcome(self) -> Outcome | None:
        """How its trial ended; None while it has not."""
        return None if self.record is None else self.record.outcome

    def curve(self, criterion: Criterion) -> tuple[tuple[int, float], ...]:
        """(step, value) pairs of its trial's evaluations; values that are no finite number are left out."""
        reports = self.record.reports if self.record is not None else ()
        pairs = ((report["step"], report["metrics"].get(criterion.key, math.nan)) for report in reports)
        return tuple((step, value) for step, value in pairs if is_number(value))

    def score(self, criterion: Criterion) -> float | None:
        """The criterion at the last step of a trial that finished or was stopped early; None where there is none."""
        if self.record is None or self.outcome not in _RANKED:
            return None
        value = self.record.metrics.get(criterion.key, math.nan)
        return value if is_number(value) else None


def final(candidate: Candidate, criterion: Criterion) -> float | None:
    """A criterion at the last step of a finished trial; None for every other one, stopped ones above all."""
    return None if candidate.record is None else candidate.record.final(criterion.key)


def candidates_of(state: LedgerState, search: Search, code: TrainingCode | None = None) -> tuple[Candidate, ...]:
    """The candidates of a search, by number.

    A candidate counts where the search as it is declared today trains the recorded config for the recorded values:
    candidates of an earlier declaration are left out.

    Args:
        code: Finds the trials of today's code, and results that the user said stand for it; without it, of the code
            that a driver last declared.
    """
    recorded = (candidate_of(event, state, search, code) for event in state.proposals.get(_name(search), ()))
    return tuple(sorted(filter(None, recorded), key=lambda candidate: candidate.number))


def candidate_of(event: Event, state: LedgerState, search: Search, code: TrainingCode | None) -> Candidate | None:
    """The candidate of a `proposal` event; None where it is of an earlier declaration."""
    if event["seed"] != search.explore_seed:
        return None
    try:
        config = search.config(search.values(event["values"]))
    except (ValueError, SearchSpaceError):
        return None
    name = config_id(config)
    if name != event["config_id"]:
        return None
    record = state.counts(name, event["seed"], None if code is None else code.fingerprint(config).digest)
    return Candidate(
        number=event["number"],
        values=event["values"],
        config=config,
        config_id=name,
        seed=event["seed"],
        key=event["key"] if record is None else record.key,
        record=record,
        sampler=event.get("sampler") or {},
    )


def next_number(state: LedgerState, search: Search) -> int:
    """Beyond those of all candidates, of earlier declarations too: these count again where it is changed back."""
    proposals = state.proposals.get(_name(search), ())
    return max((event["number"] for event in proposals if event["seed"] == search.explore_seed), default=-1) + 1


def _name(search: Search) -> tuple[str, str]:
    return search.name, search.profile


# --------------------------------------------------------------------------------------------------------------------
# The best
# --------------------------------------------------------------------------------------------------------------------


def ranking(candidates: Sequence[Candidate], criterion: Criterion) -> tuple[Candidate, ...]:
    """The candidates that have a score, best first: finished ones, then stopped ones, those that came further first."""
    scored = [candidate for candidate in candidates if candidate.score(criterion) is not None]
    return tuple(sorted(scored, key=lambda candidate: _place(candidate, criterion)))


def _place(candidate: Candidate, criterion: Criterion) -> tuple[int, int, float, int]:
    score, record = candidate.score(criterion), candidate.record
    assert score is not None
    assert record is not None
    assert record.outcome is not None
    return _RANKED[record.outcome], -record.step, -criterion.oriented(score), candidate.number


def best(candidates: Sequence[Candidate], search: Search) -> tuple[Candidate, ...]:
    """The `confirm` best."""
    return ranking(_eligible(candidates, search), search.criterion)[: search.confirm]


def _eligible(candidates: Sequence[Candidate], search: Search) -> tuple[Candidate, ...]:
    """The candidates that can be chosen: a baseline that was also proposed is confirmed anyhow."""
    baselines = search.baseline_ids.values()
    return tuple(candidate for candidate in candidates if candidate.config_id not in baselines)


def selected(state: LedgerState, search: Search, code: TrainingCode | None = None) -> tuple[Candidate, ...]:
    """What is confirmed: what was selected when exploring was complete, else the best so far.

    Confirming resumes trials that were stopped early, which would change a ranking that is made anew.
    """
    candidates = candidates_of(state, search, code)
    selection = _holding(candidates, state, search, code)
    if selection is None:
        return best(candidates, search)
    by_config = {candidate.config_id: candidate for candidate in reversed(candidates)}
    return tuple(by_config[name] for name in selection["config_ids"])


def selection_of(state: LedgerState, search: Search, code: TrainingCode | None = None) -> Event | None:
    """The selection that was written when exploring was complete; None where none holds today.

    It holds under the terms by which it was made and for the candidates among which it was made, as long as no other
    one of them has a score, and the results by which it was made are accepted as those of today's code.
    """
    return _holding(candidates_of(state, search, code), state, search, code)


def _holding(
    candidates: Sequence[Candidate], state: LedgerState, search: Search, code: TrainingCode | None
) -> Event | None:
    eligible = {candidate.config_id: candidate for candidate in _eligible(candidates, search)}
    terms, scored = _terms(search, eligible), set(_scored(candidates, search))

    def holds(selection: Event) -> bool:
        if any(selection.get(name, value) != value for name, value in terms.items()):  # earlier versions lack some
            return False
        if not eligible.keys() >= set(selection["config_ids"]):
            return False
        if len(selection["config_ids"]) < len(best(candidates, search)):  # too few had a score then
            return False
        if not scored <= set(selection.get("scored") or scored):  # one that had failed has a score now
            return False
        chosen = zip(selection["config_ids"], selection.get("keys", ()), strict=False)
        return code is None or all(
            state.accepts(state.trials[key].fingerprint, code.fingerprint(eligible[name].config).digest)
            for name, key in chosen
        )

    made = state.selections.get(_name(search), ())
    return next((selection for selection in reversed(made) if holds(selection)), None)


def selection_event(search: Search, candidates: Sequence[Candidate], chosen: Sequence[Candidate]) -> Event:
    """Which of the candidates are confirmed, and by which terms they were chosen.

    Config ids say which. Numbers are for people and for earlier versions, which gave them anew where a declaration
    changed.
    """
    return {
        "event": "selection",
        "search": search.name,
        "profile": search.profile,
        **_terms(search, (candidate.config_id for candidate in _eligible(candidates, search))),
        "config_ids": [candidate.config_id for candidate in chosen],
        "keys": [candidate.key for candidate in chosen],
        "numbers": [candidate.number for candidate in chosen],
        "scores": [candidate.score(search.criterion) for candidate in chosen],
        "scored": _scored(candidates, search),
    }


def _scored(candidates: Sequence[Candidate], search: Search) -> list[str]:
    """Config ids of the candidates that could be chosen by what they have shown."""
    return sorted(each.config_id for each in ranking(_eligible(candidates, search), search.criterion))


def _terms(search: Search, eligible: Iterable[str]) -> dict[str, Any]:
    return {
        "trials": search.trials,
        "confirm": search.confirm,
        "criterion": search.criterion.key,
        "seed": search.explore_seed,
        "among": hashlib.sha256(" ".join(sorted(set(eligible))).encode()).hexdigest()[:16],
    }


# --------------------------------------------------------------------------------------------------------------------
# The study that confirms
# --------------------------------------------------------------------------------------------------------------------


def confirmed_study(search: Search, state: LedgerState, code: TrainingCode | None = None) -> Study:
    """The baselines and the selected candidates as a study: all seeds, nothing pruned, compared by seed."""
    candidates = selected(state, search, code)
    configs = {**search.baselines, **{candidate.name: candidate.config for candidate in candidates}}
    trained = {candidate.name: values_text(candidate.values) for candidate in candidates}
    axis = Axis(
        name="config",
        levels=tuple((name, None) for name in configs),
        make=lambda name: configs[name],
        trained=lambda name: trained.get(name, name),
    )
    oracle = " (oracle selection)" if search.criterion.oracle else ""
    title = f"The best {len(candidates)} of the search by {search.criterion.label}{oracle}, and the baselines"
    if not candidates:
        title = f"The baselines; no candidate of the search has a score by {search.criterion.label}{oracle}"
    alike = {item.name: getattr(search, item.name) for item in fields(Experiment)}
    return Study(**alike, tables=(Table(name=TABLE, title=title, axis=axis),), references=search.baselines)


def candidate_name(number: int) -> str:
    """How the candidate of a number is called: `trial 17`."""
    return f"trial {number}"


def values_text(values: Mapping[str, Printed]) -> str:
    """Values in a line: `ratio 0.52, blocks 2`."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in values.items())  # fmt: skip
