"""From a ledger to the numbers of a search's report: what was chosen, what that was worth, what it cost.

Everything here is data; the report puts it into sentences. A trial that the scheduler stopped has no value of the last
step: it enters no average, no correlation and no importance, and is marked wherever it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
class Retold:
    """A config measured twice: while exploring, and by seeds that had no part in the choice.

    Args:
        explored: The criterion of the exploring seed; for a chosen point, the number that it was chosen with.
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
class Confirmed(Retold):
    """A point that was chosen.

    Args:
        point: What was explored.
        every: Seed -> the criterion at the last step, of all seeds.
        cell: Its row in the confirmed table.
    """

    point: Candidate
    every: Mapping[int, float]
    cell: CellResult


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A confirmed point minus a baseline in the printed metric, over held-out seeds.

    Args:
        corrected: Whether it excludes zero after Holm's correction over all such differences of the search.
    """

    point: Confirmed
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
        points: What was explored, by number.
        confirmed: The chosen points, in the order of the choice.
        results: Of the study that confirms.
        baselines: They were not chosen, so that their change is that of the seeds alone.
        fixed: Whether the choice was made; until then the best so far stand for what will be chosen.
    """

    search: Search
    points: tuple[Candidate, ...]
    confirmed: tuple[Confirmed, ...]
    results: Results
    baselines: tuple[Retold, ...]
    fixed: bool

    @property
    def finished(self) -> tuple[Candidate, ...]:
        """The points whose trial finished with a value of the criterion: all that an average may see."""
        return tuple(each for each in self.points if final(each, self.search.criterion) is not None)

    @property
    def stopped(self) -> tuple[Candidate, ...]:
        """The points whose trial the scheduler stopped."""
        return tuple(each for each in self.points if each.outcome is Outcome.STOPPED)

    @cached_property
    def winner(self) -> Confirmed | None:
        """Rank 1 of exploring, once it has finished every seed; None before, and where it does not.

        It is fixed before any held-out seed is trained, so that the mean over these is an unbiased estimate. The best
        mean of several is none: of three equal ones it is expected 0.85 standard errors too high.
        """
        return next((each for each in self.confirmed[:1] if self.fixed and self._is_whole(each)), None)

    @cached_property
    def best_selected(self) -> Confirmed | None:
        """The best mean of the search's own criterion over held-out seeds, which are those that select it.

        Among the chosen points that finished every seed; None before all have ended, and without held-out seeds.
        """
        whole = [each for each in self.confirmed if self._is_whole(each) and each.held_out]
        means = {each.name: self.search.criterion.oriented(sum(each.held_out.values())) for each in whole}
        return max(whole, key=lambda each: means[each.name], default=None) if self.all_ended else None

    @property
    def all_ended(self) -> bool:
        """Whether the choice was made and no trial of what was chosen is still to be trained."""
        return self.fixed and all(each in _ENDED for point in self.confirmed for each in point.cell.statuses)

    def _is_whole(self, point: Confirmed) -> bool:
        return len(point.every) == len(self.search.seeds)

    def held_out_values(self, point: Confirmed | ConfigResult, metric: str) -> Mapping[int, float]:
        """Seed -> a metric at the last step, of the seeds that had no part in the choice."""
        config = point if isinstance(point, ConfigResult) else point.cell.config
        return _held_out(config.finals(metric), self.search)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """The chosen points that finished every seed minus each baseline, where a held-out seed has both."""

        def values(of: Confirmed | ConfigResult) -> Mapping[int, float]:
            return self.held_out_values(of, self.search.metric)

        pairs = [
            (point, baseline.name, paired)
            for point in self.confirmed
            for baseline in self.results.references
            if self._is_whole(point) and (paired := paired_difference(values(point), values(baseline))).n
        ]
        told = holm([1.0 if paired.p_value is None else paired.p_value for _, _, paired in pairs])
        return tuple(
            Difference(point=point, baseline=baseline, paired=paired, corrected=each)
            for (point, baseline, paired), each in zip(pairs, told, strict=True)
        )

    def is_better(self, difference: Difference) -> bool:
        """Whether a candidate is shown to be better: the winner by its interval, any other one after correction."""
        told = difference.corrected or difference.point is self.winner
        return told and difference.paired.verdict is Verdict.BETTER

    @cached_property
    def unbeaten(self) -> tuple[str, ...]:
        """The baselines that nothing found is shown to beat, once all that could be has been confirmed."""
        told = [each for each in self.differences if each.paired.low is not None]
        names = dict.fromkeys(each.baseline for each in told) if self.all_ended else {}
        return tuple(name for name in names if not any(self.is_better(each) for each in told if each.baseline == name))

    @cached_property
    def pruning(self) -> Pruning:
        """What stopping early saved."""
        return pruning(self.points)

    @cached_property
    def chosen_by(self) -> tuple[ChosenBy, ...]:
        """Each label-free criterion that the finished trials report, judged by target mIoU."""
        judged = (chosen_by(self.points, criterion) for criterion in CRITERIA if not criterion.oracle)
        return tuple(each for each in judged if each.n)


