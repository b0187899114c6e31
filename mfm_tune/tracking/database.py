"""The SQLite file that MLflow writes to: its URI, what is wrong with it, and setting it aside. Imports no MLflow."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

from mfm_tune.errors import StorageError

LOCK_S = 5.0  # how long opening a file waits for a lock
LONGEST_PATH = 470  # bytes; SQLite takes 512, names that it and we add included
COMPANIONS = ("", "-journal", "-wal", "-shm")  # a journal that stayed behind would be played into the next file


def sqlite_uri(path: Path) -> str:
    """A file's URI for MLflow. Slashes are quoted too: MLflow makes the folder in which the URI's text seems to lie."""
    return f"sqlite:///{quote(os.fsencode(path), safe='')}"


def sqlite_path(uri: str) -> Path | None:
    """The file that a URI names; None for other databases and for one in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    return Path(path).absolute() if scheme.partition("+")[0] == "sqlite" and path not in ("", ":memory:") else None


def check_path(path: Path) -> None:
    """Raise a StorageError where SQLite cannot have a file of this name, or MLflow cannot take it."""
    name = os.fsencode(path)
    if len(name) > LONGEST_PATH:
        raise StorageError(
            f"MLflow's database in the storage folder would have a path of {len(name)} bytes, and at most "
            f"{LONGEST_PATH} are possible; give a --storage with a shorter path, --tracking-uri or --no-tracking."
        )
    try:
        name.decode()
    except UnicodeDecodeError:
        raise StorageError(
            f"The path of the storage folder must be UTF-8 for MLflow, got {name!r}; give another --storage, "
            "--tracking-uri or --no-tracking."
        ) from None


def damage(path: Path) -> str:
    """What is wrong with a database, empty where nothing is.

    It is opened for writing, so that SQLite first takes back what a writer that was killed left in the journal.

    Raises:
        sqlite3.Error: It cannot be looked at now, as where another program holds it.
    """
    if path.is_dir():
        return "it is a folder"
    try:
        with closing(connected(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            return "" if found == "ok" else str(found).splitlines()[-1]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return str(error)
        raise


def connected(path: Path) -> sqlite3.Connection:
    """An existing file, opened for reading and writing."""
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=rw", uri=True, timeout=LOCK_S)


def set_aside(path: Path) -> Path:
    """Move a file and what SQLite keeps beside it out of the way, and return its new path. Nothing is deleted."""
    to = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    for companion in COMPANIONS:
        beside = Path(f"{path}{companion}")
        if beside.exists():
            beside.replace(f"{to}{companion}")
    return to
