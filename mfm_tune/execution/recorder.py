"""What an engine tells: every start, report and end goes to the ledger first, then to the display."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mfm_tune.identity import canonical
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.plan import Trial
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
        """A trial begins or goes on.

        Args:
            attempt: 1 for the trial's first start in this launch; the ledger counts on from earlier launches.
        """
        trial = self._trials[key]
        self._write_config(trial)
        self._since[key] = time.monotonic()
        self._write(
            event="start",
            key=key,
            config_id=trial.config_id,
            seed=trial.seed,
            fingerprint=trial.fingerprint,
            launch=self._launch,
            folder=trial.folder,
            attempt=trial.attempts + attempt,
            benchmark=trial.benchmark,
            study=self._study,
            profile=self._profile,
        )
        self._show(trial)

    def reported(self, key: str, report: Report) -> None:
        """A trial finished a block of steps. A report of a step that is known already changes no result."""
        trial = self._trials[key]
        self._write(
            event="report",
            key=key,
            step=report["step"],
            planned_steps=report.get("planned_steps", trial.planned_steps),
            executed_steps=report.get("executed_steps", report["step"]),
            metrics=report.get("metrics", {}),
            confusion=report.get("confusion", {}),
            pictures=report.get("pictures", {}),
            machine=report.get("machine", {}),
            **{name: report[name] for name in ("outcome", "notice") if report.get(name)},
        )
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
        event: dict[str, object] = {
            "event": "end",
            "key": key,
            "outcome": outcome.value,
            "step": self.state.trials[key].step,
            "error": error,
            "wall_s": 0.0 if since is None else round(time.monotonic() - since, 3),
        }
        if outcome is Outcome.STOPPED:
            event["rung"] = rung
        self._write(**event)
        if outcome is Outcome.FAILED:
            self._keep_text(trial, error)
        if outcome is Outcome.FINISHED:
            self._remove_checkpoints(trial)
        self._show(trial)

    def _write_config(self, trial: Trial) -> None:
        if trial.config_id in self.state.configs:
            return
        self._write(
            event="config",
            config_id=trial.config_id,
            config=canonical(trial.config),
            benchmark=trial.benchmark,
            classes=list(trial.classes),
            planned_steps=trial.planned_steps,
            cost_class=trial.cost_class,
        )

    def _write(self, **event: object) -> None:
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
