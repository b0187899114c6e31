"""How long trials will take and what they use up: from the step times that the ledger has, else from those that come
with the program, which were measured on another machine."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome, Program, ShipsStepTimes


class StepTable(NamedTuple):
    """Seconds a step by cost class, as they were measured elsewhere.

    Args:
        machine: Where, such as `one core of an AMD EPYC`.
        gpu: Whether trials ran on a GPU there.
    """

    machine: str
    gpu: bool
    seconds: Mapping[str, float]


def step_table(program: Program, *, gpu: bool) -> StepTable | None:
    """The step times that a program brings of GPUs or of CPUs, as measured; None where it brings none."""
    return next(iter(_step_tables(program, gpu=gpu)), None)


def _step_tables(program: Program, *, gpu: bool) -> list[StepTable]:
    """What was measured, then what is estimated."""
    tables = program.step_times() if isinstance(program, ShipsStepTimes) else ()
    return [table for table in map(StepTable._make, tables) if table.gpu is gpu]


class StepTimes:
    """Seconds that a step takes, evaluations and checkpoints included, by config and by cost class.

    A config's own trials are asked first, then those of its cost class on the same benchmark, then what `--probe`
    measured of that class, then what was measured elsewhere. The last is scaled by how much slower this machine was
    with those classes of the same benchmark that are known of both.

    Args:
        state: The ledger.
        elsewhere: Times of another machine.
        gpu: Whether steps on a GPU count, or those on a CPU; None: of the kind that `elsewhere` has, or both.
    """

    def __init__(self, state: LedgerState, elsewhere: StepTable | None = None, *, gpu: bool | None = None) -> None:
        self._elsewhere: Mapping[str, float] = {} if elsewhere is None else elsewhere.seconds
        kind = elsewhere.gpu if gpu is None and elsewhere is not None else gpu
        self._probed = {
            name: probe.seconds_a_step for name, probe in state.probes.items() if _is_of(probe.machine, kind)
        }
        self._by_config: dict[str, list[float]] = defaultdict(list)
        self._by_class: dict[tuple[str, str], list[float]] = defaultdict(list)
        for record in list(state.trials.values()):  # at once: another thread may be adding to them
            seconds = seconds_a_step(record)
            config = state.configs.get(record.config_id)
            if seconds is not None and config is not None and _is_of(record.machine, kind):
                self._by_config[record.config_id].append(seconds)
                self._by_class[config.benchmark, config.cost_class].append(seconds)

    def seconds(self, trial: Trial) -> float | None:
        """Seconds a step of a trial, or None where nothing like it has run."""
        known = self.known(trial)
        if known is not None or trial.cost_class not in self._elsewhere:
            return known
        return self._elsewhere[trial.cost_class] * self._slower(trial.benchmark)

    def known(self, trial: Trial) -> float | None:
        """Seconds a step as far as the ledger has them."""
        ran = self.ran(trial)
        return self._probed.get((trial.benchmark, trial.cost_class)) if ran is None else ran

    def ran(self, trial: Trial) -> float | None:
        """Seconds a step of trials that ran here, side by side as they did."""
        ran = self._by_config.get(trial.config_id) or self._by_class.get((trial.benchmark, trial.cost_class))
        return median(ran) if ran else None

    def _slower(self, benchmark: str) -> float:
        here = self._probed | {alike: median(seconds) for alike, seconds in self._by_class.items()}
        ratios = [
            seconds / self._elsewhere[name]
            for (where, name), seconds in here.items()
            if where == benchmark and name in self._elsewhere
        ]
        return median(ratios) if ratios else 1.0


def _is_of(machine: Mapping[str, object], gpu: bool | None) -> bool:
    """Whether what a machine measured was on a GPU, or not, as asked for; where that is not recorded, either."""
    device = machine.get("device")
    return gpu is None or device is None or (device != "cpu") is gpu


def seconds_a_step(record: TrialRecord) -> float | None:
    """Seconds a step that a trial took; None where it has not executed any, and of failed ones, which may have spent
    their time on starting."""
    if record.executed_steps <= 0 or record.seconds <= 0 or record.outcome in (Outcome.FAILED, Outcome.OOM):
        return None
    return record.seconds / record.executed_steps


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What some trials will cost.

    Args:
        busy_s: Seconds of the trials whose time is known, one after the other.
        wall_s: Seconds from start to end on the given slots; None where the time of a trial is unknown.
        unknown: Cost classes whose time is unknown, and how many trials each has.
    """

    busy_s: float
    wall_s: float | None
    unknown: Mapping[str, int] = field(default_factory=dict)


def forecast(trials: Iterable[Trial], times: StepTimes, slots: int) -> Forecast:
    """What trials cost that start in order, each on the slot that is free first."""
    durations: list[float] = []
    unknown: Counter[str] = Counter()
    for trial in trials:
        seconds = times.seconds(trial)
        if seconds is None:
            unknown[trial.cost_class] += 1
        else:
            durations.append(seconds * max(0, trial.planned_steps - trial.step))
    return Forecast(
        busy_s=sum(durations), wall_s=None if unknown else wall_time(durations, slots), unknown=dict(unknown)
    )


