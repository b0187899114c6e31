"""Deliver to MLflow what a mirror could not: what a dead server missed, or everything to a new one.

    python -m mfm_tune.sync [--storage DIR] [--tracking-uri URI] [--from-start]

Giving it twice delivers nothing twice. Exit codes: 0 all is delivered, 2 it is not (one sentence on stderr).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mfm_tune.commands.options import Parser
from mfm_tune.console import SIGN_S, exit_code, print_timed, steady_streams
from mfm_tune.errors import StorageBusyError, StorageError
from mfm_tune.ledger.file import check_ledger
from mfm_tune.ledger.uri import announced_uri, without_password_of
from mfm_tune.tracking.mirror import Target, quiet_environment

if TYPE_CHECKING:
    from mfm_tune.tracking.process import Mirroring

PATIENCE_S = 30.0  # how long a store may give trouble, and take nothing, before this gives up
LOCK_S = 5.0
ANSWER_S = 30  # how long a request may take: here somebody waits for the whole, and a slow server is none in trouble


def synchronise(target: Target, *, from_start: bool = False, patience_s: float = PATIENCE_S) -> int:
    """Deliver all that the ledger has; returns the number of rows.

    Args:
        target: From where to where.
        from_start: Deliver everything again; MLflow drops what it has.
        patience_s: How long the store may give trouble, and take nothing.

    Raises:
        StorageError: There is no ledger, or none of this version, or it is broken, or the store does not take it.
        StorageBusyError: A mirror is at work on it.
    """
    from filelock import FileLock, Timeout

    from mfm_tune.tracking.process import Mirroring

    check_ledger(target.ledger)
    try:
        target.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(target.lock, timeout=LOCK_S):
            mirroring = Mirroring(target, from_start=from_start)
            try:
                with _signs_of_life(mirroring):
                    _persist(mirroring, target, patience_s)
            finally:
                print(mirroring.notice, end="\n" if mirroring.notice else "", flush=True)
            return mirroring.rows
    except Timeout:
        raise StorageBusyError(
            f"The mirror of a run is at work on {target.storage}, and delivers by itself; wait until that run ends."
        ) from None
    except OSError as error:
        raise StorageError(f"{target.folder} cannot be written: {error.strerror}; make it writable.") from error


@contextmanager
def _signs_of_life(mirroring: Mirroring) -> Iterator[None]:
    """Print how far a delivery is, every `SIGN_S`, while what stands within runs."""
    over = threading.Event()

    def show() -> None:
        while not over.wait(SIGN_S):
            if words := mirroring.doing:
                print_timed(words)

    thread = threading.Thread(target=show, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1)


def _persist(mirroring: Mirroring, target: Target, patience_s: float) -> None:
    """Catch up, and try again while the store gives trouble."""
    from mfm_tune.tracking.reader import BrokenLedgerError
    from mfm_tune.tracking.trouble import RefusedError, TroubleError, UnusableError

    deadline, delay = time.monotonic() + patience_s, 1.0
    while True:
        taken = mirroring.taken
        try:
            mirroring.catch_up()
            return
        except BrokenLedgerError as error:
            raise StorageError(f"{error} Restore the file from a copy, or remove that line.") from error
        except UnusableError as error:
            raise StorageError(without_password_of(target.given, str(error))) from error
        except RefusedError as error:
            raise _not_delivered(target, "refused", str(error)) from error
        except TroubleError as error:
            if mirroring.taken != taken:
                deadline, delay = time.monotonic() + patience_s, 1.0
            if time.monotonic() + delay > deadline:
                raise _not_delivered(target, error.word, str(error)) from error
        time.sleep(delay)
        delay *= 2


def _not_delivered(target: Target, word: str, detail: str) -> StorageError:
    said = without_password_of(target.given, detail).strip().splitlines()
    last = said[0][:300] if said else "no reason given"
    return StorageError(
        f"MLflow at {target.place} is {word} ({last.rstrip('.')}); nothing is lost: "
        "give the same command again when it answers."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Deliver, and say how much. Returns the exit code."""
    parser = Parser("sync", "Deliver to MLflow what it lacks of a ledger.")
    parser.add_tracking_uri()
    parser.add_argument("--from-start", action="store_true", help="deliver everything again, whatever was delivered")

    def run() -> None:
        given = parser.parse_args(argv)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_S))
        os.environ.update(quiet_environment())
        target = Target(given.storage.absolute(), announced_uri(given.tracking_uri))
        rows = synchronise(target, from_start=given.from_start)
        print(f"{target.place} is up to date with the ledger of {target.storage} ({rows} numbers delivered now).")

    return exit_code(run)


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
