"""From a ledger to the numbers of a search's report: what was chosen, what that was worth, what it cost.

Everything here is data; the report puts it into sentences. A trial that the scheduler stopped has no value of the last
step: it enters no average, no correlation and no importance, and is marked wherever it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mfm_tune.criteria import CRITERIA, TARGET_MIOU, Criterion
from mfm_tune.ledger.records import Status
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.program import Outcome
from mfm_tune.results.statistics import Paired, Summary, Verdict, holm, kendall, paired_difference, spearman, summary
from mfm_tune.results.study import CellResult, Results, collect
from mfm_tune.results.trials import ConfigResult
from mfm_tune.search.candidates import Candidate, candidates_of, confirmed_study, final, selected, selection_of
from mfm_tune.search_space import Search

_ENDED = (Status.FINISHED, Status.OOM, Status.DIVERGED)


@dataclass(frozen=True, kw_only=True)
class Remeasured:
    """A config measured twice: while exploring, and by seeds that had no part in the choice.

    Args:
        explored: The criterion of the exploring seed; for a chosen candidate, the number that it was chosen with.
        held_out: Seed -> the criterion at the last step, of all other seeds.
    """

    name: str
    explored: float | None
    held_out: Mapping[int, float]

    @cached_property
    def summary(self) -> Summary:
        """Mean and spread over held-out seeds."""
        return summary(self.held_out.values())

    @property
    def change(self) -> float | None:
        """The mean over held-out seeds minus the number while exploring."""
        mean = self.summary.mean
        return None if mean is None or self.explored is None else mean - self.explored


@dataclass(frozen=True, kw_only=True)
class Confirmed(Remeasured):
    """A candidate that was chosen.

    Args:
        candidate: What was explored.
        cell: Its row in the confirmed table.
        whole: Whether every seed has the criterion at the last step.
    """

    candidate: Candidate
    cell: CellResult
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A confirmed candidate minus a baseline in the printed metric, over held-out seeds.

    Args:
        corrected: Whether it excludes zero after Holm's correction over all such differences of the search.
    """

    confirmed: Confirmed
    baseline: str
    paired: Paired
    corrected: bool


