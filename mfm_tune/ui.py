"""MLflow's UI for a storage folder, on loopback, with links for each table.

    python -m mfm_tune.ui [--storage DIR] [--port N] [--tracking-uri URI]

Ctrl-C ends it. What MLflow lacks of the ledger is delivered while the server runs already. With the address of a server
that runs already, the links are printed and nothing is started.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mfm_tune.commands.options import Parser
from mfm_tune.console import exit_code, integer, steady_streams
from mfm_tune.errors import StorageError
from mfm_tune.ledger.file import check_ledger
from mfm_tune.ledger.state import read_ledger
from mfm_tune.ledger.uri import OPTION, announced_uri
from mfm_tune.tracking.database import damage
from mfm_tune.tracking.links import Link, links
from mfm_tune.tracking.mirror import GRACE_S, Target, caught_up, end, ledger_identity, quiet_environment, read_state
from mfm_tune.tracking.server import server, wait_until_gone


@contextmanager
def _delivering(target: Target) -> Iterator[subprocess.Popen[bytes] | None]:
    """Deliver what MLflow lacks, unless a run's mirror is at it, and meanwhile what stands within.

    MLflow is imported by another process, which is yielded as soon as it has made or opened the database, and ended
    with what stands within: the next delivery resumes there. None where nothing lacks.

    Raises:
        StorageError: There is no database, and none could be made.
    """
    if target.database is None or (caught_up(target) and _is_sound(target.database)):
        yield None
        return
    print("Bringing MLflow up to date with the ledger ...", flush=True)
    options = [] if target.given is None else [OPTION, target.given]
    command = [sys.executable, "-m", "mfm_tune.sync", "--storage", str(target.storage), *options]
    process = subprocess.Popen(command, env=quiet_environment(), start_new_session=True)  # Ctrl-C is this process's
    try:
        while process.poll() is None and not _has_opened(process.pid, target):
            time.sleep(0.1)
        if not target.database.exists():
            raise StorageError(f"There is no {target.database} to show yet; wait a moment, and give the command again.")
        yield process
    finally:
        end(process, GRACE_S)


def _has_opened(process: int, target: Target) -> bool:
    """Whether a process that delivers has made or opened the database: only then it writes how it is doing."""
    state = read_state(target)
    return state is not None and state.pid == process


def _is_sound(database: Path) -> bool:
    """Whether a database is there and not damaged, as far as can be seen now."""
    try:
        return database.exists() and not damage(database)
    except sqlite3.Error:  # another program holds it
        return True


def show(target: Target, port: int) -> None:
    """Start the server, print the links, and wait for Ctrl-C."""
    check_ledger(target.ledger)
    if target.served:
        _print_links(_links(target, target.uri.rstrip("/")))
        return
    with _delivering(target) as delivery, server(target, port) as address:
        print(f"MLflow for {target.storage}: {address} (Ctrl-C ends it)", flush=True)
        if delivery is not None and delivery.poll() is None:
            print("Its pages fill while the ledger is delivered; then links to each table follow.", flush=True)
            delivery.wait()
        _print_links(_links(target, address))
        wait_until_gone(address)
        raise StorageError(f"MLflow's server at {address} ended; give the command again. Its log is {target.ui_log}.")


def _links(target: Target, address: str) -> list[Link]:
    return links(read_ledger(target.ledger), ledger_identity(target.ledger), address)


def _print_links(found: Sequence[Link]) -> None:
    if not found:
        print("No trial of this ledger is in MLflow yet, or its experiment was deleted there.")
    width = max((len(link.text) for link in found), default=0)
    for link in found:
        print(f"  {link.text:{width}}  {link.address}")
        if link.view is not None:
            print(f"  {'with its charts':>{width}}  {link.view}")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Show MLflow's UI. Returns the exit code."""
    parser = Parser("ui", "Show MLflow's UI for a storage folder, on loopback.")
    parser.add_tracking_uri()
    parser.add_argument(
        "--port",
        type=partial(integer, low=0, high=65535),
        default=0,
        metavar="N",
        help="the server's port; default: a free one",
    )

    def run() -> None:
        given = parser.parse_args(argv)
        os.environ.update(quiet_environment())
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        show(Target(given.storage.absolute(), announced_uri(given.tracking_uri)), given.port)

    code = exit_code(run)
    return 0 if code in (130, 141) else code  # Ctrl-C is how it ends, and what read its links may have what it wanted


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
