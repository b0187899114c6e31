"""What a plan will take, in words: wall-clock on the given places, and hours of GPUs or CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.forecast import StepTimes, duration, forecast, resource_hours, unknown_classes
from mfm_tune.planning.plan import Trial


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where trials will run.

    Args:
        slots: Trials side by side.
        cpus, gpus: What one of them takes.
        guessed: The cluster decides, and nobody said how many places it has.
    """

    slots: int
    cpus: int
    gpus: float
    guessed: bool = False


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Two phrases: the time from start to end, and what is used up."""

    time: str
    cost: str


def outlook(trials: Sequence[Trial], state: LedgerState, places: Places) -> Outlook:
    """What trials will take, as far as the ledger has times of them or of their cost class."""
    if not trials:
        return Outlook(time="nothing to do", cost="nothing")
    expected = forecast(trials, StepTimes(state), places.slots)
    hours = resource_hours(expected.busy_s, cpus=places.cpus, gpus=places.gpus)
    if expected.wall_s is None:
        of = unknown_classes(expected.unknown)
        return Outlook(
            time=f"unknown: the ledger has no step time of {of}; --probe measures it",
            cost=f"at least {hours}, the others unknown" if expected.busy_s else "unknown",
        )
    return Outlook(
        time=f"about {duration(expected.wall_s)}, {side_by_side(places)}",
        cost=f"about {hours} ({places.gpus:g} GPUs a trial)" if places.gpus else f"about {hours}",
    )


def side_by_side(places: Places) -> str:
    """How many trials run at once, in words."""
    if places.guessed:
        return f"if as many trials run side by side on the cluster as would here ({places.slots}); --slots says better"
    return "one trial after the other" if places.slots == 1 else f"{places.slots} trials side by side"
