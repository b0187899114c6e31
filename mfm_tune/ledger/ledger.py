"""A ledger that is open for writing: the file and what its lines add up to, kept equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState, read_ledger


@dataclass(frozen=True)
class Ledger:
    """An open ledger. Every event of a driver passes through `append`.

    Args:
        writer: Writes to the file.
        state: What the lines of the file add up to.
    """

    writer: LedgerWriter
    state: LedgerState

    def append(self, event: Event) -> None:
        """Write an event and take it in.

        Raises:
            StorageError: The storage is full or gone, or no reader would take the event; it is then not in the ledger.
        """
        self.state.apply(self.writer.append(event))


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """A ledger, read and open for writing; it is closed at the end. A file is made where there is none.

    Raises:
        StorageError: The file cannot be written or read, or is no ledger of this version.
    """
    with closing(LedgerWriter(path)) as writer:
        yield Ledger(writer, read_ledger(path))
