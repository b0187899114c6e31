"""Claims of the paper beside the numbers of a study: which are supported, contradicted, or inconclusive here.

A claim is the sign of a difference between two configs that the paper prints numbers for: the one with the better
number beats the other. It is supported where the whole 95 % interval of the paired difference has that sign. An
interval that contains 0 shows neither that there is a difference nor that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mfm_tune.criteria import criterion_of, unit
from mfm_tune.results.statistics import Paired, Verdict
from mfm_tune.results.study import OWN, Comparison, Results

TIE = 0.05  # percent: the paper prints one decimal, so a smaller difference is none


class Finding(Enum):
    """What the seeds show of a claim."""

    SUPPORTED = "supported"  # the whole interval has the paper's sign
    CONTRADICTED = "contradicted"  # the whole interval has the other sign
    INCONCLUSIVE = "inconclusive"  # it contains 0, or one seed gives none
    EQUAL = "no difference at all"  # the two are equal on every seed
    OPEN = "not measured"  # no seed has both


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The paper's claim that `first` beats `second`.

    Args:
        baseline: The name of the column in which it was found.
        metric: In which it does.
        paper: `first` minus `second` in the paper.
        paired: The same here.
    """

    first: str
    second: str
    baseline: str
    metric: str
    paper: float
    paired: Paired

    @property
    def finding(self) -> Finding:
        """What the seeds show of it."""
        if self.paired.mean is None:
            return Finding.OPEN
        if not any(self.paired.per_seed.values()):
            return Finding.EQUAL
        found = {Verdict.BETTER: Finding.SUPPORTED, Verdict.WORSE: Finding.CONTRADICTED}
        return found.get(self.paired.verdict(self.metric), Finding.INCONCLUSIVE)


def claims(results: Results) -> tuple[Claim, ...]:
    """Every difference that the paper prints, once: those of the references, then the tables' by column, in printing
    order. Ties of the paper are left out."""
    found: dict[tuple[frozenset[str], str], Claim] = {}
    columns = [(each.baseline.name, each) for each in results.main]
    of_tables = [(baseline.name, each) for table in results.tables for _, baseline, each in table.comparisons]
    order = [*(each.name for each in results.references), OWN.name]
    for baseline, each in (*columns, *sorted(of_tables, key=lambda column: order.index(column[0]))):
        if each.paper and abs(each.paper) >= (TIE if unit(each.metric) else 0):
            found.setdefault((each.configs, each.metric), _claim(results, baseline, each, each.paper))
    return tuple(found.values())


def _claim(results: Results, baseline: str, comparison: Comparison, paper: float) -> Claim:
    first, second, metric = comparison.config, comparison.baseline, comparison.metric
    if criterion_of(metric).oriented(paper) < 0:
        first, second, paper = second, first, -paper
    paired = results.paired(first, second, metric)
    return Claim(first=first.name, second=second.name, baseline=baseline, metric=metric, paper=paper, paired=paired)
