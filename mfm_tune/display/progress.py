"""How far a launch is, in numbers: what every display shows.

Progress between two reports is read from the file that each running trial keeps in its folder, so that a slow trial
does not look dead: `progress` holds two little-endian 64-bit integers, the steps executed ever and the current step,
and then, while something else than steps is waited for, a few words on that.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from mfm_tune.criteria import digits_of
from mfm_tune.digits import number
from mfm_tune.ledger.records import Trial, TrialRecord, finals
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.forecast import StepTable, StepTimes, duration, wall_time
from mfm_tune.planning.plan import Plan
from mfm_tune.program import Outcome
from mfm_tune.space import Cell

_COUNTERS = struct.Struct("<qq")
_WORDS = {Outcome.OOM: "OOM", Outcome.DIVERGED: "diverged", Outcome.FAILED: "failed", Outcome.STOPPED: "stopped"}


@dataclass(frozen=True)
class RunningTrial:
    """A trial in progress.

    Args:
        elapsed_s: Since this attempt began.
        steps_a_second: Since its steps were first looked at; None before the second look.
        value: The study's metric in the last report; None before the first.
        doing: What it does, or waits for, instead of steps, such as `pre-training 120/800`; else empty.
    """

    name: str
    step: int
    planned_steps: int
    elapsed_s: float = 0.0
    steps_a_second: float | None = None
    value: float | None = None
    doing: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A launch at one moment.

    Args:
        left: Seconds, None while nothing like it was timed.
        part: What it is left of, where more trials follow that nobody knows yet.
        opening: What happens before the first trial begins, in words; empty from then on.
    """

    ended: int
    trials: int
    fraction: float
    left: float | None
    running: tuple[RunningTrial, ...]
    mirror: str
    part: str = ""
    opening: str = ""

    @property
    def time_left(self) -> str:
        """The time left in words."""
        of = f" of {self.part}" if self.part else ""
        return "time left unknown" if self.left is None else f"about {duration(self.left)} left{of}"


