"""MLflow's UI for a storage folder, on loopback, with links for each table.

    python -m mfm_tune.ui [--storage DIR] [--port N] [--tracking-uri URI]

Ctrl-C ends it. With the address of a server that runs already, the links are printed and nothing is started.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mfm_tune.commands.options import Parser
from mfm_tune.console import steady_streams
from mfm_tune.errors import StorageError, UserError
from mfm_tune.ledger.state import read_ledger
from mfm_tune.ledger.uri import OPTION, announced_uri
from mfm_tune.tracking.database import damage
from mfm_tune.tracking.links import Link, links
from mfm_tune.tracking.mirror import Target, caught_up, quiet_environment
from mfm_tune.tracking.server import server


def _catch_up(target: Target) -> None:
    """Deliver what MLflow lacks, unless a run's mirror is at it. MLflow is imported by another process."""
    if target.database is None or (caught_up(target) and _is_sound(target.database)):
        return
    print("Bringing MLflow up to date with the ledger ...", flush=True)
    options = [] if target.given is None else [OPTION, target.given]
    command = [sys.executable, "-m", "mfm_tune.sync", "--storage", str(target.storage), *options]
    subprocess.run(command, env=quiet_environment(), check=False)
    if not target.database.exists():
        raise StorageError(f"There is no {target.database} to show yet; wait a moment, and give the command again.")


def _is_sound(database: Path) -> bool:
    """Whether a database is there and not damaged, as far as can be seen now."""
    try:
        return database.exists() and not damage(database)
    except sqlite3.Error:  # another program holds it
        return True


def show(target: Target, port: int) -> None:
    """Start the server, print the links, and wait for Ctrl-C."""
    if not target.ledger.is_file():
        raise StorageError(f"There is no ledger in {target.storage}; give the --storage of a run.")
    if target.served:
        _print_links(links(read_ledger(target.ledger), target.uri.rstrip("/")))
        return
    _catch_up(target)
    with server(target, port) as address:
        print(f"MLflow for {target.storage}: {address} (Ctrl-C ends it)")
        _print_links(links(read_ledger(target.ledger), address))
        signal.pause()


def _print_links(found: Sequence[Link]) -> None:
    if not found:
        print("No trial of this ledger is in MLflow yet.")
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
    parser.add_argument("--port", type=int, default=0, help="the server's port; default: a free one")
    try:
        given = parser.parse_args(argv)
        os.environ.update(quiet_environment())
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        show(Target(given.storage.absolute(), announced_uri(given.tracking_uri)), given.port)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
