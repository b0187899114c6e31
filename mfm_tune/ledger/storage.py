"""The storage folder: where things lie, whether it can be written, and who holds it.

    ledger.jsonl    the truth; beside it ledger.jsonl.cut-TIME, where a last line was torn
    driver.lock     held by the one driver; driver.json says who it is
    trials/         a folder a trial: checkpoint, final weights, pictures
    shared/         artefacts that trials share (warm starts)
    reports/        a folder a study and profile
    exports/        a note a trial that was exported as a model: where the model lies

Paths in the ledger are relative to the folder, so it can be moved.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mfm_tune.errors import StorageBusyError, StorageError, storage_error
from mfm_tune.fields import FileName
from mfm_tune.ledger.file import FILE_NAME

FREE_SPACE = 64 * 2**20  # bytes; a launch on the embedded benchmark writes about this much


@dataclass(frozen=True, kw_only=True)
class Export:
    """The model that a trial was exported as, last.

    Args:
        model: Its folder, absolute.
        files: Names that its files have, of which some may not be there; what else lies in the folder is not of it.
        step: The trial's step whose weights it has.
        scores: Beginning of those metrics of the trial that are of the exported network: `student/`.
        loader: The module with a `_load_pyfunc(path)` that reads the folder; None where there is none.
    """

    model: Path
    files: tuple[str, ...]
    step: int
    scores: str
    loader: str | None = None


@dataclass(frozen=True)
class Storage:
    """Where things lie in a storage folder. Nothing is created by asking."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / FILE_NAME

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    def trial(self, folder: str) -> Path:
        """A trial's folder; `folder` is relative, as the ledger has it."""
        return self.root / folder

    def error_file(self, folder: str) -> Path:
        """Where the traceback of a failed trial lies."""
        return self.trial(folder) / "error.txt"

    @property
    def exports(self) -> Path:
        """Notes of exported models, `TRIAL_KEY.json`."""
        return self.root / "exports"

    def export_of(self, trial_key: str) -> Export | None:
        """Where the model of a trial lies; None where it was not exported, or its note cannot be read."""
        try:
            note = json.loads((self.exports / f"{trial_key}.json").read_bytes())
            model, step, scores, loader = (note.get(name) for name in ("model", "step", "scores", "loader"))
            return Export(
                model=Path(model),
                files=tuple(Path(name).name for name in note.get("files")),
                step=int(step),
                scores=str(scores),
                loader=loader and str(loader),
            )
        except (OSError, ValueError, AttributeError, TypeError):
            return None

    def report(self, study: str, profile: str) -> Path:
        """The folder of a study's report.

        Raises:
            StorageError: The names lead elsewhere; a search space is refused before, so a ledger was edited.
        """
        for name in (study, profile):
            if not FileName().fits(name):
                raise StorageError(f"The name of a study or profile must {FileName().wanted}, got {name!r}.")
        return self.root / "reports" / f"{study}-{profile}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path in the same folder, which is made where needed; the file written there becomes `path` at the end,
    whole or not at all.

    Raises:
        OSError: It cannot be written; what was at `path` is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.new")  # short: the name itself may be as long as names can be
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Holder:
    """The driver that holds a storage folder; `since` in seconds since the epoch."""

    host: str
    pid: int
    since: float


@contextmanager
def driver(storage: Storage) -> Iterator[None]:
    """Hold a storage folder as its one driver; it is created where it does not exist.

    The lock is the operating system's, so it ends with the process that holds it, however that ends: what a killed
    driver left behind is taken over.

    Raises:
        StorageBusyError: Another driver holds it; the sentence names its host and pid.
        StorageError: The folder cannot be written, or its disk is full.
    """
    from filelock import FileLock, Timeout  # not needed to plan

    check_writable(storage)
    lock = FileLock(storage.root / "driver.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise _busy(storage) from None
    except (OSError, NotImplementedError) as error:
        raise StorageError(
            f"The storage folder {storage.root} cannot be locked ({error}); give a --storage on a disk with file locks."
        ) from error
    try:
        _say_who(storage)
        yield
    finally:
        with suppress(OSError):
            _holder_file(storage).unlink(missing_ok=True)
        lock.release()


def check_writable(storage: Storage) -> None:
    """Create the folder where needed, and see that there is space and that a file can be written.

    Raises:
        StorageError: It cannot be created or written, or its disk is (nearly) full.
    """
    probe = storage.root / f".probe-{os.getpid()}"
    try:
        with storage_error(
            f"The storage folder {storage.root} cannot be written", "make it writable, or give another --storage"
        ):
            if storage.root.exists() and not storage.root.is_dir():
                raise StorageError(f"The storage {storage.root} is a file, not a folder; give another --storage.")
            storage.root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(storage.root).free
            if free < FREE_SPACE:
                raise StorageError(
                    f"The storage folder {storage.root} has {free // 2**20} MiB of free space, and at least "
                    f"{FREE_SPACE // 2**20} MiB are needed; free some, or give another --storage."
                )
            probe.write_bytes(b"probe")
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def holder(storage: Storage) -> Holder | None:
    """Who holds the storage, or held it last without giving it back; None where nobody says so."""
    try:
        said = json.loads(_holder_file(storage).read_bytes())
        return Holder(host=str(said["host"]), pid=int(said["pid"]), since=float(said["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holder_file(storage: Storage) -> Path:
    return storage.root / "driver.json"


def _say_who(storage: Storage) -> None:
    failed = f"The storage folder {storage.root} cannot be written"
    with storage_error(failed), replacing(_holder_file(storage)) as temporary:
        temporary.write_text(json.dumps(asdict(Holder(socket.gethostname(), os.getpid(), time.time()))))


def _busy(storage: Storage) -> StorageBusyError:
    who = holder(storage)
    by = f"the driver with pid {who.pid} on {who.host}" if who else "another driver"
    return StorageBusyError(
        f"The storage folder {storage.root} is in use by {by}; wait until it ends, stop it with Ctrl-C, "
        "or give another --storage."
    )
