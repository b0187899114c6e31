"""A SQLite file that MLflow can open: made, or made anew where it is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient

from mfm_tune.ledger.storage import replacing
from mfm_tune.tracking.database import connected, damage, set_aside, sqlite_uri
from mfm_tune.tracking.trouble import UnusableError


def prepare_database(path: Path, *, ours: bool = True) -> str:
    """See that a SQLite file can be opened. A new one is made aside and renamed: a half-made one would stay shut.

    A file that is damaged, or was left half made and so holds no runs, is set aside under another name.

    Args:
        ours: Whether it is the storage folder's own mirror, which can be made anew from the ledger.

    Returns:
        What was done, in a sentence for people; empty where nothing was.

    Raises:
        UnusableError: It is damaged, and not ours.
    """
    wrong = (damage(path) or _half_made(path)) if path.exists() else ""
    if wrong and not ours:
        raise UnusableError(
            f"The database {path} is damaged ({wrong}); restore it from a copy, or move it away and give the same "
            "command again: the ledger is then delivered anew."
        )
    notice = ""
    if wrong:
        notice = (
            f"MLflow's database {path} is damaged ({wrong}); it is a mirror of the ledger and was made anew, the old "
            f"one is {set_aside(path).name}."
        )
    elif path.exists():
        return ""
    with replacing(path) as temporary:
        temporary.unlink(missing_ok=True)
        MlflowClient(tracking_uri=sqlite_uri(temporary)).search_experiments(max_results=1)
    return notice


def _half_made(path: Path) -> str:
    """What shows that a sound file was left half made: it has no runs, and MLflow cannot open it."""
    try:
        with closing(connected(path)) as database:
            if database.execute("SELECT count(*) FROM runs").fetchone()[0]:
                return ""
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return str(error)
        raise
    copy = path.with_name(f"{path.name}.check-{os.getpid()}")  # MLflow keeps a file open that it has looked at once
    try:
        shutil.copyfile(path, copy)
        MlflowClient(tracking_uri=sqlite_uri(copy)).search_experiments(max_results=1)
    except OSError:
        raise
    except Exception as error:  # MLflow's own, or what its migrations raise on tables that are there already
        return f"MLflow cannot open it: {str(error).strip().splitlines()[0][:200]}"
    finally:
        copy.unlink(missing_ok=True)
    return ""
