"""How long trials will take, from what the ledger knows; where it knows nothing, the answer is None."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from mfm_tune.ledger import LedgerState, TrialRecord
from mfm_tune.plan import Trial


class StepTimes:
    """Seconds that a step takes, evaluations and checkpoints included, by config and by cost class.

    A config's own trials are asked first, then those of its cost class on the same benchmark.
    """

    def __init__(self, state: LedgerState) -> None:
        self._by_config: dict[str, list[float]] = defaultdict(list)
        self._by_class: dict[tuple[str, str], list[float]] = defaultdict(list)
        for record in list(state.trials.values()):  # at once: another thread may be adding to them
            seconds = seconds_a_step(record)
            config = state.configs.get(record.config_id)
            if seconds is not None and config is not None:
                self._by_config[record.config_id].append(seconds)
                self._by_class[config.benchmark, config.cost_class].append(seconds)

    def seconds(self, trial: Trial) -> float | None:
        """Seconds a step of a trial, or None where nothing like it has run."""
        known = self._by_config.get(trial.config_id) or self._by_class.get((trial.benchmark, trial.cost_class))
        return median(known) if known else None


def seconds_a_step(record: TrialRecord) -> float | None:
    """Seconds a step that a trial took, or None where it has not executed any."""
    if record.executed_steps <= 0 or record.seconds <= 0:
        return None
    return record.seconds / record.executed_steps


def expected_seconds(trials: Iterable[Trial], times: StepTimes, slots: int) -> float | None:
    """Wall-clock seconds of trials that start in order, each on the slot that is free first.

    None where the time of one of them is unknown.
    """
    durations: list[float] = []
    for trial in trials:
        seconds = times.seconds(trial)
        if seconds is None:
            return None
        durations.append(seconds * max(0, trial.planned_steps - trial.step))
    return makespan(durations, slots)


def makespan(durations: Iterable[float], slots: int) -> float:
    """When the last of some jobs ends that start in order, each on the slot that is free first."""
    free = [0.0] * max(1, slots)
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `14 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
