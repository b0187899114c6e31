"""What the numbers of a study say, in words: which of the paper's directions hold, and what was not shown.

A direction is the sign of a difference between two configs that the paper prints numbers for. It holds here where the
whole 95 % interval of the paired difference has that sign. An interval that contains 0 shows neither that there is a
difference nor that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mfm_tune.results.statistics import Paired, Verdict
from mfm_tune.results.study import CellResult, Comparison, Results, TableResult

OWN = "a row's own reference"
TIE = 0.05  # percent: the paper prints one decimal, so a smaller difference is none


class Direction(Enum):
    """What the seeds say of a direction that the paper prints."""

    HOLDS = "holds"  # the whole interval has the paper's sign
    SAME_SIGN = "same sign, not shown"
    OTHER_SIGN = "other sign, not shown"
    CONTRADICTED = "contradicted"  # the whole interval has the other sign
    EQUAL = "no difference at all"  # the two are equal on every seed
    OPEN = "not measured"  # no seed has both


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The paper's difference between two configs (`first` minus `second`), and ours."""

    first: str
    second: str
    reference: str  # the reference's name under which it was found, or that it is the row's own
    paper: float
    paired: Paired

    @property
    def direction(self) -> Direction:
        """Whether the paper's sign is seen."""
        mean = self.paired.mean
        if mean is None:
            return Direction.OPEN
        if not any(self.paired.per_seed.values()):
            return Direction.EQUAL
        if self.paired.verdict is not Verdict.NOT_SHOWN:
            same = (self.paired.verdict is Verdict.BETTER) == (self.paper > 0)
            return Direction.HOLDS if same else Direction.CONTRADICTED
        return Direction.SAME_SIGN if mean * self.paper > 0 else Direction.OTHER_SIGN


def claims(results: Results) -> tuple[Claim, ...]:
    """Every difference that the paper prints, once, in printing order; ties of the paper are left out."""
    found: dict[tuple[frozenset[str], str], Claim] = {}
    for table, cell, comparison in _compared(results):
        if comparison.paper is None or abs(comparison.paper) < TIE:
            continue
        pair = (frozenset((cell.cell.config_id, comparison.config_id)), table.metric)
        claim = Claim(
            first=results.name_of(cell.cell.config_id),
            second=comparison.name,
            reference=OWN if comparison is cell.own else comparison.name,
            paper=comparison.paper,
            paired=comparison.paired,
        )
        found.setdefault(pair, claim)
    return tuple(found.values())


def _compared(results: Results) -> Iterator[tuple[TableResult, CellResult, Comparison]]:
    for table in results.tables:
        for cell in table.cells:
            for comparison in cell.all_comparisons:
                yield table, cell, comparison
