"""What a search tries next, by Optuna's samplers and what the ledger knows. Imports optuna.

For each proposal an Optuna study is made in memory from the candidates so far and asked once. So nothing of Optuna has
to be kept or restored, and what is proposed depends on the ledger and the search's seed alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from mfm_tune.errors import SearchSpaceError
from mfm_tune.identity import config_id
from mfm_tune.program import Outcome
from mfm_tune.search.candidates import Candidate
from mfm_tune.search_space import Choice, Distribution, Float, Grid, Integer, Other, Printed, Random, Search, Tpe
from mfm_tune.space import Config

ASKED = 10  # how often the sampler is asked for a candidate that is new, before random points are drawn
DRAWN = 200  # how many random points are drawn
COUNTED = 10_000  # spaces of at most this many points are gone through before they are called exhausted


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A candidate to try. `sampler` is what Optuna's sampler keeps about it, as JSON."""

    number: int
    values: Mapping[str, Printed]
    config: Config
    config_id: str
    sampler: Mapping[str, Any] = field(default_factory=dict)


def propose(search: Search, candidates: Sequence[Candidate], number: int) -> Proposal | None:
    """The next candidate, which trains no config that was proposed before; None where no such candidate is to be had.

    Args:
        search: What is explored.
        candidates: What was proposed so far.
        number: Of the candidate; what is drawn depends on it.

    Raises:
        SearchSpaceError: `make` refuses whatever is drawn.
    """
    proposed = {candidate.config_id for candidate in candidates}
    refused: ValueError | SearchSpaceError | None = None
    made = 0
    for printed, kept in _drawn(search, candidates, number):
        try:
            config = search.config(search.values(printed))
        except (ValueError, SearchSpaceError) as error:
            refused = error
            continue
        made += 1
        name = config_id(config)
        if name not in proposed:
            return Proposal(number=number, values=printed, config=config, config_id=name, sampler=kept)
    if not made and refused is not None:
        raise SearchSpaceError(
            f"Search '{search.name}' makes no config of any candidate drawn; the last one: {refused}"
        )
    return None


def optuna_study(search: Search, candidates: Sequence[Candidate], sampler: BaseSampler | None = None) -> optuna.Study:
    """The candidates as an Optuna study in memory.

    Finished trials are COMPLETE, stopped ones PRUNED with what they reported, those that failed, diverged or ran out of
    memory FAIL, as are finished ones without a finite number; those that have not ended are RUNNING, and a sampler that
    thinks of them (TPE's constant liar) does.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    better = search.criterion.larger_is_better
    direction = optuna.study.StudyDirection.MAXIMIZE if better else optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(direction=direction, sampler=sampler, study_name=search.name)
    study.add_trials([_optuna_trial(search, candidate) for candidate in candidates])
    return study


def _optuna_trial(search: Search, candidate: Candidate) -> FrozenTrial:
    score = candidate.score(search.criterion)
    state = state_of(candidate.outcome, score)
    return create_trial(
        state=state,
        value=score if state is TrialState.COMPLETE else None,
        params=dict(candidate.values),
        distributions=distributions_of(search.parameters),
        intermediate_values=dict(candidate.curve(search.criterion)),
        user_attrs={"number": candidate.number},
        system_attrs=dict(candidate.sampler),
    )


def state_of(outcome: Outcome | None, score: float | None) -> TrialState:
    """Optuna's state of a trial that ended so, with this score."""
    match outcome:
        case None:
            return TrialState.RUNNING
        case Outcome.FINISHED if score is not None:
            return TrialState.COMPLETE
        case Outcome.STOPPED:
            return TrialState.PRUNED
        case _:
            return TrialState.FAIL


def distributions_of(parameters: Mapping[str, Distribution]) -> dict[str, BaseDistribution]:
    """Optuna's distributions of a search's parameters; options are as printed."""
    return {name: _distribution(distribution) for name, distribution in parameters.items()}


def _distribution(distribution: Distribution) -> BaseDistribution:
    match distribution:
        case Float(low=low, high=high, log=log):
            return FloatDistribution(low, high, log=log)
        case Integer(low=low, high=high, step=step, log=log):
            return IntDistribution(low, high, log=log, step=step)
        case Choice(options=options):
            return CategoricalDistribution([distribution.printed(option) for option in options])


# --------------------------------------------------------------------------------------------------------------------
# Candidates, in the order in which they are tried
# --------------------------------------------------------------------------------------------------------------------


def _drawn(
    search: Search, candidates: Sequence[Candidate], number: int
) -> Iterator[tuple[dict[str, Printed], dict[str, Any]]]:
    for values in search.first:
        yield search.printed(values), {}
    if isinstance(search.sampler, Grid):
        for printed in grid(search, search.sampler.points):
            yield printed, {}
        return
    for attempt in range(ASKED):
        yield _asked(search, candidates, _sampler(search, _seed(search, number, attempt)))
    for attempt in range(ASKED, ASKED + DRAWN):
        yield _asked(search, [], RandomSampler(seed=_seed(search, number, attempt)))
    if search.count is not None and search.count <= COUNTED:
        for printed in grid(search, 1):
            yield printed, {}


def _asked(
    search: Search, candidates: Sequence[Candidate], sampler: BaseSampler
) -> tuple[dict[str, Printed], dict[str, Any]]:
    study = optuna_study(search, candidates, sampler)
    trial = study.ask(distributions_of(search.parameters))
    printed = {name: _rounded(search.parameters[name], value) for name, value in trial.params.items()}
    kept = study.get_trials(deepcopy=False)[-1].system_attrs
    return printed, {name: value for name, value in kept.items() if _is_json(value)}


def _rounded(distribution: Distribution, value: Any) -> Printed:
    return distribution.rounded(value) if isinstance(distribution, Float) else value


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _sampler(search: Search, seed: int) -> BaseSampler:
    match search.sampler:
        case Tpe(startup=startup):
            return TPESampler(  # every setting that Optuna keeps, so that no change of a default moves a search
                n_startup_trials=startup,
                n_ei_candidates=24,
                multivariate=True,
                group=False,
                constant_liar=True,
                seed=seed,
            )
        case Other(make=make):
            made: BaseSampler = make(seed)
            return made
        case Random() | Grid():
            return RandomSampler(seed=seed)


def _seed(search: Search, number: int, attempt: int) -> int:
    """A seed of its own for each proposal, so that a restart neither repeats candidates nor draws others."""
    text = f"{search.explore_seed}/{number}/{attempt}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def grid(search: Search, points: int) -> Iterator[dict[str, Printed]]:
    """Every combination once, in an order drawn from the search's seed; nothing is held in memory."""
    axes = [distribution.grid(points) for distribution in search.parameters.values()]
    size = math.prod(len(axis) for axis in axes)
    draw = random.Random(search.explore_seed)
    start = draw.randrange(size)
    stride = next(
        each for each in (draw.randrange(1, size + 1) for _ in itertools.count()) if math.gcd(each, size) == 1
    )
    for turn in range(size):
        index, values = (start + turn * stride) % size, {}
        for name, axis in zip(search.parameters, axes, strict=True):
            index, place = divmod(index, len(axis))
            values[name] = axis[place]
        yield search.printed(values)
