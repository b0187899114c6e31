"""The engine on Ray Tune: trials side by side, on this machine's cores, on GPUs, or on a cluster.

Tune is asked for little: to start workers, to hand them trials, to start a trial again whose worker died, and to stop
trials by ASHA. What it keeps on disk is thrown away at the end: the ledger says what was done, and trials keep their
own checkpoints. This module imports ray only when a run begins, and after Ray's environment is set.
"""

from __future__ import annotations

import _thread
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from mfm_tune.errors import OptionError, UserError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import CARRY_ON, SIGNALS, EngineLost, EngineOptions, Interrupted, make_folders
from mfm_tune.planning.plan import Trial
from mfm_tune.program import Program
from mfm_tune.tune.reach import Part, Watch

ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer way of printing cannot be silenced
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of the user's data stay what they are
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no csv, json and TensorBoard files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a report without metrics is an outcome, not the end of the run
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `Interruption` handles signals
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger keeps them
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own state is never restored
    "TUNE_FORCE_TRIAL_CLEANUP_S": "2",  # a worker in the middle of a block is ended; its checkpoint is whole
}
QUIET: Mapping[str, str] = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # that a worker was lost, in ten lines: the trial is tried again, and recorded
}
LAST_S = 5.0  # how long the main thread has to come out of Ray when that is lost
AUTHENTICATION_MODES = ("token", "disabled")


def run_with_ray(program: Program, trials: Iterable[Trial], recorder: Recorder, options: EngineOptions) -> None:
    """Run trials side by side through Ray Tune, in order as places become free.

    Args:
        trials: A sequence, or an iterator, which is asked for one trial more than there are places, because Tune keeps
            a worker for the next trial only where one waits.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came. Trials in progress keep their last checkpoint and stay open. A second
            signal ends the run without waiting for workers.
        EngineLost: A process of Ray's that all trials need was killed or cannot be reached any more. They stay open.
        UserError: The program refused what it was given, the resources asked for do not exist, Ray cannot be started,
            the cluster's address does not answer, or one of its nodes lacks what trials need.
        StorageError: The ledger cannot be written.
    """
    if isinstance(trials, Sequence) and not trials:
        return
    make_folders(trials if isinstance(trials, Sequence) else (), options)
    check_process()
    set_environment(options.address, verbose=options.verbose)
    from mfm_tune.tune.cluster import Cluster
    from mfm_tune.tune.nodes import check_nodes
    from mfm_tune.tune.rounds import Rounds

    with Interruption() as interruption, Cluster(options) as cluster:
        interruption.listen()  # Ray put its own handler of SIGTERM in place
        cluster.check_resources()
        if options.address is not None:
            configs = [trial.config for trial in trials] if isinstance(trials, Sequence) else options.known
            check_nodes(program, configs, options)
        with Watch(cluster.parts(), interruption.lose), interruption.upheld():
            Rounds(program, trials, recorder, options, stop_asked=interruption.came).run()
    if interruption.number is not None:
        raise Interrupted(interruption.number)


def check_process() -> None:
    """See that this process is one in which Ray can work.

    Raises:
        UserError: Its working directory is gone, or Python has left out the docstrings.
    """
    if sys.flags.optimize > 1:
        raise UserError(
            "Ray reads docstrings, which python -OO leaves out; run python with -O or none, or give --inline."
        )
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError(
            "The working directory was deleted, and Ray's processes start in it; change to another folder, or give "
            "--inline."
        ) from None


def set_environment(address: str | None, *, verbose: bool = False) -> None:
    """Set what Ray reads from the environment, before it is imported. What the user has set stays, unless it opens a
    Ray of our own: that listens on all interfaces, so it lets in only who has its token, which is the user's or one
    that this process and its workers alone know.

    Raises:
        OptionError: `RAY_AUTH_MODE` is none of Ray's modes, which Ray would take for "no authentication".
    """
    for name, value in (ENVIRONMENT if verbose else {**ENVIRONMENT, **QUIET}).items():
        os.environ.setdefault(name, value)
    mode = _authentication_mode()
    if address is not None:
        if address == "auto":  # the Ray of this machine, and not what Ray would look at first
            os.environ.pop("RAY_ADDRESS", None)
        return
    os.environ.pop("RAY_ENABLE_K8S_TOKEN_AUTH", None)  # by which Kubernetes, which does not know our token, is asked
    if not os.environ.get("RAY_AUTH_TOKEN", "").strip():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    if "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
    elif (
        mode != "token"
    ):  # which Ray has read when it was imported; where it is unset, a new Ray sets and reads it again
        os.environ.pop("RAY_AUTH_MODE", None)


def _authentication_mode() -> str | None:
    """What `RAY_AUTH_MODE` says; set to nothing it is as good as not set, as with other variables of Ray."""
    given = os.environ.get("RAY_AUTH_MODE", "")
    mode = given.strip().lower()
    if not mode:
        os.environ.pop("RAY_AUTH_MODE", None)
        return None
    if mode not in AUTHENTICATION_MODES:
        raise OptionError(
            f"RAY_AUTH_MODE must be {' or '.join(AUTHENTICATION_MODES)}, got '{given}', which Ray would take for "
            "disabled; correct it, or unset it."
        )
    os.environ["RAY_AUTH_MODE"] = mode
    return mode


class Interruption:
    """The first SIGINT or SIGTERM is remembered; the second raises `Interrupted` where the main thread is. So does the
    loss of Ray, at once, with `EngineLost`.

    Signals reach the main thread only; in another thread nothing is listened to.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self._again: Interrupted | None = None
        self._lost: EngineLost | None = None
        self._out = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def came(self) -> bool:
        """Whether a signal asked the run to stop."""
        return self.number is not None

    def listen(self) -> None:
        """Take the signals over, again where a library has taken them in between."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.signal(number, self._remember)
                self._before.setdefault(number, handler)

    def lose(self, part: Part) -> None:
        """End the run, called in another thread: a part of Ray is lost."""
        if not self._before:
            return  # the run is not in the main thread, and Ray ends it by itself
        self._lost = EngineLost(
            f"Ray's {part.name} at {part.address} does not answer any more: it was killed, or its machine is gone. "
            f"Trials in progress stay open, and go on from their last checkpoints. {CARRY_ON}"
        )
        _thread.interrupt_main(signal.SIGINT)
        if not self._out.wait(LAST_S):
            _leave(self._lost)

    @contextmanager
    def upheld(self) -> Iterator[None]:
        """Within, what a signal raises stays what it is: the compiled part of Ray makes a SystemError of it."""
        try:
            yield
        except SystemError as error:
            raise self._lost or self._again or error from None
        finally:
            self._out.set()

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._lost is not None:
            raise self._lost
        if self.number is not None:
            self._again = Interrupted(self.number)
            raise self._again
        self.number = signal.Signals(number)


def _leave(lost: EngineLost) -> NoReturn:
    """End this process where its main thread waits in Ray's own code for what is lost, from which nothing calls it
    back, and which would end the process within a minute. The ledger is as whole as after any kill."""
    show_cursor = "\x1b[?25h\n" if sys.stdout.isatty() else ""
    print(show_cursor, end="", flush=True)
    print(lost, file=sys.stderr, flush=True)
    os._exit(1)
