"""Claims of the paper beside the numbers of a study: which of its directions hold, and which are inconclusive.

A direction is the sign of a difference between two configs that the paper prints numbers for. It holds here where the
whole 95 % interval of the paired difference has that sign. An interval that contains 0 shows neither that there is a
difference nor that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import chain

from mfm_tune.results.statistics import Paired, Verdict
from mfm_tune.results.study import Results

TIE = 0.05  # percent: the paper prints one decimal, so a smaller difference is none


class Direction(Enum):
    """What the seeds show of a direction that the paper prints."""

    HOLDS = "holds"  # the whole interval has the paper's sign
    SAME_SIGN = "same sign, inconclusive"
    OTHER_SIGN = "other sign, inconclusive"
    CONTRADICTED = "contradicted"  # the whole interval has the other sign
    EQUAL = "no difference at all"  # the two are equal on every seed
    OPEN = "not measured"  # no seed has both


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The paper's difference between two configs (`first` minus `second`), and ours."""

    first: str
    second: str
    baseline: str  # the name of the column in which it was found
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
        if self.paired.verdict is not Verdict.INCONCLUSIVE:
            same = (self.paired.verdict is Verdict.BETTER) == (self.paper > 0)
            return Direction.HOLDS if same else Direction.CONTRADICTED
        return Direction.SAME_SIGN if mean * self.paper > 0 else Direction.OTHER_SIGN


def claims(results: Results) -> tuple[Claim, ...]:
    """Every difference that the paper prints, once, in printing order; ties of the paper are left out."""
    found: dict[tuple[frozenset[str], str], Claim] = {}
    for _, baseline, each in chain.from_iterable(table.comparisons for table in results.tables):
        if each.paper is None or abs(each.paper) < TIE:
            continue
        claim = Claim(
            first=each.config.name,
            second=each.baseline.name,
            baseline=baseline.name,
            paper=each.paper,
            paired=each.paired,
        )
        found.setdefault((each.configs, each.metric), claim)
    return tuple(found.values())
