"""Every start, report and end of a trial goes to the ledger first, then to the display."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mfm_tune.ledger.events import config_event, end_event, report_event, start_event
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.storage import Storage
from mfm_tune.program import Outcome, Report


class Display(Protocol):
    """Shows trials while they run."""

    def update(self, trial: Trial, record: TrialRecord) -> None:
        """Take in that a trial began, reported or ended; while it runs, its record has no outcome."""


class Recorder:
    """Writes what trials do into the ledger, and shows it.

    A storage that is full or gone raises `StorageError` from every method: results that cannot be kept must not be
    produced. A display that fails never stops a trial.

    Args:
        ledger: Where events go.
        storage: The storage folder.
        launch: The launch's name.
        study, profile: The study that this launch runs.
        trials: All trials of the launch.
        display: Shows progress, or None.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        storage: Path,
        launch: str,
        study: str,
        profile: str,
        trials: Iterable[Trial],
        display: Display | None = None,
    ) -> None:
        self.state = ledger.state
        self._ledger = ledger
        self._storage = storage
        self._launch = launch
        self._study = study
        self._profile = profile
        self._trials: dict[str, Trial] = {trial.key: trial for trial in trials}
        self._display = display
        self._since: dict[str, float] = {}

    def add(self, trial: Trial) -> None:
        """A trial that was made up after the launch began."""
        self._trials[trial.key] = trial

    def started(self, key: str, attempt: int) -> None:
        """A trial begins or resumes.

        Args:
            attempt: 1 for the trial's first start in this launch; the ledger counts on from earlier launches.
        """
        trial = self._trials[key]
        if trial.config_id not in self.state.configs:
            self._write(config_event(trial))
        self._since[key] = time.monotonic()
        self._write(start_event(trial, launch=self._launch, attempt=attempt, study=self._study, profile=self._profile))
        self._show(trial)

    def reported(self, key: str, report: Report) -> None:
        """A trial finished an evaluation interval. A report of a step that is known already changes no result."""
        trial = self._trials[key]
        self._write(report_event(trial, report))
        if report.get("notice"):
            with suppress(OSError, ValueError):  # nobody reads it
                print(report["notice"], file=sys.stderr, flush=True)
        self._show(trial)

    def ended(self, key: str, outcome: Outcome, *, error: str = "", rung: int | None = None) -> None:
        """A trial has an outcome. The line is on the disk when this returns.

        Args:
            error: For FAILED the traceback, for OOM and DIVERGED one sentence.
            rung: For STOPPED, the scheduler's rung.
        """
        trial = self._trials[key]
        since = self._since.pop(key, None)
        wall_s = 0.0 if since is None else time.monotonic() - since
        step = self.state.trials[key].step
        self._write(end_event(trial, outcome, step=step, error=error, wall_s=wall_s, rung=rung))
        if outcome is Outcome.FAILED:
            self._keep_text(trial, error)
        if outcome is Outcome.FINISHED:
            self._remove_checkpoints(trial)
        self._show(trial)

    def _write(self, event: Event) -> None:
        self._ledger.append(event)

    def _show(self, trial: Trial) -> None:
        if self._display is not None:
            with suppress(Exception):  # a display that fails must not cost a result
                self._display.update(trial, self.state.trials[trial.key])

    def _remove_checkpoints(self, trial: Trial) -> None:
        """Only now: a trial that removed them itself would begin anew where its driver ends before it hears of it."""
        for path in (self._storage / trial.folder).glob("checkpoint.*"):
            with suppress(OSError):  # it takes space, and nothing else
                path.unlink()

    def _keep_text(self, trial: Trial, error: str) -> None:
        """Put the traceback of a failed trial into its folder, where a person looks for it. The ledger has it too."""
        try:
            path = Storage(self._storage).error_file(trial.folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(error, encoding="utf-8", errors="backslashreplace")
        except OSError:
            return  # the ledger has it