def wall_time(durations: Iterable[float], slots: int) -> float:
    """When the last of some jobs ends that start in order, each on the slot that is free first."""
    free = [0.0] * max(1, slots)
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Where trials run.

    Args:
        count: Trials side by side.
        cpus, gpus: What one of them takes.
        guessed: The cluster decides, and its number of slots is not known.
    """

    count: int
    cpus: int
    gpus: float
    guessed: bool = False

    def __str__(self) -> str:
        if self.guessed:
            return (
                f"if as many trials run side by side on the cluster as would here ({self.count}); --slots says better"
            )
        return "one trial after the other" if self.count == 1 else f"{self.count} trials side by side"


def estimate_cost(
    trials: Sequence[Trial], state: LedgerState, slots: Slots, program: Program | None = None
) -> tuple[str, str]:
    """The time from start to end, and what is used up, as far as the ledger has times of trials or their cost class,
    or the program brings them."""
    if not trials:
        return "nothing to do", "nothing"
    table = None if program is None else step_table(program, gpu=slots.gpus > 0)
    times = StepTimes(state, table, gpu=slots.gpus > 0)
    expected = forecast(trials, times, slots.count)
    hours = resource_hours(expected.busy_s, cpus=slots.cpus, gpus=slots.gpus)
    measured = source(trials, times, table) if expected.busy_s else ""
    alone = measured_alone(trials, times, slots)
    each = "1 GPU" if slots.gpus == 1 else f"{slots.gpus:g} GPUs"
    least, as_if = ("at least", ALONE) if alone else ("about", "")
    if expected.wall_s is None:
        unknown = f"unknown: there is no step time of {unknown_classes(expected.unknown)}; --probe measures it"
        some = f"at least {hours}{measured}{as_if}, the others unknown" if expected.busy_s else "unknown"
        return unknown, some if slots.gpus or program is None else _hours_of_gpus(trials, program) or some
    return (
        f"{least} {duration(expected.wall_s)}, {slots}{as_if}{measured}",
        f"{least} {hours} ({each} a trial)" if slots.gpus else f"about {hours}",
    )


ALONE = ", as if each trial had its GPU alone"


def measured_alone(trials: Iterable[Trial], times: StepTimes, slots: Slots) -> bool:
    """Whether trials share a GPU of which times are known that a trial has alone: the least that they take."""
    return 0 < slots.gpus < 1 and any(times.ran(trial) is None for trial in trials)


def source(trials: Iterable[Trial], times: StepTimes, table: StepTable | None) -> str:
    """Where step times come from that the ledger lacks; nothing where it lacks none."""
    if table is None or all(times.known(trial) is not None for trial in trials):
        return ""
    return f" (measured on {table.machine}; --probe measures yours)"


def _hours_of_gpus(trials: Sequence[Trial], program: Program) -> str:
    """What trials take on a GPU where there is none, as far as that is known."""
    table = step_table(program, gpu=True)
    expected = forecast(trials, StepTimes(LedgerState(), table), 1)
    if table is None or not expected.busy_s:
        return ""
    least, others = ("at least", ", the others unknown") if expected.unknown else ("about", "")
    return f"{least} {resource_hours(expected.busy_s, cpus=0, gpus=1)} on {table.machine}{others}"


def hours_a_trial(trials: Sequence[Trial], state: LedgerState, program: Program) -> dict[str, str]:
    """GPU-hours of one trial by config id, of those whose step time on a GPU is known, or estimated, with how."""
    found: dict[str, str] = {}
    for index, table in enumerate(_step_tables(program, gpu=True)):
        times = StepTimes(state, table)
        for trial in trials:
            seconds = times.seconds(trial) if trial.cost_class in table.seconds else None
            if seconds is not None and trial.config_id not in found:
                hours = resource_hours(seconds * trial.planned_steps, cpus=0, gpus=1)
                found[trial.config_id] = f"about {hours} {table.machine}" if index else hours
    return found


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


def unknown_classes(unknown: Mapping[str, int]) -> str:
    """How many trials have no known time, and of which cost classes they are."""
    first, *others = unknown
    of = f"{len(unknown)} cost classes, such as {first}" if others else f"cost class {first}"
    count = sum(unknown.values())
    return f"{count} {'trial' if count == 1 else 'trials'} of {of}"


def resource_hours(seconds: float, *, cpus: int, gpus: float) -> str:
    """GPU-hours of trials that are busy for so long, or CPU-hours where they take no GPU: `3.2 GPU-hours`."""
    hours = seconds / 3600 * (gpus or cpus)
    number = f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}" if hours < 10 else f"{hours:.1f}"
    return f"{number} {'GPU' if gpus else 'CPU'}-hours"