def collect_search(search: Search, state: LedgerState, code: TrainingCode | None = None) -> SearchResults:
    """The numbers of a search.

    Args:
        search: What is reported.
        state: The ledger.
        code: Of training, as it is now; without it, as a driver last declared it.
    """
    study = confirmed_study(search, state, code)
    prints = None if code is None else code.digests(study.configs())
    results = collect(study, state, prints)
    chosen_with = _chosen_with(state, search, code)
    rows = {cell.cell.level: cell for cell in results.cells}
    return SearchResults(
        search=search,
        points=candidates_of(state, search, code),
        confirmed=tuple(
            _confirmed(point, search, rows[point.name], chosen_with) for point in selected(state, search, code)
        ),
        results=results,
        baselines=tuple(_retold(each, search, state) for each in results.references),
        fixed=selection_of(state, search, code) is not None,
    )


def _chosen_with(state: LedgerState, search: Search, code: TrainingCode | None) -> Mapping[str, float | None]:
    """Config id -> the criterion when points were chosen; a stopped trial that is confirmed goes on after that."""
    selection = selection_of(state, search, code)
    return {} if selection is None else dict(zip(selection["config_ids"], selection["scores"], strict=True))


def _confirmed(
    point: Candidate, search: Search, cell: CellResult, chosen_with: Mapping[str, float | None]
) -> Confirmed:
    values = cell.config.finals(search.criterion.key)
    return Confirmed(
        name=point.name,
        explored=chosen_with.get(point.config_id, point.score(search.criterion)),
        held_out=_held_out(values, search),
        point=point,
        every=values,
        cell=cell,
    )


def _retold(baseline: ConfigResult, search: Search, state: LedgerState) -> Retold:
    record = state.counts(baseline.config_id, search.explore_seed, baseline.fingerprint)
    return Retold(
        name=baseline.name,
        explored=None if record is None else record.final(search.criterion.key),
        held_out=_held_out(baseline.finals(search.criterion.key), search),
    )


def _held_out(values: Mapping[int, float], search: Search) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if seed != search.explore_seed}


def chosen_by(points: Sequence[Candidate], criterion: Criterion) -> ChosenBy:
    """How well a criterion ranks the finished points by target mIoU."""
    pairs = [
        (criterion.oriented(value), miou, each.number)
        for each in points
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


def pruning(points: Sequence[Candidate]) -> Pruning:
    """What stopping early saved; a stopped trial that was confirmed later has been trained to the end."""
    records = [each.record for each in points if each.record is not None]
    ended = [each for each in records if each.outcome in (Outcome.FINISHED, Outcome.STOPPED)]
    stopped = [each for each in ended if each.outcome is Outcome.STOPPED]
    return Pruning(
        finished=len(ended) - len(stopped),
        stopped=len(stopped),
        spent=sum(each.step for each in ended),
        planned=sum(each.planned_steps for each in ended),
        stopped_at=dict(sorted(Counter((each.step, each.planned_steps) for each in stopped).items())),
    )
