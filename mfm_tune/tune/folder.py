"""The temporary folder of a Ray of our own: nobody else can enter it, and no later than the next run it is gone.

Ray makes its own folders writable for everybody, so they lie within one that is closed. A lock on a file in it, which
the operating system takes from a process that ends however, tells a folder in use from what a killed run has left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mfm_tune.errors import OptionError, UserError

PREFIX = "mfm-ray-"
LOCK = "lock"
SESSIONS = "r"  # what Ray is given, and opens to everybody
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # the longest path of a Unix socket
BELOW = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # Ray's longest socket
LONGEST = SOCKET_BYTES - len(f"/{PREFIX}12345678/{SESSIONS}{BELOW}")  # bytes of the folder in which ours is made
REMOVALS = 10  # tries: processes that are about to end may write a last line


@contextmanager
def private_folder() -> Iterator[Path]:
    """A path for Ray's sessions in a new folder with mode 0700, which is removed at the end.

    It lies in `RAY_TMPDIR` where that is set, else in the system's folder for temporary files, or in /tmp where the
    path of that is too long for the sockets of Ray. What killed runs have left there is removed first.

    Raises:
        UserError: No folder that is short enough can be written.
    """
    folder, lock = _new_folder()
    try:
        for other in folder.parent.glob(f"{PREFIX}*"):
            _remove_if_abandoned(other)
        yield folder / SESSIONS
    finally:
        _remove(folder)
        os.close(lock)


def _new_folder() -> tuple[Path, int]:
    """A new folder, and the file descriptor that holds its lock."""
    wrong: list[str] = []
    for base in _bases():
        try:
            return _locked_folder(base)
        except OSError as error:
            wrong.append(f"{base}: {error.strerror}")
    said = f" ({', '.join(wrong)})" if wrong else ""
    raise UserError(
        f"Ray needs a folder for temporary files with a path of at most {LONGEST} bytes, and there is none{said}; "
        "set RAY_TMPDIR to one that can be written, or give --inline."
    )


def _bases() -> list[str]:
    """Where the folder may lie: as the user says, else the first place whose path is short enough."""
    named = os.environ.get("RAY_TMPDIR")
    if named:
        if len(os.fsencode(named)) > LONGEST or not os.path.isabs(named):
            raise OptionError(
                f"RAY_TMPDIR must be an absolute path of at most {LONGEST} bytes, because Ray's sockets lie below it, "
                f"got '{named}'; name a shorter one, or unset it."
            )
        return [named]
    with suppress(OSError):
        standard = tempfile.gettempdir()
        return [base for base in dict.fromkeys((standard, "/tmp", "/var/tmp")) if len(os.fsencode(base)) <= LONGEST]
    return []


def _locked_folder(base: str) -> tuple[Path, int]:
    while True:  # until no other run has taken it for abandoned before it was locked
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK).exists():
            return folder, lock
        os.close(lock)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder of this user's whose run has ended. Any other is left alone."""
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or stat.S_IMODE(about.st_mode) != 0o700 or about.st_uid != os.geteuid():
            return
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return  # gone by now, or none of ours
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder, its lock last, so that what is left of it is found by the next run."""
    for part in (folder / SESSIONS, folder):
        for _ in range(REMOVALS):
            shutil.rmtree(part, ignore_errors=True)
            if not part.exists():
                break
            time.sleep(0.2)
