"""The trials of a search, one after the other: baselines, what was begun, then candidates that are new.

A candidate is written to the ledger before its trial begins. So a driver that is killed at any moment comes back to the
same candidates: begun ones resume from their checkpoints, and no candidate is proposed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import Stopping
from mfm_tune.ledger.events import proposal_event
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.plan import Choice, Plan, plan_trial
from mfm_tune.search.candidates import (
    Candidate,
    candidate_name,
    candidate_of,
    candidates_of,
    confirmed_study,
    next_number,
    selection_of,
)
from mfm_tune.search_space import Search


class Explorer(Iterator[Trial]):
    """Gives the next trial to run, for as long as the search has candidates left.

    Args:
        plan: What is known when the launch begins; its state is the ledger's.
        ledger: Where proposals go.
        recorder: Takes in trials that are made up.
    """

    def __init__(self, plan: ExplorationPlan, ledger: Ledger, recorder: Recorder) -> None:
        self.exhausted = False
        self._search = plan.search
        self._code = plan.code
        self._state = plan.state
        self._ledger = ledger
        self._recorder = recorder
        self._candidates = list(plan.candidates)
        self._given: set[str] = set()
        self._queue = deque(plan.to_do)

    def __next__(self) -> Trial:
        """The next trial.

        Raises:
            StopIteration: There is none left: as many candidates as the search asks for, or none that is new
                (`exhausted`).
            SearchSpaceError: The search makes no config of any candidate.
            StorageError: The ledger cannot be written.
        """
        while self._queue or self._wants_more():
            trial = self._queue.popleft() if self._queue else self._proposed()
            if trial is not None and trial.key not in self._given:  # a candidate may be a baseline that still runs
                self._given.add(trial.key)
                self._recorder.add(trial)
                return trial
        raise StopIteration

    def _wants_more(self) -> bool:
        return not self.exhausted and len(self._candidates) < self._search.trials

    def _proposed(self) -> Trial | None:
        """The trial of a new candidate; None where it has ended (as a baseline, a cell), or there is no new one."""
        from mfm_tune.search.sampling import propose

        search = self._search
        self._candidates = [self._updated(candidate) for candidate in self._candidates]
        proposal = propose(search, self._candidates, next_number(self._state, search))
        if proposal is None:
            self.exhausted = True
            return None
        seed, where = search.explore_seed, f"search '{search.name}'"
        planned = plan_trial(
            search.program, proposal.config, seed, self._code, self._state, Choice(asha=True), where=where
        )
        event = proposal_event(
            search,
            number=proposal.number,
            values=proposal.values,
            config=proposal.config_id,
            key=planned.trial.key,
            sampler=proposal.sampler,
        )
        self._ledger.append(event)
        candidate = candidate_of(event, self._state, search, self._code)
        self._candidates += [candidate] if candidate is not None else []
        return planned.trial if planned.to_do else None

    def _updated(self, candidate: Candidate) -> Candidate:
        fingerprint = self._code.fingerprint(candidate.config).digest
        return replace(candidate, record=self._state.counts(candidate.config_id, candidate.seed, fingerprint))


@dataclass(frozen=True, kw_only=True)
class ExplorationPlan(Plan):
    """The trials of exploring that are known: the baselines' and those of the candidates so far.

    Args:
        search, code: What is explored, and by which code.
        state: The ledger, from which candidates come that were proposed later.
    """

    search: Search
    code: TrainingCode
    state: LedgerState

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates now."""
        return candidates_of(self.state, self.search, self.code)

    @property
    def to_propose(self) -> int:
        """How many candidates are still to be proposed."""
        return max(0, self.search.most - len(self.candidates))

    def name_of(self, config: str) -> str:
        """`DACS` for a baseline, `trial 17` for a candidate."""
        name = next((name for name, own in self.search.baseline_ids.items() if own == config), None)
        if name is not None:
            return name
        proposals = self.state.proposals.get((self.search.name, self.search.profile), ())
        numbers = [event["number"] for event in proposals if event["config_id"] == config]
        return candidate_name(numbers[-1]) if numbers else config


def plan_exploration(search: Search, code: TrainingCode, state: LedgerState, choice: Choice) -> ExplorationPlan:
    """The baselines' trials and those of the candidates so far, each config once, in the order in which they start.

    A candidate that was stopped early and selected resumes while it is confirmed; where it was cut off then, or failed,
    its trial is finished there: exploring it again would compare it again.
    """
    asha = replace(choice, asha=search.scheduler is not None)
    candidates = candidates_of(state, search, code)[: search.trials]
    distinct = {**search.configs(), **{candidate.config_id: candidate.config for candidate in candidates}}
    planned = [
        plan_trial(search.program, config, search.explore_seed, code, state, asha, where=f"search '{search.name}'")
        for config in distinct.values()
    ]
    selection = selection_of(state, search, code)
    confirming = () if selection is None else selection["config_ids"]
    prints = [code.fingerprint(config) for config in distinct.values()]
    return ExplorationPlan(
        study=replace(confirmed_study(search, state, code), seeds=(search.explore_seed,)),
        tables=(),
        cells=(),
        trials=tuple(replace(each, to_do=each.to_do and each.trial.config_id not in confirming) for each in planned),
        fingerprints={fingerprint.digest: fingerprint for fingerprint in prints},
        search=search,
        code=code,
        state=state,
    )


def stopping(plan: ExplorationPlan) -> Stopping | None:
    """How the trials of a search are stopped early: baselines never, the others by what the ledger has so far."""
    search = plan.search
    if search.scheduler is None:
        return None
    baselines = search.baseline_ids.values()
    keys = [planned.trial.key if planned.record is None else planned.record.key for planned in plan.trials]
    return Stopping(
        scheduler=search.scheduler,
        criterion=search.criterion,
        never=frozenset(planned.trial.key for planned in plan.trials if planned.trial.config_id in baselines),
        history=plan.state.history(keys),
    )
