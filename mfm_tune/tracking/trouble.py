"""What goes wrong with a store, sorted: what is tried again, what is final, and a store that is another one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")
GONE = "RESOURCE_DOES_NOT_EXIST"
OTHER_VERSION = (
    "Another version of MLflow wrote the database; bring it up to date with 'mlflow db upgrade', or move it away and "
    "give the same command again: the ledger is then delivered anew"
)


class TroubleError(Exception):
    """The store does not answer as it should; what was asked for is asked again later.

    Args:
        word: One word for a display.
    """

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail)
        self.word = word


class ArtifactTroubleError(TroubleError):
    """The store takes runs, and does not take files."""


class RefusedError(Exception):
    """The store will never take this; the rest goes on."""


class UnusableError(RefusedError):
    """The store takes nothing until somebody has mended it; the message is one sentence with the remedy."""

    word = "unusable"


class VanishedError(Exception):
    """The store lacks what this mirror wrote to it: another one, or emptied. Everything is delivered again."""


@contextmanager
def as_trouble() -> Iterator[None]:
    """Sort MLflow's errors into those to be tried again, those that are final, and a store that is another one."""
    try:
        yield
    except MlflowException as error:
        detail = str(error)[:2000]
        if "database schema" in detail:
            raise UnusableError(f"{OTHER_VERSION} ({detail.splitlines()[0]})") from error
        if error.error_code in REFUSALS:
            raise RefusedError(detail) from error
        if error.error_code == GONE:
            raise VanishedError(detail) from error
        raise TroubleError(word_for(detail), detail) from error
    except (OSError, sqlite3.Error) as error:
        raise TroubleError(word_for(str(error)), f"{type(error).__name__}: {error}") from error


def word_for(detail: str) -> str:
    """One word for a display."""
    if "is locked" in detail:
        return "locked"
    if "malformed" in detail or "not a database" in detail:
        return "damaged"  # while it was in use; the next mirror makes it anew
    if "is full" in detail or "No space left" in detail:
        return "full"
    if "error code 40" in detail or ("40" in detail[:60] and "denied" in detail):
        return "refused"
    return "unreachable" if "http" in detail.lower() or "connect" in detail.lower() else "failing"
