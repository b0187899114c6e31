"""The exception tree.

UserError                 one sentence, exit code 2
├── SearchSpaceError      the search-space file is wrong
├── OptionError           a command-line option is wrong
├── StorageError          the storage folder cannot be used
│   └── StorageBusyError  another driver holds it
├── NodeError             a node of the cluster lacks what trials need; one sentence for each node and thing
└── ChangedCodeError      finished trials were trained by other code
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mfm_tune.fields import STEERING

T = TypeVar("T")
U = TypeVar("U")
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LONGEST_WORD, LONGEST_SENTENCE = 300, 1500  # characters that are printed


class UserError(Exception):
    """Bad input: the message is one sentence with field, value, allowed range and remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class SearchSpaceError(UserError):
    """A search space cannot be read, or what it declares contradicts itself."""


class OptionError(UserError):
    """A command-line option has a value that cannot be used."""


class StorageError(UserError):
    """The storage folder is missing, read-only, full or of another version."""


class StorageBusyError(StorageError):
    """Another driver is running on the same storage folder."""


class NodeError(UserError):
    """Nodes of a cluster lack the storage, the code or the data: one sentence a line."""


class ChangedCodeError(UserError):
    """Finished trials carry another fingerprint of the training code."""


@contextmanager
def storage_error(failed: str, remedy: str = "free space, or give another --storage") -> Iterator[None]:
    """Within, an OSError becomes a `StorageError`: what failed, what the system says of it, and the remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{failed}: {error.strerror}; {remedy}.") from error


def disk_full(error: BaseException, place: object) -> str:
    """Why no trial can go on where a disk is full (each would only train up to its first checkpoint), one sentence.

    Args:
        error: What a trial raised; the answer to anything else is empty.
        place: Where the trial writes, for an error that names no file.
    """
    if not isinstance(error, OSError) or error.errno not in DISK_FULL:
        return ""
    return (
        f"The disk is full, {error.filename or place} cannot be written: {error.strerror}; free space, or give another "
        "--storage."
    )


def printable(text: str) -> str:
    """A text as it may be printed: control characters are escaped, and what is very long has its middle left out."""
    safe = STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    short = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: _without_middle(word[0], LONGEST_WORD), safe)
    return "\n".join(_without_middle(line, LONGEST_SENTENCE) for line in short.split("\n"))


def last_line(text: str) -> str:
    """The last line of a traceback that is not blank."""
    lines = [line.strip() for line in printable(text).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"


def _without_middle(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]}...{text[-(longest // 4) :]}"


def in_words(error: BaseException) -> str:
    """What an error of a search space says: that of wrong settings its sentence, any other its type as well."""
    text = _text(error)
    return text if isinstance(error, UserError | ValueError) and text else f"{typed(error)}; correct the file."


def asked(function: Callable[[T], U], value: T, where: str) -> U:
    """What a function of a search space answers.

    Raises:
        SearchSpaceError: It raised, or wanted to end the process; the sentence says where.
    """
    try:
        return function(value)
    except SearchSpaceError:
        raise
    except (Exception, SystemExit) as error:
        raise SearchSpaceError(f"{where}: {in_words(error)}") from error


def typed(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero`."""
    return printable(": ".join(filter(None, (type(error).__name__, _text(error)))))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an error of a search space may have any class
        return "(it cannot be printed)"
