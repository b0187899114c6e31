"""Storage folders, servers and broken servers for tests of the mirror."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from mfm_tune.ledger.records import trial_key
from mfm_tune.ledger.storage import Storage
from mfm_tune.tracking.mirror import Target, quiet_environment
from mfm_tune.tracking.server import server
from tests.mfm_tune.tracking.tracking_ledger import DACS, DEFAULT, FINGERPRINT, Fiction, write

# Runs in every Python process that has this file's folder on PYTHONPATH, and notes where it connects to. It wraps the
# interpreter's own socket calls, which all of MLflow's and Ray's Python code goes through.
WATCH = """
import os, socket, sys

def _note(what):
    with open(os.environ["WATCH_LOG"], "a") as log:
        log.write(f"{os.getpid()} {what}\\n")

def _hook(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        datagram = arguments[0].type & 0xF == socket.SOCK_DGRAM  # which sends nothing yet, and asks for a route
        _note(f"{'route' if datagram else 'connect'} {arguments[1][0]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _note(f"lookup {arguments[0]}")
    elif event == "socket.sendto" and isinstance(arguments[1], tuple):
        _note(f"sendto {arguments[1][0]}")

sys.addaudithook(_hook)
_note("watched")
"""
LOOPBACK = ("127.0.0.1", "localhost", "::1", "None", "0.0.0.0", socket.gethostname())


def beyond(notes: Iterable[str], here: Sequence[str] = LOOPBACK) -> set[str]:
    """What watched processes connected to or looked up elsewhere than here, such as `lookup example.org`.

    Args:
        notes: Lines of a watch's log.
    """
    acts = [note.split(maxsplit=2)[1:] for note in notes]
    return {" ".join(act) for act in acts if len(act) == 2 and act[0] != "route" and act[1] not in here}


def make_database(path: Path) -> Path:
    """A new MLflow database, made in a process of its own."""
    code = (
        "import sys, pathlib; from mfm_tune.tracking.prepare import prepare_database as p; p(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], env=quiet_environment(), check=True, capture_output=True)
    return path


def storage_with(empty_database: Path, folder: Path) -> Path:
    """A storage folder with an empty MLflow database."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(empty_database, folder / "mlflow.db")
    return folder


@dataclass(frozen=True)
class Shown:
    """A storage folder that was mirrored, copied, moved, and is shown by the UI's server.

    Args:
        watched: What its processes connected to and looked up.
    """

    storage: Path
    address: str
    log: Path

    @property
    def watched(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def database(self) -> Path:
        return self.storage / "mlflow.db"


@contextmanager
def shown_storage(empty_database: Path, folder: Path) -> Iterator[Shown]:
    """Mirror a ledger with every outcome and pictures, copy the folder, delete it, move the copy, and serve that."""
    made = storage_with(empty_database, folder / "made-here")
    fiction = Fiction(pictures=True, outcomes={(DACS, 1): "failed", (DEFAULT, 2): "oom"}, benchmark="shown")
    path = write(made, fiction.events())
    draw_pictures(path)
    export_model(made, trial_key(DACS, 0, FINGERPRINT), folder / "dacs", step=30)
    report = made / "reports" / "fiction-smoke"
    report.mkdir(parents=True)
    (report / "report.html").write_text("<!doctype html><title>report</title><p>The report of a made-up study")
    log = folder / "watch.log"
    with watched(folder, log):
        subprocess.run(
            [sys.executable, "-m", "mfm_tune.sync", "--storage", str(made)], env=quiet_environment(), check=True
        )
        copied, moved = folder / "copied", folder / "moved" / "there"
        shutil.copytree(made, copied)
        shutil.rmtree(made)
        moved.parent.mkdir()
        copied.rename(moved)
        with server(Target(moved)) as address:
            yield Shown(moved, address, log)


@contextmanager
def watched(folder: Path, log: Path) -> Iterator[None]:
    """Child processes note their connections in the log."""
    hooks = folder / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(WATCH)
    paths = os.pathsep.join(filter(None, (str(hooks), os.environ.get("PYTHONPATH", ""))))
    with mock.patch.dict(os.environ, {"PYTHONPATH": paths, "WATCH_LOG": str(log)}):
        yield


def export_model(storage: Path, trial: str, to: Path, *, step: int, weights: str = "weights") -> None:
    """A made-up model of a trial, and the note that an export leaves of it."""
    to.mkdir(exist_ok=True)
    (to / "model.safetensors").write_text(weights)
    (to / "config.json").write_text("{}")
    note = Storage(storage).exports / f"{trial}.json"
    note.parent.mkdir(exist_ok=True)
    files = ["model.safetensors", "config.json", "model.onnx"]
    note.write_text(json.dumps({"model": str(to), "files": files, "step": step, "scores": "student/"}))


def draw_pictures(ledger: Path) -> None:
    """The picture files that a ledger names."""
    folders = {}
    for line in ledger.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "start":
            folders[event["key"]] = ledger.parent / event["folder"]
        for name in event.get("pictures", {}).values():
            path = folders[event["key"]] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 32), (128, 64, 128)).save(path)


def asked(address: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """What an MLflow server's REST interface answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def failing_server() -> AbstractContextManager[str]:
    """A server that answers everything with 500."""
    return answering_server(500, b"")


@contextmanager
def answering_server(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            return

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


@contextmanager
def hanging_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def no_web_server() -> Iterator[str]:
    """Something that greets whoever connects, and speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            with suppress(OSError):  # until it is closed
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-none\r\n")
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(4096):
                            pass

        threading.Thread(target=greet, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def dead_address() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    return f"http://127.0.0.1:{port}"
