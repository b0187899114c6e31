"""The ledger's file: lines are read and written whole.

A line is written in one piece. Where the machine went down in the middle of one, readers leave it out, and the next
driver moves it to a file beside the ledger. What cannot be the beginning of a line of ours is never moved: it may be
results that something else damaged, so the ledger is refused and left as it is.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from mfm_tune.errors import StorageError, storage_error
from mfm_tune.ledger.schema import Event, fault

VERSION = 1
FILE_NAME = "ledger.jsonl"
SYNCED = frozenset({"end", "proposal", "selection", "first_stage"})
HEAD = b'{"event":"ledger","version":'  # every ledger begins so,
BEGIN = b'{"event":"'  # and every line
LONGEST_TORN = 65536  # bytes of a torn line that may be longer than all before it


# --------------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------------


def read_events(path: Path) -> Iterator[tuple[int, Event]]:
    """The events of a ledger with their line numbers, a torn last line left out.

    Raises:
        StorageError: The file cannot be read, is of another version, holds a broken line that is not its last, or ends
            in what is no beginning of a line.
    """
    with _readable(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
    for number, line in enumerate(_lines(path, content)[0], start=1):
        if not line.strip():
            continue
        try:
            event = event_of(line)
        except ValueError as error:
            raise broken_line(path, number, str(error)) from error
        yield number, event


def event_of(line: bytes) -> Event:
    """The event of a whole line.

    Raises:
        ValueError: It is no event, or a field holds what it must not; the message says which, without a full stop.
    """
    event = _parsed(line)
    why = "it is no JSON object with the key 'event'" if event is None else fault(event)
    if event is None or why is not None:
        raise ValueError(why)
    return event


def check_version(line: bytes) -> None:
    """Raise a ValueError, with what was found, unless the first line of a ledger is of this version."""
    head = _parsed(line) or {}
    version = head.get("version")
    if head.get("event") != "ledger" or type(version) is not int or version != VERSION:
        raise ValueError(f"must begin with version {VERSION} of the format, got {ascii(version)[:20]}")


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "event" in event else None


def broken_line(path: Path, number: int, why: str) -> StorageError:
    """The sentence about a line that cannot be used."""
    return StorageError(
        f"Line {number} of the ledger {path} is broken ({why}); restore the file from a copy, or remove that line."
    )


def _lines(path: Path, content: bytes) -> tuple[list[bytes], bytes]:
    """The whole lines, a last one that lacks nothing but its end among them, and the torn one after them.

    Raises:
        StorageError: They are of another version, or what follows the last line end cannot be a torn line.
    """
    *lines, tail = content.split(b"\n")
    if tail and _parsed(tail) is not None:
        lines, tail = [*lines, tail], b""
    if lines:
        _check_version(path, lines[0])
    if tail and not _is_torn(tail, lines):
        raise StorageError(
            f"The last line of the ledger {path} ({len(tail)} bytes from byte {len(content) - len(tail)} on) has no "
            "end, and is no line of a ledger that was cut off while it was written; restore the file from a copy, "
            "or remove these bytes."
        )
    return lines, tail


def check_ledger(path: Path) -> None:
    """See that there is a ledger, and of this version as far as its first line is written.

    Raises:
        StorageError: There is none, it cannot be read, or it is of another version.
    """
    with _readable(path):
        if not path.is_file():
            raise StorageError(f"There is no ledger in {path.parent}; give the --storage of a run.")
        with path.open("rb") as file:
            first = file.readline()
    if first.endswith(b"\n"):
        _check_version(path, first)


def _readable(path: Path) -> AbstractContextManager[None]:
    return storage_error(f"The ledger {path} cannot be read", "give a readable --storage")


def _check_version(path: Path, line: bytes) -> None:
    try:
        check_version(line)
    except ValueError as error:
        raise StorageError(
            f"The ledger {path} {error}; use the version of mfm_tune that wrote it, or another --storage."
        ) from error


def _is_torn(tail: bytes, lines: Sequence[bytes]) -> bool:
    """Whether bytes can be what is left of one line of ours: its beginning, and nothing after a whole object."""
    begin = BEGIN if lines else HEAD
    longest = max(LONGEST_TORN, max(map(len, lines), default=0))
    text = tail.decode("ascii", "replace")
    printable = text.isascii() and text.isprintable()  # JSON escapes all others, line ends of every kind among them
    return printable and len(tail) <= longest and begin[: len(tail)] == tail[: len(begin)] and not _holds_object(text)


def _holds_object(text: str) -> bool:
    try:
        json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


# --------------------------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------------------------


def encoded(event: Event) -> bytes:
    """One event as a line: compact JSON; NaN and infinities as the strings `nan`, `inf`, `-inf`."""
    return _line(_finite(event))


def _line(finite: Event) -> bytes:
    return json.dumps(finite, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(float(value))
        case dict():
            return {str(key): _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case _:
            return value


class LedgerWriter:
    """Appends events to a ledger. One writer at a time: the driver that holds the storage's lock.

    A new file begins with the format's version. A file that is there stays as it is until the first event, so that a
    launch that is refused before then changes nothing.

    Raises:
        StorageError: The file cannot be written (read-only, full), or is none that `read_events` takes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mended = False
        self._failed = f"The ledger {path} cannot be written"
        with storage_error(self._failed):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            with storage_error(self._failed):
                self._open()
        except BaseException:
            os.close(self._file)
            raise

    def append(self, event: Event) -> Event:
        """Write one event with the time now, and return it as written. What must not be lost (`SYNCED`) is on the disk
        when this returns.

        Raises:
            StorageError: The storage is full or gone, or no reader would take the event; it is then not in the ledger.
        """
        self.mend()
        timed = {**event, "time": time.time_ns() // 1_000_000}
        finite = _finite(timed)
        why = fault(finite)
        if why is not None:
            raise StorageError(f"The ledger takes no event in which {why}; correct the program that reports it.")
        with storage_error(self._failed):
            self._write(_line(finite))
            if event["event"] in SYNCED:
                os.fsync(self._file)
        return timed

    def mend(self) -> Path | None:
        """End the file with a whole line: one that is complete but for its end is kept, a torn one is moved away.

        Returns:
            The file beside the ledger that now holds the torn line; None where there was none. Later calls do nothing.

        Raises:
            StorageError: The storage is full or gone; the ledger is then as it was.
        """
        if self._mended:
            return None
        with storage_error(self._failed):
            kept = self._mend()
        self._mended = True
        return kept

    def close(self) -> None:
        """Put everything on the disk and close the file. A second call does nothing."""
        if self._file < 0:
            return
        try:
            with storage_error(self._failed):
                os.fsync(self._file)
        finally:
            os.close(self._file)
            self._file = -1

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._mended = False  # where the half line cannot be taken back now, the next event moves it away
            with suppress(OSError):  # what is wrong is said by the first error
                os.ftruncate(self._file, size)  # no half line stays behind
            raise

    def _open(self) -> None:
        size = os.fstat(self._file).st_size
        if not size:
            self.append({"event": "ledger", "version": VERSION})
        elif self._ends_whole(size):
            _check_version(self.path, os.pread(self._file, 4096, 0).split(b"\n", 1)[0])
        else:
            _lines(self.path, self.path.read_bytes())

    def _ends_whole(self, size: int) -> bool:
        return not size or os.pread(self._file, 1, size - 1) == b"\n"

    def _mend(self) -> Path | None:
        size = os.fstat(self._file).st_size
        if self._ends_whole(size):
            return None
        _, tail = _lines(self.path, self.path.read_bytes())
        if not tail:
            self._write(b"\n")
            return None
        kept = self.path.with_name(f"{self.path.name}.cut-{time.strftime('%Y%m%dT%H%M%S')}")
        with kept.open("ab") as file:  # of a second launch in the same second, too
            file.write(tail + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._file, size - len(tail))
        if size == len(tail):
            self._write(encoded({"event": "ledger", "version": VERSION, "time": time.time_ns() // 1_000_000}))
        return kept
