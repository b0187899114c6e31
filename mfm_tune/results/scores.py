"""What a ledger knows of one trained model: its trial's score, and that of its config over all seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm_tune.criteria import digits_of
from mfm_tune.digits import number
from mfm_tune.errors import UserError
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.state import LedgerState, read_storage
from mfm_tune.results.names import labels_of, metric_of
from mfm_tune.results.statistics import Paired, paired_difference

MIOU = "student/miou"


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of a trial.

    Args:
        key, config_id, seed, step: Of the trial.
        names: What studies and searches call its config.
        config: Its canonical form.
        metric: What is scored.
        own: The trial's value at its last step; None where it has none.
        seeds: Mean over the finished seeds that count, with its 95 % t-interval.
    """

    key: str
    config_id: str
    seed: int
    step: int
    names: tuple[str, ...]
    config: Mapping[str, Any]
    metric: str
    own: float | None
    seeds: Paired

    def text(self, value: float | None) -> str:
        """A value of the metric as reports print a mean of it."""
        return number(value, digits_of(self.metric))


def score_of(folder: Path) -> Score | None:
    """The score of the trial that keeps its files in a folder; None where no ledger knows it.

    Args:
        folder: `STORAGE/trials/CONFIG/sSEED-CODE`.
    """
    place = folder.absolute()
    if len(place.parents) < 3:
        return None
    storage = place.parents[2]
    try:
        state = read_storage(storage)
    except (UserError, OSError):
        return None
    own = place.relative_to(storage).as_posix()
    record = next((record for record in state.trials.values() if record.folder == own), None)
    return None if record is None else _score(state, record)


def _score(state: LedgerState, record: TrialRecord) -> Score:
    config = record.config_id
    metric = metric_of(state, config, config) or MIOU
    seeds = sorted({each.seed for each in state.trials.values() if each.config_id == config})
    values = state.finals(config, seeds, metric)
    known = state.configs.get(config)
    return Score(
        key=record.key,
        config_id=config,
        seed=record.seed,
        step=record.step,
        names=labels_of(state, config),
        config={} if known is None else known.config,
        metric=metric,
        own=record.metrics.get(metric),
        seeds=paired_difference(values, dict.fromkeys(values, 0.0)),  # the interval of the mean itself
    )
