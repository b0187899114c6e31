"""MLflow as a mirror of the ledger: the driver's side of it, which imports no MLflow and never waits for one.

A process of its own (`mfm_tune.tracking.process`) follows the ledger and writes to a SQLite file in the storage folder,
or to a tracking server. What it could not deliver before the driver went away is delivered by the next run's mirror, or
by `python -m mfm_tune.sync`. How much of the ledger MLflow has is kept in MLflow itself, in each run.

Beside the ledger lie `mlflow.db`, `artifacts/`, and `tracking/` with the mirror's lock, state and log.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mfm_tune.ledger.file import FILE_NAME
from mfm_tune.ledger.storage import Storage, replacing
from mfm_tune.ledger.uri import OPTION, check_uri, is_server, without_password
from mfm_tune.tracking.database import check_path, sqlite_path, sqlite_uri

SLOW_S = 10.0  # a mirror that has not moved for this long, with lines before it, is called behind
GRACE_S = 2.0  # between asking a mirror to end and ending it

# Telemetry off unless the user's environment says otherwise; short waits, because the mirror itself tries again.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def quiet_environment() -> dict[str, str]:
    """The environment of every process that imports MLflow; what the user has set stays."""
    repository = str(Path(__file__).resolve().parents[2])
    paths = [repository, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


@dataclass(frozen=True)
class Target:
    """Where a storage folder is mirrored to, and where the mirror keeps its own files.

    Args:
        storage: The storage folder, absolute.
        given: A tracking server or database, or None: a SQLite file in the storage folder.

    Raises:
        OptionError: `given` is no URI of a server or database.
        StorageError: The folder's path is one that a SQLite file cannot have, or MLflow cannot take.
    """

    storage: Path
    given: str | None = None

    def __post_init__(self) -> None:
        if self.given is None:
            check_path(self.storage / "mlflow.db")
        else:
            check_uri(self.given)

    @property
    def uri(self) -> str:
        """The tracking URI for MLflow."""
        return sqlite_uri(self.storage / "mlflow.db") if self.given is None else self.given

    @property
    def place(self) -> str:
        """The SQLite file, or the URI without its password: as it is printed."""
        return str(self.database or without_password(self.uri))

    @property
    def database(self) -> Path | None:
        """The SQLite file, where there is one."""
        return sqlite_path(self.uri)

    @property
    def served(self) -> bool:
        """Whether it is a server, which takes artefacts too."""
        return is_server(self.uri)

    @property
    def artifacts(self) -> Path:
        """Where artefacts lie when no server takes them."""
        return self.storage / "artifacts"

    @property
    def ledger(self) -> Path:
        return self.storage / FILE_NAME

    @property
    def folder(self) -> Path:
        """The mirror's own files."""
        return self.storage / "tracking"

    @property
    def state(self) -> Path:
        """The state of the mirror that runs, or ran last."""
        return self.folder / f"{self._name}.state"

    @property
    def lock(self) -> Path:
        """Held by the one mirror."""
        return self.folder / f"{self._name}.lock"

    @property
    def log(self) -> Path:
        """What went wrong, for people."""
        return self.folder / f"{self._name}.log"

    @property
    def ui_log(self) -> Path:
        """What the server of `mfm_tune.ui` printed."""
        return self.folder / "ui.log"

    @property
    def _name(self) -> str:
        """The same whatever the password is: nobody can try passwords on it, and a new one keeps the files."""
        return "local" if self.given is None else hashlib.sha256(without_password(self.given).encode()).hexdigest()[:12]


# --------------------------------------------------------------------------------------------------------------------
# The mirror's small files
# --------------------------------------------------------------------------------------------------------------------


