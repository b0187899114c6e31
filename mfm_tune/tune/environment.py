"""The process in which Ray is imported: what Ray reads from the environment, set before it is. Imports no ray."""

from __future__ import annotations

import os
import resource
import secrets
import sys
from collections.abc import Mapping

from mfm_tune.errors import OptionError, UserError

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
AUTHENTICATION_MODES = ("token", "disabled")
THREADS = 250  # a Ray of our own with two trials had 212


def check_process() -> None:
    """See that this process is one in which Ray can work.

    Raises:
        UserError: Python has left out the docstrings, or the user may have too few threads: Ray would wait for ever for
            processes that cannot start.
    """
    if sys.flags.optimize > 1:
        raise UserError(
            "Ray reads docstrings, which python -OO leaves out; run python with -O or none, or give --inline."
        )
    threads, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and threads != resource.RLIM_INFINITY and threads < THREADS:
        raise UserError(
            f"The limit of processes and threads (ulimit -u) is {threads}, and Ray needs some {THREADS} with two "
            "trials; raise it, or give --inline."
        )


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
