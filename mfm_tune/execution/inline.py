"""The engine without Ray: trials one after the other in this process, for a debugger and for tests."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress

from mfm_tune.errors import StorageError, UserError, disk_full
from mfm_tune.execution.early_stopping import EarlyStopper
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.resources import take_share
from mfm_tune.execution.settings import EngineOptions, make_folders
from mfm_tune.execution.signals import Interruption
from mfm_tune.ledger.records import Trial
from mfm_tune.program import Outcome, Program, Running, numbers_only


def run_inline(program: Program, trials: Iterable[Trial], recorder: Recorder, options: EngineOptions) -> None:
    """Run trials in order; an iterator is asked for the next when the one before it has ended.

    A trial that raises is recorded as failed, with its traceback, and the next one begins.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came; the trial in progress stays open and resumes at the next launch.
        UserError: The program refused what it was given (no images in a data set's folder, say).
        StorageError: The disk is full.
    """
    take_share(options.cpus_per_trial, options.gpus_per_trial)
    with Interruption(at_once=True):
        stopper = None if options.stopping is None else EarlyStopper(options.stopping)
        for trial in trials:
            _run_trial(program, trial, recorder, options, stopper)


def _run_trial(
    program: Program, trial: Trial, recorder: Recorder, options: EngineOptions, stopper: EarlyStopper | None
) -> None:
    recorder.started(trial.key, 1)
    if stopper is not None and stopper.stopped_at(trial.key) == trial.step > 0:  # its driver had no time to say so
        recorder.ended(trial.key, Outcome.STOPPED, rung=trial.step)
        return
    try:
        running = _opened(program, trial, recorder, options)
        try:
            _advance_to_the_end(running, trial, recorder, stopper)
        finally:
            with suppress(Exception):  # the outcome is written, or the trial's own exception is on its way
                running.close()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a trial that wants to end the process ends itself
        recorder.ended(trial.key, Outcome.FAILED, error=traceback.format_exc())
        full = disk_full(error, options.storage / trial.folder)
        if full:
            raise StorageError(full) from error


def _opened(program: Program, trial: Trial, recorder: Recorder, options: EngineOptions) -> Running:
    """Open a trial. A ValueError is the program's sentence about what it was given, and ends the run."""
    make_folders([trial], options)
    try:
        return program.open(
            trial.config,
            seed=trial.seed,
            folder=str(options.storage / trial.folder),
            shared=str(options.shared_by(trial.fingerprint)),
            data=options.data,
        )
    except ValueError as error:
        recorder.ended(trial.key, Outcome.FAILED, error=traceback.format_exc())
        raise UserError(str(error)) from error


def _advance_to_the_end(running: Running, trial: Trial, recorder: Recorder, stopper: EarlyStopper | None) -> None:
    while True:
        report = numbers_only(running.advance())
        if report.get("metrics"):
            recorder.reported(trial.key, report)
        outcome = report.get("outcome")
        if outcome is not None:
            recorder.ended(trial.key, Outcome(outcome), error=report.get("error", ""))
            return
        if stopper is not None and stopper.stops(trial.key, trial.seed, report):
            recorder.ended(trial.key, Outcome.STOPPED, rung=report["step"])
            return
