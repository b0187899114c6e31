"""What a user sees while trials run: a table that fills up on a terminal, plain lines elsewhere.

Progress within a block of steps is read from the counters that each running trial keeps in its folder (`progress`: two
little-endian 64-bit integers, the steps executed ever and the current step), so that a slow trial does not look dead.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mfm_tune.errors import last_line
from mfm_tune.ledger.records import TrialRecord, finals
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.forecast import StepTimes, duration, makespan
from mfm_tune.planning.plan import Plan, Trial
from mfm_tune.program import Outcome
from mfm_tune.space import Cell, Table, paper_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

HEARTBEAT_S = 15.0
_COUNTERS = struct.Struct("<qq")
_WORDS = {Outcome.OOM: "OOM", Outcome.DIVERGED: "diverged", Outcome.FAILED: "failed", Outcome.STOPPED: "stopped"}


@dataclass(frozen=True)
class RunningTrial:
    """A trial in progress."""

    name: str
    step: int
    planned_steps: int


@dataclass(frozen=True)
class Snapshot:
    """Where a launch stands at one moment; `left` is in seconds, None while nothing like it was timed."""

    ended: int
    trials: int
    fraction: float
    left: float | None
    running: tuple[RunningTrial, ...]
    mirror: str

    @property
    def time_left(self) -> str:
        """The time left in words."""
        return "time left unknown" if self.left is None else f"about {duration(self.left)} left"


class Progress:
    """The numbers behind both displays. Engines tell it from one thread, displays ask from another.

    Args:
        plan: What this launch does.
        state: The ledger, kept up to date by the recorder.
        storage: Where trials keep their counters.
        slots: How many trials run at once.
        mirror: Gives a word about the tracking mirror, or None when there is nothing to say; None without a mirror.
    """

    def __init__(
        self,
        plan: Plan,
        state: LedgerState,
        storage: Storage,
        slots: int,
        mirror: Callable[[], str | None] | None = None,
    ) -> None:
        self.plan = plan
        self._state = state
        self._storage = storage
        self._slots = slots
        self._mirror = mirror
        self._lock = threading.Lock()
        self._waiting = {trial.key: trial for trial in plan.to_do}
        self._running: dict[str, Trial] = {}
        self._ended: dict[str, Trial] = {}
        self._records: dict[str, dict[int, TrialRecord]] = {}
        for planned in plan.trials:
            if planned.record is not None:
                self._records.setdefault(planned.trial.config_id, {})[planned.trial.seed] = planned.record
        self._times: StepTimes | None = None  # computed when asked for: results come faster than pictures

    def started(self, trial: Trial, record: TrialRecord) -> None:
        """A trial began or goes on."""
        with self._lock:
            self._waiting.pop(trial.key, None)
            self._running[trial.key] = trial
            self._records.setdefault(trial.config_id, {})[trial.seed] = record

    def reported(self, trial: Trial, record: TrialRecord) -> None:
        """A trial finished a block of steps."""
        with self._lock:
            self._times = None
            self._records.setdefault(trial.config_id, {})[trial.seed] = record

    def ended(self, trial: Trial, record: TrialRecord) -> None:
        """A trial has an outcome."""
        with self._lock:
            self._times = None
            self._waiting.pop(trial.key, None)
            self._running.pop(trial.key, None)
            self._ended[trial.key] = trial
            self._records.setdefault(trial.config_id, {})[trial.seed] = record

    def snapshot(self) -> Snapshot:
        """Where the launch stands now."""
        with self._lock:
            waiting, running = [*self._waiting.values(), *self.coming()], list(self._running.values())
            ended = list(self._ended.values())
            times = self._times = self._times or StepTimes(self._state)
        steps = {trial.key: self._step(trial) for trial in running}
        total = sum(trial.planned_steps for trial in (*waiting, *running, *ended))
        done = sum(trial.planned_steps for trial in ended) + sum(steps.values()) + sum(each.step for each in waiting)
        return Snapshot(
            ended=len(ended),
            trials=len(waiting) + len(running) + len(ended),
            fraction=min(1.0, done / total) if total else 1.0,
            left=self._left([*running, *waiting], steps, times),
            running=tuple(RunningTrial(self.name(each), steps[each.key], each.planned_steps) for each in running),
            mirror=self._mirror_word(),
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
        return cell_text(records, metric, len(self.plan.study.seeds))

    def _step(self, trial: Trial) -> int:
        """The current step of a running trial: its own counter, else what the ledger has."""
        record = self._state.trials.get(trial.key)
        known = record.step if record else trial.step
        counted = read_counters(self._storage.trial(trial.folder) / "progress")
        step = known if counted is None else counted[1]
        return min(max(step, 0), trial.planned_steps)

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
        return makespan(durations, max(self._slots, len(steps)))

    def _mirror_word(self) -> str:
        if self._mirror is None:
            return ""
        try:
            return self._mirror() or ""
        except Exception:  # a mirror that is in trouble must not disturb the display
            return "unknown"


def read_counters(path: Path) -> tuple[int, int] | None:
    """(steps executed ever, current step) of a trial, or None where it keeps none yet."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return _COUNTERS.unpack(content) if len(content) == _COUNTERS.size else None


