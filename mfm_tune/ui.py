"""MLflow's UI for a storage folder, on loopback, with a link for each table.

    python -m mfm_tune.ui [--storage DIR] [--port N] [--tracking-uri URI]

The server is started in its closed form: one worker, gunicorn and Flask alone (which leaves out the routes that run
agents and jobs), no telemetry, 127.0.0.1 only, by which or by localhost it must be asked for. Ctrl-C ends it. With the
address of a server that runs already, the links are printed and nothing is started. This process itself asks the server
by its REST interface and stays small.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mfm_tune.console import steady_streams
from mfm_tune.errors import OptionError, StorageError, UserError
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.ledger.uri import OPTION, announced_uri, without_password_of
from mfm_tune.sync import parser
from mfm_tune.tracking.database import damage
from mfm_tune.tracking.mirror import Target, caught_up, quiet_environment
from mfm_tune.tracking.runs import declared_cells, experiment_name, study_experiment
from mfm_tune.tracking.views import TAG, TRIED, View, ViewKind, failures_view, pictures_view, table_view

READY_S = 120.0
GRACE_S = 10.0
HOSTS = "127.0.0.1:*,localhost:*"  # any port, for tunnels; no other name, which a stranger's page could make ours
ANSWER_S = 30.0  # the first answers of a server on a busy machine take a while


@dataclass(frozen=True)
class Link:
    """An address, and what it shows."""

    text: str
    address: str


def server_command(target: Target, port: int) -> list[str]:
    """The command of the closed server.

    Its environment says which database, because a command line is seen by everybody, and which hosts, because MLflow
    takes the option for that only without gunicorn.
    """
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--artifacts-destination", target.artifacts.as_uri()),
        *("--gunicorn-opts", "--timeout 60 --threads 4 --graceful-timeout 3 --log-level warning"),
    ]


@contextmanager
def server(target: Target, port: int = 0) -> Iterator[str]:
    """The UI's server while it is needed; yields its address.

    Args:
        target: A storage folder with a database.
        port: 0 takes a free one.

    Raises:
        OptionError: The port is taken.
        StorageError: The server did not start; the sentence names its log, or what cannot be written.
    """
    port = _free_port(port)
    log = target.folder / "ui.log"
    try:
        process = _started(target, port, log)
    except OSError as error:
        raise StorageError(
            f"MLflow's server did not start ({error.strerror}: {error.filename}); make {target.storage} writable, or "
            "show a copy of it."
        ) from error
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, address, target, log)
        yield address
    finally:
        _end(process)


def _started(target: Target, port: int, log: Path) -> subprocess.Popen[bytes]:
    for folder in (target.artifacts, target.folder):
        folder.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            server_command(target, port),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={
                **quiet_environment(),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_BACKEND_STORE_URI": target.uri,
                "MLFLOW_SERVER_ALLOWED_HOSTS": HOSTS,
            },
            start_new_session=True,  # Ctrl-C is this process's; it ends the server in order
        )


def links(target: Target, state: LedgerState, address: str) -> list[Link]:
    """A link for each table, for failures and pictures; by saved view where this MLflow reads ours, else by filter.

    Raises:
        StorageError: The server does not answer as MLflow does.
    """
    saved = reads_our_views(server_version(address))
    found: list[Link] = []
    for name in _experiments(state):
        experiment = _experiment(address, name)
        if experiment is not None and experiment.get("lifecycle_stage") == "active":
            tags = [str(tag["key"]) for tag in experiment.get("tags", [])]
            keys = {tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)} if saved else set()
            found += _links_of(state, name, str(experiment["experiment_id"]), address, keys)
    return found


def _experiment(address: str, name: str) -> dict[str, Any] | None:
    """An experiment as the server's REST interface gives it; None where there is none of this name."""
    url = f"{address.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(name)}"
    try:
        with _opened(url) as answer:
            return dict(json.load(answer)["experiment"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        reason = f"it answers {error.code}"
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise StorageError(
        f"The MLflow server {without_user(address)} does not answer as it should ({reason}); see its log."
    )


def _links_of(state: LedgerState, name: str, experiment: str, address: str, keys: set[str]) -> Iterator[Link]:
    for study in state.studies.values():
        here = {
            cell.table
            for cell in declared_cells(study)
            if (config := state.configs.get(cell.config_id)) is not None
            and experiment_name(config.benchmark, cell.profile) == name
        }
        for table in study["tables"]:
            if table["name"] in here:
                for kind in ViewKind:
                    text = f"{study['study']} {table['title']}: {kind.value}"
                    yield _link(text, table_view(study, table, kind), experiment, address, keys)
    yield _link("failures", failures_view(), experiment, address, keys)
    if pictures_view({}).key in keys or not keys:
        yield _link("pictures", pictures_view({}), experiment, address, keys)


def _link(text: str, view: View, experiment: str, address: str, keys: set[str]) -> Link:
    path = view.saved_link(experiment) if view.key in keys else view.plain_link(experiment)
    return Link(text, without_user(address) + path)


def _experiments(state: LedgerState) -> tuple[str, ...]:
    trials = (experiment_name(record.benchmark, record.profile) for record in state.trials.values())
    return tuple(dict.fromkeys((*trials, *(study_experiment(study) for study in state.studies.values()))))


def reads_our_views(version: str) -> bool:
    """Whether a version of MLflow reads the saved views in the form that they are written in."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found.group(1)), int(found.group(2))) in TRIED


def server_version(address: str) -> str:
    """The version that a server says it has; empty where it does not say."""
    with suppress(OSError, HTTPException, ValueError), _opened(f"{address.rstrip('/')}/version") as answer:
        return str(answer.read(200).decode())
    return ""


def _opened(url: str) -> HTTPResponse:
    """Asks without a proxy: what is on loopback must not be asked of another machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    user, at, _ = urlsplit(url).netloc.rpartition("@")  # urllib would take it for a part of the host's name
    headers = {"Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"} if at else {}
    answer: HTTPResponse = opener.open(urllib.request.Request(without_user(url), headers=headers), timeout=ANSWER_S)
    return answer


def without_user(url: str) -> str:
    """An address without the user and password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, target: Target, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, urllib.error.URLError), _opened(f"{address}/health") as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    said = without_password_of(target.given, log.read_text(errors="replace")).strip().splitlines()
    last = said[-1][:300] if said else "it said nothing"
    raise StorageError(f"MLflow's server did not start ({last}); its log is {log}.")


def _free_port(port: int) -> int:
    if not 0 <= port < 65536:
        raise OptionError(f"--port must lie in 0 to 65535, got {port}; 0 takes a free one.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OptionError(f"--port {port} cannot be had on 127.0.0.1: {error.strerror}; give another.") from None
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers: they are a session of their own, so nobody else's processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
        _print_links(links(target, read_ledger(target.ledger), target.uri.rstrip("/")))
        return
    _catch_up(target)
    with server(target, port) as address:
        print(f"MLflow for {target.storage}: {address} (Ctrl-C ends it)")
        _print_links(links(target, read_ledger(target.ledger), address))
        signal.pause()


def _print_links(found: Sequence[Link]) -> None:
    if not found:
        print("No trial of this ledger is in MLflow yet.")
    width = max((len(link.text) for link in found), default=0)
    for link in found:
        print(f"  {link.text:{width}}  {link.address}")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Show MLflow's UI. Returns the exit code."""
    asked = parser("mfm_tune.ui", "Show MLflow's UI for a storage folder, on loopback.")
    asked.add_argument("--port", type=int, default=0, help="the server's port; default: a free one")
    try:
        given = asked.parse_args(argv)
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
