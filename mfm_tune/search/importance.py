"""Which parameters matter, by Optuna's PED-ANOVA over the finished trials (Watanabe et al. 2023).

The importance of a parameter is how much the best tenth of the trials differ from all of them in it; importances add up
to 1. Few trials say little: each importance is worked out again without each of the trials, and the range of these is
given beside it. The best tenth are as many trials then, so that the range is of the same number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfm_tune.criteria import Criterion
from mfm_tune.search.candidates import Candidate, final
from mfm_tune.search_space import Distribution

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LEAST = 10  # finished trials
LEFT_OUT = 50  # about how many trials are left out in turn where there are many


@dataclass(frozen=True, kw_only=True)
class Importance:
    """A parameter's share, and the range of shares when one trial is left out."""

    name: str
    share: float
    low: float
    high: float


def importances(
    candidates: Sequence[Candidate], parameters: Mapping[str, Distribution], criterion: Criterion
) -> tuple[Importance, ...]:
    """The importance of each parameter, the largest first; none with fewer than `LEAST` finished trials."""
    finals = [(candidate, final(candidate, criterion)) for candidate in candidates]
    scored = [(candidate, criterion.oriented(value)) for candidate, value in finals if value is not None]
    if len(scored) < LEAST or len(parameters) < 2:
        return ()
    from optuna.trial import create_trial

    from mfm_tune.search.sampling import distributions_of

    distributions = distributions_of(parameters)
    trials = [
        create_trial(params=dict(candidate.values), distributions=distributions, value=value)
        for candidate, value in scored
    ]
    best = best_tenth(len(trials))
    shares = _shares(trials, best)
    every = range(0, len(trials), 1 + len(trials) // LEFT_OUT)
    without = [_shares(trials[:index] + trials[index + 1 :], best) for index in every]
    rows = [
        Importance(
            name=name,
            share=share,
            low=min(others.get(name, 0.0) for others in without),
            high=max(others.get(name, 0.0) for others in without),
        )
        for name, share in shares.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.share))


def best_tenth(n: int) -> int:
    """How many of n trials the best tenth are: two at least, because one has no distribution."""
    return max(2, math.ceil(n / 10))


def _shares(trials: Sequence[FrozenTrial], best: int) -> Mapping[str, float]:
    """Parameters that only ever had one value are left out."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # no lines on each study
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    quantile = (best - 0.5) / len(trials)  # Optuna rounds up, to `best`
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