class Progress:
    """The numbers behind all displays. The recorder updates them in one thread, displays take snapshots in another.

    Args:
        plan: What this launch does.
        state: The ledger, kept up to date by the recorder.
        storage: Where trials keep their counters.
        slots: How many trials run at once.
        mirror: Gives the state of the tracking mirror, or None when it is up to date; None without a mirror.
        part: What the time left is of, where the plan is not all that will run: `the first stage`.
        elsewhere: Step times of another machine, for what this one has none of.
        opening: What happens before the first trial begins, such as `starting Ray`.
    """

    def __init__(
        self,
        plan: Plan,
        state: LedgerState,
        storage: Storage,
        slots: int,
        *,
        mirror: Callable[[], str | None] | None = None,
        part: str = "",
        elsewhere: StepTable | None = None,
        opening: str = "",
    ) -> None:
        self.plan = plan
        self._state = state
        self._storage = storage
        self._slots = slots
        self._mirror = mirror
        self._part = part
        self._elsewhere = elsewhere
        self._opening = opening
        self._speeds = Speeds()
        self._lock = threading.Lock()
        self._launch: dict[str, tuple[Trial, TrialRecord | None]] = {trial.key: (trial, None) for trial in plan.to_do}
        self._seeds = Counter(planned.trial.config_id for planned in plan.trials)
        self._records: dict[str, dict[int, TrialRecord]] = {}
        for planned in plan.trials:
            if planned.record is not None:
                self._records.setdefault(planned.trial.config_id, {})[planned.trial.seed] = planned.record
        self._times: StepTimes | None = None  # computed when asked for: results come faster than pictures

    def update(self, trial: Trial, record: TrialRecord) -> None:
        """Take in that a trial began, reported or ended."""
        with self._lock:
            self._times = None
            self._launch[trial.key] = trial, record
            self._records.setdefault(trial.config_id, {})[trial.seed] = record

    def snapshot(self) -> Snapshot:
        """The launch now."""
        with self._lock:
            launch = list(self._launch.values())
            times = self._times = self._times or StepTimes(self._state, self._elsewhere)
        waiting = [*(trial for trial, record in launch if record is None), *self.coming()]
        running = [(trial, record) for trial, record in launch if record is not None and record.outcome is None]
        ended = [trial for trial, record in launch if record is not None and record.outcome is not None]
        shown = {trial.key: self._running(trial, record) for trial, record in running}
        steps = {key: each.step for key, each in shown.items()}
        trials = [*(trial for trial, _ in running), *waiting]
        total = sum(trial.planned_steps for trial in (*trials, *ended))
        done = sum(trial.planned_steps for trial in ended) + sum(steps.get(each.key, each.step) for each in trials)
        return Snapshot(
            ended=len(ended),
            trials=len(trials) + len(ended),
            fraction=min(1.0, done / total) if total else 1.0,
            left=self._left(trials, steps, times),
            running=tuple(shown.values()),
            mirror=self._mirror_word(),
            part=self._part,
            opening="" if running or ended else self._opening,
        )

    def coming(self) -> Sequence[Trial]:
        """Stand-ins for trials that will be made up while others run; none in a study."""
        return ()

    def name(self, trial: Trial) -> str:
        """How people call a trial: `dim 128, seed 0`."""
        return f"{self.plan.name_of(trial.config_id)}, seed {trial.seed}"

    def cell_text(self, cell: Cell, metric: str) -> str:
        """A cell so far: mean ± std of its finished seeds, how many these are, and other outcomes."""
        with self._lock:
            records = dict(self._records.get(cell.config_id, {}))
        return cell_text(records, metric, self._seeds[cell.config_id])

    def is_finished(self, cell: Cell) -> bool:
        """Whether all seeds of a cell have ended."""
        with self._lock:
            records = list(self._records.get(cell.config_id, {}).values())
        ended = [record for record in records if record.outcome is not None]
        return len(ended) == self._seeds[cell.config_id]

    def _running(self, trial: Trial, record: TrialRecord) -> RunningTrial:
        """A running trial now: its steps are those of its own counter, else what the ledger has."""
        counted = read_counters(self._storage.trial(trial.folder) / "progress")
        executed, step, doing = counted or (record.executed_steps, record.step, "")
        began = record.attempt_started
        return RunningTrial(
            name=self.name(trial),
            step=min(max(step, 0), trial.planned_steps),
            planned_steps=trial.planned_steps,
            elapsed_s=0.0 if began is None else max(0.0, time.time() - began / 1000),
            steps_a_second=self._speeds.of((trial.key, record.attempts), executed),
            value=record.metrics.get(self.plan.study.metric),
            doing=doing,
        )

    def _left(self, trials: list[Trial], steps: Mapping[str, int], times: StepTimes) -> float | None:
        seconds = [times.seconds(trial) for trial in trials]
        known = [each for each in seconds if each is not None]
        if not known:
            return None if trials else 0.0
        typical = fmean(known)  # for cost classes that have not been timed yet
        durations = [
            (typical if each is None else each) * max(0, trial.planned_steps - steps.get(trial.key, trial.step))
            for trial, each in zip(trials, seconds, strict=True)
        ]
        return wall_time(durations, max(self._slots, len(steps)))

    def _mirror_word(self) -> str:
        if self._mirror is None:
            return ""
        try:
            return self._mirror() or ""
        except Exception:  # a mirror that is in trouble must not disturb the display
            return "unknown"


class Speeds:
    """Steps a second of trials, from how their counters rise while they are looked at."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, int], int] = {}
        self._since: dict[tuple[str, int], tuple[float, int]] = {}

    def of(self, attempt: tuple[str, int], executed: int) -> float | None:
        """The mean since this attempt's counter was first seen to have risen, without the time to its first step; None
        until then.

        Args:
            attempt: Trial key and number of the attempt.
            executed: Steps executed ever.
        """
        if executed <= self._before.setdefault(attempt, executed):
            return None
        now = time.monotonic()
        since, first = self._since.setdefault(attempt, (now, executed))
        return (executed - first) / (now - since) if executed > first else None


def read_counters(path: Path) -> tuple[int, int, str] | None:
    """(steps executed ever, current step, what is done instead of steps) of a trial; None where it keeps none yet."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) < _COUNTERS.size:
        return None
    executed, step = _COUNTERS.unpack_from(content)
    return executed, step, content[_COUNTERS.size :].decode(errors="replace")


def cell_text(records: Mapping[int, TrialRecord], metric: str, seeds: int) -> str:
    """A cell so far, such as `55.1 ± 0.4`, `55.1 (1/3)`, `OOM`, `no number`, or `·` where nothing has begun."""
    values = list(finals(records, metric).values())
    others = [_WORDS[record.outcome] for record in records.values() if record.outcome in _WORDS]
    if not values:
        if others:
            return ", ".join(dict.fromkeys(others))
        if any(record.outcome is Outcome.FINISHED for record in records.values()):
            return "no number"
        return "…" if records else "·"
    digits = digits_of(metric)
    text = number(fmean(values), digits) + (f" ± {number(stdev(values), digits)}" if len(values) > 1 else "")
    if len(values) == seeds:
        return text
    notes = [f"{len(values)}/{seeds}", *(f"{others.count(word)} {word}" for word in dict.fromkeys(others))]
    return f"{text} ({', '.join(notes)})"
