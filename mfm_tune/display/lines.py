"""What is printed in logs and pipes while trials run: plain lines."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Self

from mfm_tune.console import print_timed
from mfm_tune.criteria import digits_of, metric_name
from mfm_tune.digits import number
from mfm_tune.display.progress import Progress, Snapshot
from mfm_tune.errors import last_line
from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.forecast import duration
from mfm_tune.program import Outcome

HEARTBEAT_S = 15.0


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
        opening = self._progress.snapshot().opening
        if opening:
            self._say(opening)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=1)

    def update(self, trial: Trial, record: TrialRecord) -> None:
        """Print one line where a trial has ended."""
        self._progress.update(trial, record)
        if record.outcome is not None:
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
        print_timed(text)


def sign_of_life(now: Snapshot) -> str:
    """One line about a launch in progress."""
    running = ", ".join(f"{each.name} {each.doing or f'{each.step}/{each.planned_steps}'}" for each in now.running)
    running = running or now.opening or "nothing yet"
    mirror = f"; MLflow {now.mirror}" if now.mirror else ""
    return f"{now.ended}/{now.trials} trials, {now.fraction:.0%}; running: {running}; {now.time_left}{mirror}"


def end_text(progress: Progress, trial: Trial, record: TrialRecord, storage: Storage) -> str:
    """A sentence about a trial that has ended."""
    text = f"{progress.name(trial)}: {(record.outcome or Outcome.FAILED).value}"
    metric = progress.plan.study.metric
    value = record.final(metric)
    if value is not None:
        text += f", {metric_name(metric)} {number(value, digits_of(metric))}"
    if record.outcome in (Outcome.STOPPED, Outcome.DIVERGED):
        text += f" at step {record.step} of {record.planned_steps}"
    if record.outcome is Outcome.FAILED:
        text += f": {last_line(record.error)} (all of it in {storage.error_file(trial.folder)})"
    return f"{text}, after {duration(record.wall_s)}"
