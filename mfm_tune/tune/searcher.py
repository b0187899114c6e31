"""Trials that are made up while others run, given to Ray Tune one by one. Imports ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ray.tune.search import Searcher

from mfm_tune.errors import UserError
from mfm_tune.ledger.records import Trial


class IteratorSearcher(Searcher):
    """Ask an iterator for a trial when a place is free, and for those that wait, for which Tune keeps a worker.

    Tune calls the methods by keyword, so the names of their parameters are part of its interface.

    Args:
        trials: Gives the next trial; a StopIteration ends the round once all have ended.
        arguments_of: What a worker opens a trial with.
        most: How many trials Tune is given at once now: those that run, and those that wait.
        refuse: Takes a UserError of the iterator (the storage is full, say), after which nothing is asked any more.
    """

    def __init__(
        self,
        trials: Iterator[Trial],
        *,
        arguments_of: Callable[[Trial], dict[str, Any]],
        most: Callable[[], int],
        refuse: Callable[[UserError], None],
    ) -> None:
        super().__init__()
        self._trials = trials
        self._arguments_of = arguments_of
        self._most = most
        self._refuse = refuse
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial, None while all places are taken, `FINISHED` when there is none left."""
        if len(self._live) >= self._most():
            return None
        try:
            trial = next(self._trials, None)
        except UserError as error:
            self._refuse(error)
            return Searcher.FINISHED
        if trial is None:
            return Searcher.FINISHED
        self._live.add(trial_id)
        return {"trial": trial.key, "arguments": self._arguments_of(trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial ended, however."""
        self._live.discard(trial_id)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles a searcher so as to restore it, which we never do; an iterator cannot be pickled."""
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the ledger keeps what was proposed, and Tune's state is never restored."""
