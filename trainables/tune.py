"""Trials as Ray Tune class trainables: the only file here that imports ray.

A worker process runs one trial after the other: starting a process and importing torch costs seconds, going on to the
next trial milliseconds. So every trial must begin as in a fresh process: nothing of the previous one may stay behind.
"""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from ray import tune

from mfm_tune.errors import disk_full


class Running(Protocol):
    """A trial in progress."""

    def advance(self) -> Mapping[str, Any]:
        """Train up to the next evaluation and report."""

    def close(self) -> None:
        """Give memory and files back."""


class ProgramTrial(tune.Trainable):
    """One trial after the other in one worker; a `step` of Tune is a block of training steps up to an evaluation.

    The config that Tune hands over is `{"trial": key, "arguments": those of open_running}`. What `step` returns to
    Tune:

        report       the trial's report as JSON text: Tune keeps histories of every number it sees, but not of a text
        trial_step   training steps done
        seed         the trial's seed
        refused      why no trial can go on (one cannot be opened with what it was given, the disk is full), one
                     sentence, else an empty text
        done         whether the trial has an outcome

    A trial that cannot be opened, or that raises, ends with the outcome `failed` and its traceback; the worker goes on
    with the next trial. Only when the GPU is left unusable (an illegal access, a failed device-side assertion) is the
    error raised, so that Tune replaces the worker and tries the trial again from its last checkpoint.
    """

    def open_running(self, config: Any, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> Running:
        """Start or resume a trial in this process. Subclasses say what a trial is."""
        raise NotImplementedError(f"{type(self).__name__} must define open_running.")

    # -- what Tune calls ---------------------------------------------------------------------------------------------

    def setup(self, config: dict[str, Any]) -> None:
        """Called once a worker, with the first trial's config."""
        self._running: Running | None = None
        self._steps_done: int = 0
        self._choose(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called for each further trial. Always true: Tune fails the next trial when a worker refuses it."""
        self._close()
        self._choose(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One block of training steps."""
        refused = ""
        try:
            if self._running is None:
                self._running = self._opened()
            report = dict(self._running.advance())
        except Exception as error:
            if device_is_lost():
                raise
            refused = self._refused(error)
            report = {"step": self._steps_done, "outcome": "failed", "error": traceback.format_exc()}
        self._steps_done = int(report["step"])
        return {
            "report": json.dumps(report, default=_plain_number),
            "trial_step": self._steps_done,
            "seed": self._arguments["seed"],
            "refused": refused,
            "done": report.get("outcome") is not None,
        }

    def cleanup(self) -> None:
        """Called when the worker ends."""
        self._close()

    # -- one trial ---------------------------------------------------------------------------------------------------

    def _choose(self, config: dict[str, Any]) -> None:
        """Take on a trial. Its first `step` opens it, because there an error can be reported as an outcome."""
        self._arguments = config["arguments"]
        self._steps_done = 0

    def _opened(self) -> Running:
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(self.given("CPU", 1))))
        self._check_folder()
        running = self.open_running(**self._arguments)
        begin_as_fresh_process(int(self._arguments["seed"]), gpus=self.given("GPU"))
        return running

    def given(self, resource: str, otherwise: float = 0) -> float:
        """How much of a resource the trial has from Tune."""
        resources = self.trial_resources.required_resources if self.trial_resources is not None else {}
        return float(resources.get(resource, otherwise))

    def _check_folder(self) -> None:
        """The driver has made every trial's folder; a node that joined late may not have the disk they lie on."""
        folder = self._arguments["folder"]
        if not os.path.isdir(folder):
            raise ValueError(
                f"The machine {socket.gethostname()} does not see {folder}, which the driver has made; mount the "
                "storage folder there under the same path, or remove the machine from the cluster."
            )

    def _refused(self, error: Exception) -> str:
        """Why no trial can go on, one sentence; empty where the error is this trial's own."""
        if self._running is None and isinstance(error, ValueError):
            return str(error)
        return disk_full(error, self._arguments["folder"])

    def _close(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        try:
            running.close()
        except Exception:  # the trial has its outcome; what it could not give back, the collector may
            traceback.print_exc()
        del running
        gc.collect()
        _empty_device_cache()


class SegmentationTrial(ProgramTrial):
    """A trial of domain-adaptive segmentation."""

    def open_running(self, config: Any, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> Running:
        """See `trainables.running.trial.Trial`."""
        from trainables.running.trial import Trial

        limit_memory(self.given("GPU"))  # opening puts images into the GPU's memory
        return Trial(config, seed=seed, folder=folder, shared=shared, data=data)


def begin_as_fresh_process(seed: int, *, gpus: float) -> None:
    """Put global state where a fresh process has it, whatever the previous trial did.

    Args:
        seed: Seeds the global generators. Training draws from its own streams; a library may not.
        gpus: What the trial has of them, see `limit_memory`.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    if "torch._dynamo" in sys.modules:  # a trial that compiles does so whatever those before it have compiled
        torch._dynamo.reset()
    limit_memory(gpus)
    if gpus > 0 and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def limit_memory(gpus: float) -> None:
    """Make a fraction of a GPU a limit on its memory, because Ray only keeps the books: a trial that needs more runs
    out of memory itself, and does not take the memory of those beside it."""
    torch = sys.modules.get("torch")
    if torch is not None and gpus > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus))


def device_is_lost() -> bool:
    """Whether the GPU refuses any further work in this process, as it does after an illegal memory access."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _empty_device_cache() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized() and not device_is_lost():
        torch.cuda.empty_cache()


def _plain_number(value: Any) -> Any:
    """NumPy's and torch's scalars as Python's."""
    return value.item()