@dataclass(frozen=True, kw_only=True)
class ChosenBy:
    """How well a criterion would have chosen among the finished trials, judged by target mIoU.

    Args:
        n: Finished trials that have both numbers.
        spearman, kendall: Rank correlations with target mIoU, the criterion turned so that larger is better; None for
            fewer than three trials.
        choice: Number of the trial that it ranks first.
        choice_miou, best_miou: Target mIoU of that trial, and the best one of the n.
    """

    criterion: Criterion
    n: int
    spearman: float | None
    kendall: float | None
    choice: int | None
    choice_miou: float | None
    best_miou: float | None

    @property
    def regret(self) -> float | None:
        """How much target mIoU the choice gives away."""
        if self.best_miou is None or self.choice_miou is None:
            return None
        return self.best_miou - self.choice_miou


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What stopping early saved, over the trials that finished or were stopped.

    Args:
        spent: Training steps of these trials.
        planned: What they would have trained without a scheduler.
        stopped_at: (step, planned steps) -> how many trials were stopped there.
    """

    finished: int
    stopped: int
    spent: int
    planned: int
    stopped_at: Mapping[tuple[int, int], int]

    @property
    def saved(self) -> float | None:
        """Share of the planned steps; None where no trial ended."""
        return 1 - self.spent / self.planned if self.planned else None


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """All that a report says of a search.

    Args:
        candidates: What was explored, by number.
        confirmed: The chosen ones, in the order of the choice.
        results: Of the study that confirms.
        baselines: They were not chosen, so that their change is that of the seeds alone.
        fixed: Whether the choice was made; until then the best so far stand for what will be chosen.
    """

    search: Search
    candidates: tuple[Candidate, ...]
    confirmed: tuple[Confirmed, ...]
    results: Results
    baselines: tuple[Remeasured, ...]
    fixed: bool

    @property
    def finished(self) -> tuple[Candidate, ...]:
        """Those whose trial finished with a value of the criterion: all that an average may see."""
        return tuple(each for each in self.candidates if final(each, self.search.criterion) is not None)

    @property
    def stopped(self) -> tuple[Candidate, ...]:
        """Those whose trial the scheduler stopped."""
        return tuple(each for each in self.candidates if each.outcome is Outcome.STOPPED)

    @cached_property
    def winner(self) -> Confirmed | None:
        """Rank 1 of exploring, once it has finished every seed; None before, and where it does not.

        It is fixed before any held-out seed is trained, so that the mean over these is an unbiased estimate. The best
        mean of several is none: of three equal ones it is expected 0.85 standard errors too high.
        """
        return next((each for each in self.confirmed[:1] if self.fixed and each.whole), None)

    @cached_property
    def best_selected(self) -> Confirmed | None:
        """The best mean of the search's own criterion over held-out seeds, which are those that select it.

        Among the chosen candidates that finished every seed; None before all have ended, and without held-out seeds.
        """
        whole = [each for each in self.confirmed if each.whole and each.held_out]
        means = {each.name: self.search.criterion.oriented(sum(each.held_out.values())) for each in whole}
        return max(whole, key=lambda each: means[each.name], default=None) if self.all_ended else None

    @property
    def all_ended(self) -> bool:
        """Whether the choice was made and no trial of what was chosen is still to be trained."""
        return self.fixed and all(status in _ENDED for chosen in self.confirmed for status in chosen.cell.statuses)

    def held_out_values(self, config: ConfigResult, metric: str) -> Mapping[int, float]:
        """Seed -> a metric at the last step, of the seeds that had no part in the choice."""
        return _held_out(config.finals(metric), self.search)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """The chosen candidates that finished every seed minus each baseline, where a held-out seed has both."""

        def values(config: ConfigResult) -> Mapping[int, float]:
            return self.held_out_values(config, self.search.metric)

        pairs = [
            (chosen, baseline.name, paired)
            for chosen in self.confirmed
            for baseline in self.results.references
            if chosen.whole and (paired := paired_difference(values(chosen.cell.config), values(baseline))).n
        ]
        rejected = holm([1.0 if paired.p_value is None else paired.p_value for _, _, paired in pairs])
        return tuple(
            Difference(confirmed=chosen, baseline=baseline, paired=paired, corrected=corrected)
            for (chosen, baseline, paired), corrected in zip(pairs, rejected, strict=True)
        )

    def is_better(self, difference: Difference) -> bool:
        """Whether a candidate is shown to be better: the winner by its interval, any other one after correction."""
        counts = difference.corrected or difference.confirmed is self.winner
        return counts and difference.paired.verdict(self.search.metric) is Verdict.BETTER

    @cached_property
    def unbeaten(self) -> tuple[str, ...]:
        """The baselines that nothing found is shown to beat, once all that could be has been confirmed."""
        told = [each for each in self.differences if each.paired.low is not None]
        names = dict.fromkeys(each.baseline for each in told) if self.all_ended else {}
        return tuple(name for name in names if not any(self.is_better(each) for each in told if each.baseline == name))

    @cached_property
    def pruning(self) -> Pruning:
        """What stopping early saved."""
        return pruning(self.candidates)

    @cached_property
    def chosen_by(self) -> tuple[ChosenBy, ...]:
        """Each label-free criterion that the finished trials report, judged by target mIoU."""
        judged = (chosen_by(self.candidates, criterion) for criterion in CRITERIA if not criterion.oracle)
        return tuple(each for each in judged if each.n)


def collect_search(search: Search, state: LedgerState, code: TrainingCode | None = None) -> SearchResults:
    """The numbers of a search.

    Args:
        search: What is reported.
        state: The ledger.
        code: Of training, as it is now; without it, as a driver last declared it.
    """
    study, criterion = confirmed_study(search, state, code), search.criterion
    results = collect(study, state, None if code is None else code.digests(study.configs()))
    results = replace(results, other_seeds=tuple(each for each in results.other_seeds if each != search.explore_seed))
    selection = selection_of(state, search, code)
    # when candidates were chosen; a stopped trial that is confirmed goes on after that
    scores = {} if selection is None else dict(zip(selection["config_ids"], selection["scores"], strict=True))

    def confirmed(candidate: Candidate, cell: CellResult) -> Confirmed:
        values = cell.config.finals(criterion.key)
        return Confirmed(
            name=candidate.name,
            explored=scores.get(candidate.config_id, candidate.score(criterion)),
            held_out=_held_out(values, search),
            candidate=candidate,
            cell=cell,
            whole=len(values) == len(search.seeds),
        )

    def baseline(config: ConfigResult) -> Remeasured:
        record = state.counts(config.config_id, search.explore_seed, config.fingerprint)
        explored = None if record is None else record.final(criterion.key)
        return Remeasured(name=config.name, explored=explored, held_out=_held_out(config.finals(criterion.key), search))

    cells = {cell.cell.level: cell for cell in results.cells}
    return SearchResults(
        search=search,
        candidates=candidates_of(state, search, code),
        confirmed=tuple(confirmed(each, cells[each.name]) for each in selected(state, search, code)),
        results=results,
        baselines=tuple(map(baseline, results.references)),
        fixed=selection is not None,
    )


def _held_out(values: Mapping[int, float], search: Search) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if seed != search.explore_seed}


def chosen_by(candidates: Sequence[Candidate], criterion: Criterion) -> ChosenBy:
    """How well a criterion ranks the finished candidates by target mIoU."""
    pairs = [
        (criterion.oriented(value), miou, each.number)
        for each in candidates
        if (value := final(each, criterion)) is not None and (miou := final(each, TARGET_MIOU)) is not None
    ]
    values, mious = [value for value, _, _ in pairs], [miou for _, miou, _ in pairs]
    best = max(pairs, key=lambda pair: (pair[0], -pair[2]), default=None)
    return ChosenBy(
        criterion=criterion,
        n=len(pairs),
        spearman=spearman(values, mious),
        kendall=kendall(values, mious),
        choice=best[2] if best else None,
        choice_miou=best[1] if best else None,
        best_miou=max(mious, default=None),
    )


def pruning(candidates: Sequence[Candidate]) -> Pruning:
    """What stopping early saved; a stopped trial that was confirmed later has been trained to the end."""
    records = [each.record for each in candidates if each.record is not None]
    ended = [each for each in records if each.outcome in (Outcome.FINISHED, Outcome.STOPPED)]
    stopped = [each for each in ended if each.outcome is Outcome.STOPPED]
    return Pruning(
        finished=len(ended) - len(stopped),
        stopped=len(stopped),
        spent=sum(each.step for each in ended),
        planned=sum(each.planned_steps for each in ended),
        stopped_at=dict(sorted(Counter((each.step, each.planned_steps) for each in stopped).items())),
    )
