"""What is to be trained: a study becomes distinct configs, these become trials, and the ledger is subtracted.

Trials are ordered seed-major, so that a whole table of one seed stands early, and within a seed the references come first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Any

from mfm_tune.errors import ChangedCodeError, OptionError, SearchSpaceError
from mfm_tune.fingerprint import Fingerprint, TrainingCode, changed_files
from mfm_tune.identity import config_id
from mfm_tune.ledger import LedgerState, TrialRecord
from mfm_tune.program import Outcome
from mfm_tune.space import Cell, Study, Table


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A config with a seed, ready to be run by an engine.

    Args:
        key: `<config_id>-s<seed>-<fingerprint[:8]>`.
        folder: Relative to the storage folder.
        planned_steps: Training steps of the whole trial.
        cost_class: Trials with equal text cost about the same time a step.
        benchmark: Name of the data and scale.
        classes: Names of the scored classes.
        step: Steps that the ledger knows to be done, so that the trial goes on from there.
        attempts: How often it was started before.
    """

    key: str
    config: Any
    config_id: str
    seed: int
    fingerprint: str
    folder: str
    planned_steps: int
    cost_class: str
    benchmark: str
    classes: tuple[str, ...] = ()
    step: int = 0
    attempts: int = 0


def trial_key(config: str, seed: int, fingerprint: str) -> str:
    """The key of a trial: config id, seed, and the first 8 digits of the code's fingerprint."""
    return f"{config}-s{seed}-{fingerprint[:8]}"


def trial_folder(config: str, seed: int, fingerprint: str) -> str:
    """Where a trial keeps its files, relative to the storage folder."""
    return f"trials/{config}/s{seed}-{fingerprint[:8]}"


class Status(Enum):
    """Where a trial stands before a launch."""

    NEW = "new"
    OPEN = "begun"
    FINISHED = "finished"
    STOPPED = "stopped early"
    OOM = "out of memory"
    DIVERGED = "diverged"
    FAILED = "failed"


STATUS_OF = {
    None: Status.OPEN,
    Outcome.FINISHED: Status.FINISHED,
    Outcome.STOPPED: Status.STOPPED,
    Outcome.OOM: Status.OOM,
    Outcome.DIVERGED: Status.DIVERGED,
    Outcome.FAILED: Status.FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of a study's trials a launch wants.

    Args:
        only: Names of axes or tables; empty takes all.
        retry: Outcomes that are tried again although they are results (OOM, DIVERGED).
        asha: A scheduler decides how far trials go, so those that it stopped stay stopped.
    """

    only: tuple[str, ...] = ()
    retry: frozenset[Outcome] = frozenset()
    asha: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """A trial, what the ledger knows of it, and whether this launch runs it."""

    trial: Trial
    record: TrialRecord | None
    status: Status
    to_do: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a launch will do. `fingerprints` holds the code of every planned trial, by digest."""

    study: Study
    tables: tuple[Table, ...]
    cells: tuple[Cell, ...]
    trials: tuple[PlannedTrial, ...]
    fingerprints: Mapping[str, Fingerprint]

    @property
    def to_do(self) -> tuple[Trial, ...]:
        """The trials to run, in order."""
        return tuple(planned.trial for planned in self.trials if planned.to_do)

    @property
    def configs(self) -> int:
        """How many distinct configs there are."""
        return len({planned.trial.config_id for planned in self.trials})