def ledger_identity(path: Path) -> str:
    """Twelve digits that tell this ledger from others, wherever it is moved to; empty while it has no first line."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError:
        return ""
    return hashlib.sha256(first).hexdigest()[:12] if first.endswith(b"\n") else ""


@dataclass(frozen=True, kw_only=True)
class MirrorState:
    """How a mirror is doing; `word` is empty while all is well, `time` in seconds since the epoch.

    `detail` is then what was done to a damaged database and which experiments get nothing, if anything; else it is the
    last line of the error. `exports` is the state of the exports (`state_of_exports`) that are delivered.
    """

    pid: int
    word: str
    detail: str
    offset: int
    time: float
    exports: str = ""


def read_state(target: Target) -> MirrorState | None:
    """What the mirror that runs, or ran last, wrote of itself."""
    try:
        return MirrorState(**json.loads(target.state.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_state(target: Target, *, word: str, detail: str, offset: int, exports: str) -> None:
    """Write how this process is doing. What cannot be written is left out: it is a word for a display."""
    state = MirrorState(pid=os.getpid(), word=word, detail=detail, offset=offset, time=time.time(), exports=exports)
    with suppress(OSError), replacing(target.state) as temporary:
        temporary.write_text(json.dumps(asdict(state)))


def ledger_size(target: Target) -> int:
    """Bytes of the ledger."""
    try:
        return target.ledger.stat().st_size
    except OSError:
        return 0


def caught_up(target: Target) -> bool:
    """Whether the whole ledger is delivered, by what the last mirror said, and no trial was exported since."""
    state = read_state(target)
    if state is None or state.word or state.offset != ledger_size(target):
        return False
    return state.exports == state_of_exports(target)


def state_of_exports(target: Target) -> str:
    """Twelve digits that change with every export of a trial; empty while there is none."""
    notes = sorted(Storage(target.storage).exports.glob("*.json"))
    with suppress(FileNotFoundError):  # a note that is removed while this looks
        lines = "".join(f"{note.name} {note.stat().st_mtime_ns}\n" for note in notes)
        return hashlib.sha256(lines.encode()).hexdigest()[:12] if lines else ""
    return "changing"


# --------------------------------------------------------------------------------------------------------------------
# The driver's handle
# --------------------------------------------------------------------------------------------------------------------


class Mirror:
    """A mirror process. It ends when the driver does: its standard input closes, however the driver goes away."""

    def __init__(self, target: Target, process: subprocess.Popen[bytes] | None) -> None:
        self.target = target
        self._process = process

    def lag(self) -> str:
        """One word on how the mirror is doing, empty while it keeps up: `starting`, `behind`, `unreachable`, ..."""
        if self._process is None or self._process.poll() is not None:
            return "stopped"
        state = read_state(self.target)
        if state is None or state.pid != self._process.pid:
            return "starting"
        if state.word:
            return state.word
        return "behind" if state.offset < ledger_size(self.target) and time.time() - state.time > SLOW_S else ""

    def finish(self, timeout_s: float) -> None:
        """Wait until the mirror has caught up, at most so long; then end it, and print what is still missing."""
        if self._process is not None:
            try:
                with suppress(subprocess.TimeoutExpired):
                    self._process.communicate(timeout=timeout_s)  # closes its input
            finally:
                end(self._process, GRACE_S)
        state = read_state(self.target)
        if state is not None and self._process is not None and state.pid == self._process.pid and not state.word:
            print(state.detail, end="\n" if state.detail else "", flush=True)
        if not caught_up(self.target):
            print(_what_is_missing(self.target), flush=True)


def start_mirror(storage_root: Path, tracking_uri: str | None) -> Mirror:
    """Start the mirror of a storage folder. A machine that cannot start it runs its trials all the same.

    Raises:
        OptionError: `tracking_uri` is no URI of a server or database.
    """
    target = Target(storage_root.absolute(), tracking_uri)
    command = [sys.executable, "-m", "mfm_tune.tracking.process", "--storage", str(target.storage)]
    try:
        target.folder.mkdir(parents=True, exist_ok=True)
        with target.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=quiet_environment(),
                start_new_session=True,  # Ctrl-C at the terminal is the driver's alone
            )
        _tell_uri(process, tracking_uri)
    except OSError:
        return Mirror(target, None)
    return Mirror(target, process)


def _tell_uri(process: subprocess.Popen[bytes], tracking_uri: str | None) -> None:
    """Through the pipe, because every user of the machine can read command lines, and it may hold a password."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # a mirror that ended already is found by `lag`
            process.stdin.write(f"{tracking_uri or ''}\n".encode())
            process.stdin.flush()


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a process and its children, which are a session of their own, so nobody else's processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _what_is_missing(target: Target) -> str:
    state = read_state(target)
    why = f" ({state.word})" if state and state.word else ""
    uri = [] if target.given is None else [OPTION, without_password(target.given)]
    command = shlex.join(["python", "-m", "mfm_tune.sync", "--storage", str(target.storage), *uri])
    return f"MLflow is behind the ledger{why}; nothing is lost: the next run delivers the rest, or: {command}"
