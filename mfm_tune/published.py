"""What a paper prints beside what is trained: numbers, OOM, notes. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mfm_tune.digits import number
from mfm_tune.errors import SearchSpaceError
from mfm_tune.fields import Number, OneLine, Settings, shown


class OutOfMemory(Enum):
    """The paper prints a cell as out of memory: a result, not a gap."""

    OOM = "OOM"


OOM: Final = OutOfMemory.OOM


class Declared(Settings):
    """A part of a search space, checked as the configs of training are."""

    __slots__ = ()
    refusal = SearchSpaceError


def check_line(text: object, where: str) -> None:
    """Raise `SearchSpaceError` unless a text fits in a line of a table, a terminal and a file."""
    if not OneLine().fits(text):
        raise SearchSpaceError(f"{where} must {OneLine().wanted}, got {shown(text)}.")


@dataclass(frozen=True, kw_only=True)
class Published(Declared):
    """A published row.

    Args:
        miou: The mean, percent; None where the paper prints no such row, and the note is all that there is.
        columns: Where printed, one value a column.
        note: On what base and by which recipe it was trained, or what is wrong with it; printed as a footnote.
    """

    miou: float | None = None
    columns: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def __hash__(self) -> int:
        return hash((self.miou, tuple(sorted(self.columns.items())), self.note))


Paper = float | OutOfMemory | Published | None


def paper_number(paper: Paper) -> float | None:
    """The paper's number; None for OOM and where it prints nothing."""
    number = paper.miou if isinstance(paper, Published) else paper
    return None if number is None or isinstance(number, OutOfMemory) else float(number)


def paper_text(paper: Paper, digits: int | None = 1) -> str:
    """What the paper prints for a cell: a number with so many decimals, `OOM`, or nothing."""
    if isinstance(paper, OutOfMemory):
        return paper.value
    value = paper_number(paper)
    return "" if value is None else number(value, digits)


def paper_notes(paper: Paper) -> tuple[str, ...]:
    """What a reader must know of a published row, as footnotes."""
    return (paper.note,) if isinstance(paper, Published) and paper.note else ()


def check_paper(axis: str, level: str, paper: Paper) -> None:
    """Raise `SearchSpaceError` unless the paper's number of a level is a percentage, `OOM` or nothing."""
    number = paper.miou if isinstance(paper, Published) else paper
    if number is not None and not isinstance(number, OutOfMemory) and not Number(0, 100).fits(number):
        raise SearchSpaceError(
            f"Axis '{axis}', level {level}: the paper's number must lie in 0 to 100 (percent), got {number}; "
            "write None where the paper prints nothing, OOM where it prints that."
        )
