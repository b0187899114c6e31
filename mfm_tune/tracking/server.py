"""The server of MLflow's UI on loopback, and what a server answers. Imports no MLflow.

The server is started in its closed form: one worker, gunicorn and Flask alone (which leaves out the routes that run
agents and jobs), no telemetry, 127.0.0.1 only, by which or by localhost it must be asked for. A server is asked by its
REST interface, so that the process that asks stays small.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mfm_tune.errors import OptionError, StorageError
from mfm_tune.ledger.uri import without_password_of
from mfm_tune.tracking.mirror import Target, end, quiet_environment

GUNICORN = "--config python:mfm_tune.tracking.first_page"
READY_S = 120.0
GRACE_S = 10.0
HOSTS = "127.0.0.1:*,localhost:*"  # any port, for tunnels; no other name, which a stranger's page could make ours
LOOK_S = 3.0  # between two looks at whether it is there
ANSWER_S = 30.0  # the first answers of a server on a busy machine take a while


def server_command(target: Target, port: int) -> list[str]:
    """The command of the closed server.

    Its environment says which database, because a command line is seen by everybody, and which hosts, because MLflow
    takes the option for that only without gunicorn.
    """
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--artifacts-destination", target.artifacts.as_uri()),
        *("--gunicorn-opts", f"{GUNICORN} --timeout 60 --threads 4 --graceful-timeout 3 --log-level warning"),
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
    log = target.ui_log
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
        end(process, GRACE_S)


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


def wait_until_gone(address: str, every_s: float = LOOK_S) -> None:
    """Return when nothing listens at an address any more: the server was killed."""
    parts = urlsplit(address)
    while True:
        time.sleep(every_s)
        try:
            socket.create_connection((parts.hostname or "", parts.port or 80), timeout=ANSWER_S).close()
        except ConnectionRefusedError:
            return
        except OSError:  # it is busy
            continue


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


def experiment_of(address: str, name: str) -> dict[str, Any] | None:
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


def server_version(address: str) -> str:
    """The version that a server gives; empty where it gives none."""
    with suppress(OSError, HTTPException, ValueError), _opened(f"{address.rstrip('/')}/version") as answer:
        return str(answer.read(200).decode())
    return ""


def _opened(url: str) -> HTTPResponse:
    """Ask without a proxy: what is on loopback must not be asked of another machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    user, at, _ = urlsplit(url).netloc.rpartition("@")  # urllib would take it for a part of the host's name
    headers = {"Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"} if at else {}
    answer: HTTPResponse = opener.open(urllib.request.Request(without_user(url), headers=headers), timeout=ANSWER_S)
    return answer


def without_user(url: str) -> str:
    """An address without the user and password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