def cell_text(records: Mapping[int, TrialRecord], metric: str, seeds: int) -> str:
    """A cell so far, such as `55.1 ± 0.4`, `55.1 (1/3)`, `OOM`, or `·` where nothing has begun."""
    values = list(finals(records, metric).values())
    others = [_WORDS[record.outcome] for record in records.values() if record.outcome in _WORDS]
    if not values:
        if others:
            return ", ".join(dict.fromkeys(others))
        return "…" if any(record.outcome is None for record in records.values()) else "·"
    text = f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
    if len(values) == seeds:
        return text
    notes = [f"{len(values)}/{seeds}", *(f"{others.count(word)} {word}" for word in dict.fromkeys(others))]
    return f"{text} ({', '.join(notes)})"


def end_text(progress: Progress, trial: Trial, record: TrialRecord, storage: Storage) -> str:
    """What is said when a trial ends."""
    text = f"{progress.name(trial)}: {(record.outcome or Outcome.FAILED).value}"
    metric = progress.plan.study.metric
    value = record.final(metric)
    if value is not None:
        text += f", {metric} {value:.1f}"
    if record.outcome in (Outcome.STOPPED, Outcome.DIVERGED):
        text += f" at step {record.step} of {record.planned_steps}"
    if record.outcome is Outcome.FAILED:
        text += f": {last_line(record.error)} (all of it in {storage.error_file(trial.folder)})"
    return f"{text}, after {duration(record.wall_s)}"


def _finished(record: TrialRecord) -> bool:
    return record.outcome is Outcome.FINISHED


class PlainLines:
    """For logs and pipes: one line for each trial that ends, and a sign of life when nothing ended for a while."""

    def __init__(self, progress: Progress, storage: Storage, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._progress = progress
        self._storage = storage
        self._heartbeat_s = heartbeat_s
        self._spoke = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=1)

    def started(self, trial: Trial, record: TrialRecord) -> None:
        """A trial began; nothing is printed."""
        self._progress.started(trial, record)

    def reported(self, trial: Trial, record: TrialRecord) -> None:
        """A trial finished a block; nothing is printed."""
        self._progress.reported(trial, record)

    def ended(self, trial: Trial, record: TrialRecord) -> None:
        """A trial has an outcome: one line."""
        self._progress.ended(trial, record)
        now = self._progress.snapshot()
        text = end_text(self._progress, trial, record, self._storage)
        self._say(f"{now.ended}/{now.trials} {text}; {now.time_left}")

    def _beat(self) -> None:
        while not self._over.wait(min(1.0, self._heartbeat_s)):
            if time.monotonic() - self._spoke >= self._heartbeat_s:
                with suppress(OSError, ValueError):  # the pipe is gone; the trials go on
                    self._say(sign_of_life(self._progress.snapshot()))

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def sign_of_life(now: Snapshot) -> str:
    """One line about a launch in progress."""
    running = ", ".join(f"{each.name} {each.step}/{each.planned_steps}" for each in now.running) or "nothing yet"
    mirror = f"; MLflow {now.mirror}" if now.mirror else ""
    return f"{now.ended}/{now.trials} trials, {now.fraction:.0%}; running: {running}; {now.time_left}{mirror}"


class LiveTable:
    """For terminals: progress, what runs, and all tables with mean ± std so far, redrawn twice a second."""

    def __init__(self, progress: Progress, storage: Storage, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress = progress
        self._storage = storage
        self._console = console or Console()
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=2,
            transient=True,
            vertical_overflow="ellipsis",
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()  # the tables of the report, or of the interruption, follow

    def started(self, trial: Trial, record: TrialRecord) -> None:
        """A trial began."""
        self._progress.started(trial, record)

    def reported(self, trial: Trial, record: TrialRecord) -> None:
        """A trial finished a block."""
        self._progress.reported(trial, record)

    def ended(self, trial: Trial, record: TrialRecord) -> None:
        """A trial has an outcome; one that failed is named above the table."""
        self._progress.ended(trial, record)
        if record.outcome is Outcome.FAILED:
            from rich.text import Text

            self._console.print(Text(end_text(self._progress, trial, record, self._storage), style="red"))

    def _picture(self) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group

        now = self._progress.snapshot()
        tables = Columns(self.tables(), padding=(1, 2))
        return Group(self._bar(now), *self._running(now), tables)

    def tables(self) -> list[RenderableType]:
        """What has been reached so far."""
        return [self._table(table) for table in self._progress.plan.tables]

    def _bar(self, now: Snapshot) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table as Grid
        from rich.text import Text

        mirror = f"  MLflow {now.mirror}" if now.mirror else ""
        grid = Grid.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=1.0, completed=now.fraction, width=30),
            Text(f"{now.fraction:4.0%}  {now.ended}/{now.trials} trials  {now.time_left}{mirror}"),
        )
        return grid

    def _running(self, now: Snapshot) -> list[RenderableType]:
        from rich.text import Text

        return [Text(f"  {each.name}  step {each.step}/{each.planned_steps}", style="dim") for each in now.running[:8]]

    def _table(self, table: Table) -> RenderableType:
        from rich import box
        from rich.table import Table as Grid
        from rich.text import Text

        metric = table.metric or self._progress.plan.study.metric
        grid = Grid(title=Text(table.title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        grid.add_column(Text(table.axis.name))
        grid.add_column(Text(metric), justify="right", min_width=10)
        grid.add_column("paper", justify="right")
        for cell in self._progress.plan.cells:
            if cell.table == table.name:
                so_far = Text(self._progress.cell_text(cell, metric))
                grid.add_row(Text(cell.level), so_far, Text(paper_text(cell.paper)))
        return grid
