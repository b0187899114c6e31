"""The engine without Ray: trials one after the other in this process, for a debugger and for tests."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from contextlib import suppress

from mfm_tune.engine import EngineOptions, signals_as_interruption
from mfm_tune.errors import StorageError, UserError
from mfm_tune.plan import Trial
from mfm_tune.program import Outcome, Program, Running
from mfm_tune.recorder import Recorder


def run_inline(program: Program, trials: Sequence[Trial], recorder: Recorder, options: EngineOptions) -> None:
    """Run trials in order.

    A trial that raises is recorded as failed, with its traceback, and the next one begins.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came; the trial in progress stays open and goes on at the next launch.
        UserError: The program refused what it was given (no images in a data set's folder, say).
        StorageError: The ledger cannot be written.
    """
    os.environ["OMP_NUM_THREADS"] = str(options.cpus_per_trial)  # as many threads and GPUs as a worker would have
    if options.gpus_per_trial == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with signals_as_interruption():
        for trial in trials:
            _run_trial(program, trial, recorder, options)


def _run_trial(program: Program, trial: Trial, recorder: Recorder, options: EngineOptions) -> None:
    recorder.started(trial.key, 1)
    try:
        running = _opened(program, trial, recorder, options)
        try:
            _advance_to_the_end(running, trial, recorder)
        finally:
            with suppress(Exception):  # the outcome is written, or the trial's own exception is on its way
                running.close()
    except UserError:
        raise
    except Exception:
        recorder.ended(trial.key, Outcome.FAILED, error=traceback.format_exc())


def _opened(program: Program, trial: Trial, recorder: Recorder, options: EngineOptions) -> Running:
    """Open a trial. A ValueError is the program's sentence about what it was given, and ends the run."""
    folder = options.storage / trial.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        options.shared.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"The folder {folder} cannot be made: {error.strerror}; give another --storage.") from error
    try:
        return program.open(
            trial.config,
            seed=trial.seed,
            folder=str(folder),
            shared=str(options.shared_by(trial.fingerprint)),
            data=options.data,
        )
    except ValueError as error:
        recorder.ended(trial.key, Outcome.FAILED, error=traceback.format_exc())
        raise UserError(str(error)) from error


def _advance_to_the_end(running: Running, trial: Trial, recorder: Recorder) -> None:
    while True:
        report = running.advance()
        if report.get("metrics"):
            recorder.reported(trial.key, report)
        outcome = report.get("outcome")
        if outcome is not None:
            recorder.ended(trial.key, Outcome(outcome), error=report.get("error", ""))
            return
