"""What an engine is given, and how it says that it was interrupted.

There are two engines: `mfm_tune.execution.inline.run_inline` and `mfm_tune.tune.engine.run_with_ray`. Both take a
program, the trials to run in order, a recorder and these options. The trials are a sequence, or an iterator that is
asked for one more whenever a place is free (a search). An engine that is told to stop raises `Interrupted` and leaves
the trials in progress open: no outcome is written for them, and the next launch goes on from their checkpoints.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mfm_tune.criteria import TARGET_MIOU, Criterion
from mfm_tune.errors import StorageError
from mfm_tune.ledger.state import ReportOf
from mfm_tune.planning.plan import Trial
from mfm_tune.search_space import Asha, Scheduler

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CARRY_ON = "To carry on, give the same command again."


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """Which trials are stopped early.

    Args:
        scheduler: The rule.
        criterion: The number that it compares.
        never: Keys of trials that are compared with and never stopped, such as baselines.
        history: What the ledger's trials reported, in its order.
    """

    scheduler: Scheduler = field(default_factory=Asha)
    criterion: Criterion = TARGET_MIOU
    never: frozenset[str] = frozenset()
    history: tuple[ReportOf, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How trials are run.

    Args:
        storage: The storage folder, absolute; a trial's folder is relative to it.
        data: Dataset name -> absolute path.
        cpus_per_trial: CPU cores, and threads, of one trial.
        gpus_per_trial: GPUs of one trial; a fraction shares one.
        address: Address of a Ray cluster; None starts Ray on this machine.
        stopping: Lets a scheduler stop trials early, comparing trials of one seed; None lets all go on.
        known: Where trials are made up on the way or only measured, configs and values that theirs will be like: nodes
            of a cluster are asked for the code that defines them.
        import_paths: Folders that workers need on `sys.path` to import the search space's own classes.
        verbose: Pass on what the libraries print.
    """

    storage: Path
    data: Mapping[str, str] = field(default_factory=dict)
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    address: str | None = None
    stopping: Stopping | None = None
    known: tuple[Any, ...] = ()
    import_paths: tuple[str, ...] = ()
    verbose: bool = False

    @property
    def shared(self) -> Path:
        """Folder of artefacts that trials share, such as warm starts."""
        return self.storage / "shared"

    def shared_by(self, fingerprint: str) -> Path:
        """Its part for one fingerprint of the training code: artefacts of other code are never taken silently."""
        return self.shared / fingerprint[:8]


def make_folders(trials: Iterable[Trial], options: EngineOptions) -> None:
    """Make the folders that trials write to.

    Raises:
        StorageError: One cannot be made.
    """
    folder = options.shared
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for trial in trials:
            folder = options.storage / trial.folder
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"The folder {folder} cannot be made: {error.strerror}; give another --storage.") from error


def local_gpus() -> int:
    """How many NVIDIA GPUs this machine shows to this process, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])


def local_slots(cpus_per_trial: int, gpus_per_trial: float) -> int:
    """How many trials run at once on this machine, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, fitting(cores, local_gpus(), cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial))


def fitting(cpus: float, gpus: float, *, cpus_per_trial: int, gpus_per_trial: float) -> int:
    """How many trials run at once on one machine. A fraction of a GPU never lies on two; shares are counted in
    ten-thousandths, as Ray does, so that ten tenths are a whole."""
    by_cpu = int(cpus // cpus_per_trial)
    share = round(gpus_per_trial * 10_000)
    if share == 0:
        return by_cpu
    by_gpu = int(gpus) * (10_000 // share) if share <= 10_000 else int(gpus * 10_000) // share
    return min(by_cpu, by_gpu)


class Interrupted(BaseException):
    """A signal asked the run to stop. Not an Exception, so that no trial mistakes it for a failure of its own.

    Args:
        number: SIGINT or SIGTERM.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + int(self.number)


class EngineLost(BaseException):
    """What trials run on is gone: one sentence, exit code 1. Trials in progress stay open. Not an Exception, so that no
    trial and no library takes it for a failure of its own."""


@contextmanager
def signals_as_interruption() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise `Interrupted` in the main thread. Elsewhere than there nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number))

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
