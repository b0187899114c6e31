"""What the numbers of a study say, in words: which of the paper's directions hold, and what was not shown.

A direction is the sign of a difference between two configs that the paper prints numbers for. It holds here where the
whole 95 % interval of the paired difference has that sign. An interval that contains 0 shows neither that there is a
difference nor that there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from mfm_tune.report_text import counted, in_words, metric_name, number, signed
from mfm_tune.results import CellResult, Comparison, Results, Standing, TableResult, paper_number
from mfm_tune.space import OutOfMemory
from mfm_tune.statistics import Paired, Verdict, holm

TIE = 0.05  # percent: the paper prints one decimal, so a smaller difference is none


class Direction(Enum):
    """What the seeds say of a direction that the paper prints."""

    HOLDS = "holds"  # the whole interval has the paper's sign
    SAME_SIGN = "same sign, not shown"
    OTHER_SIGN = "other sign, not shown"
    CONTRADICTED = "contradicted"  # the whole interval has the other sign
    OPEN = "not measured"  # no seed has both


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The paper's difference between two configs (`first` minus `second`), and ours."""

    first: str
    second: str
    reference: str  # the reference's name under which it was found
    paper: float
    paired: Paired

    @property
    def direction(self) -> Direction:
        """Whether the paper's sign is seen."""
        mean = self.paired.mean
        if mean is None:
            return Direction.OPEN
        if self.paired.verdict is not Verdict.NOT_SHOWN:
            same = (self.paired.verdict is Verdict.BETTER) == (self.paper > 0)
            return Direction.HOLDS if same else Direction.CONTRADICTED
        return Direction.SAME_SIGN if mean * self.paper > 0 else Direction.OTHER_SIGN

    def __str__(self) -> str:
        return f"{self.first} minus {self.second}: {in_words(self.paired)}; paper {signed(self.paper)}"


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
            reference=comparison.name,
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


def intervals(results: Results) -> dict[tuple[frozenset[str], str], Paired]:
    """Every different interval of a printed metric; the same two configs read from both sides are one."""
    found: dict[tuple[frozenset[str], str], Paired] = {}
    for table, cell, comparison in _compared(results):
        if comparison.paired.low is not None:
            found.setdefault((frozenset((cell.cell.config_id, comparison.config_id)), table.metric), comparison.paired)
    return found


# --------------------------------------------------------------------------------------------------------------------
# In words
# --------------------------------------------------------------------------------------------------------------------


def status(results: Results) -> str:
    """How many trials stand where, in a sentence."""
    total = len(results.configs) * len(results.seeds)
    parts = [f"{results.standings[each]} {each.value}" for each in Standing if results.standings[each]]
    seeds = ", ".join(map(str, results.seeds))
    return (
        f"{counted(len(results.cells), 'cell')}, {counted(len(results.configs), 'distinct config')}, "
        f"{counted(total, 'trial')} with {'seed' if len(results.seeds) == 1 else 'seeds'} {seeds}: {', '.join(parts)}."
    )


def headline(results: Results) -> tuple[str, ...]:
    """The references against the first one: the question that the study is about."""
    if results.baseline is None:
        return ("The study names no reference, so no differences are printed.",)
    base = results.baseline
    sentences = []
    for reference in results.references[1:]:
        cell = next((each for each in results.cells if each.cell.config_id == reference.config.config_id), None)
        comparison = cell.comparisons[0] if cell is not None else None
        if comparison is None:
            continue
        sentences.append(_main_difference(results, reference.name, base.name, comparison))
    return tuple(sentences)


def _main_difference(results: Results, name: str, base: str, comparison: Comparison) -> str:
    paired = comparison.paired
    if paired.mean is None:
        return f"{name} against {base}: not measured yet, no seed has both."
    paper = "" if comparison.paper is None else f"; the paper prints {signed(comparison.paper)}"
    text = f"{name} minus {base} in {metric_name(results.metric)}: {in_words(paired)}{paper}."
    match paired.verdict:
        case Verdict.BETTER:
            return f"{text} Here {name} is better on these seeds."
        case Verdict.WORSE:
            return f"{text} Here {name} is worse on these seeds."
        case Verdict.NOT_SHOWN if paired.low is None:
            return f"{text} One seed says nothing about chance."
        case _:
            return f"{text} The interval contains 0, so a difference is not shown."


def directions(results: Results) -> tuple[str, ...]:
    """How many of the paper's directions hold, against each reference, and which are contradicted."""
    every = claims(results)
    if not every:
        return ()
    sentences = []
    for reference in dict.fromkeys(claim.reference for claim in every):
        of_reference = [claim for claim in every if claim.reference == reference]
        counts = Counter(claim.direction for claim in of_reference)
        parts = [f"{counts[each]} {_PHRASES[each]}" for each in Direction if counts[each]]
        what = counted(len(of_reference), "difference")
        sentences.append(f"The paper prints {what} to {reference}. Here " + ", ".join(parts) + ".")
    for direction, intro in ((Direction.HOLDS, "Holding"), (Direction.CONTRADICTED, "Contradicted")):
        named = [str(claim) for claim in every if claim.direction is direction]
        if named:
            sentences.append(f"{intro}: " + "; ".join(named) + ".")
    return tuple(sentences)


_PHRASES = {
    Direction.HOLDS: "have the paper's sign with the whole interval",
    Direction.SAME_SIGN: "have its sign, but the interval contains 0 (or there is only one seed)",
    Direction.OTHER_SIGN: "have the other sign, and the interval contains 0 (or there is only one seed)",
    Direction.CONTRADICTED: "have the other sign with the whole interval",
    Direction.OPEN: "are not measured",
}


def best_levels(results: Results) -> tuple[str, ...]:
    """For each table with the paper's numbers: the paper's best level, and the highest mean here."""
    return tuple(sentence for table in results.tables if (sentence := _best_level(table)))


def _best_level(table: TableResult) -> str:
    printed = [(number_, cell) for cell in table.cells if (number_ := paper_number(cell.cell.paper)) is not None]
    measured = [(cell.summary.mean, cell) for cell in table.cells if cell.summary.mean is not None and cell.complete]
    if len(printed) < 2 or len(measured) < 2:
        return ""
    best_paper, best_here = max(printed, key=lambda each: each[0]), max(measured, key=lambda each: each[0])
    start = f"{table.table.title}: the paper's best is {best_paper[1].cell.level} ({number(best_paper[0])})"
    if best_paper[1] is best_here[1]:
        return f"{start}, and so is the highest mean here ({number(best_here[0])})."
    between = next(
        (
            each.paired
            for each in best_here[1].all_comparisons
            if each.config_id == best_paper[1].cell.config_id and each.paired.low is not None
        ),
        None,
    )
    apart = f"; {best_here[1].cell.level} minus {best_paper[1].cell.level} is {in_words(between)}" if between else ""
    return f"{start}; the highest mean here is at {best_here[1].cell.level} ({number(best_here[0])}){apart}."


def out_of_memory(results: Results) -> tuple[str, ...]:
    """Where the paper prints OOM, or we ran out of memory."""
    sentences = []
    for cell in results.cells:
        ours = Standing.OOM in cell.standings
        if isinstance(cell.cell.paper, OutOfMemory):
            here = "here too" if ours else ("here it fits" if cell.values else "here it is not measured yet")
            sentences.append(f"The paper prints OOM for {cell.cell.axis} {cell.cell.level}; {here}.")
        elif ours:
            sentences.append(f"{cell.cell.axis} {cell.cell.level} ran out of memory.")
    return tuple(sentences)


def costs(results: Results) -> tuple[str, ...]:
    """What the references cost a step over the first one."""
    if results.baseline is None or results.baseline.config.step_ms is None:
        return ()
    base = results.baseline
    return tuple(
        f"A step of {each.name} takes {number(each.config.step_ms / base.config.step_ms, 2)} times a step of "
        f"{base.name} ({number(each.config.step_ms)} ms against {number(base.config.step_ms)} ms, medians)."
        for each in results.references[1:]
        if each.config.step_ms is not None and base.config.step_ms
    )


def how_to_read(results: Results) -> str:
    """How many intervals are read at once, and what that means."""
    every = intervals(results)
    if not every:
        return "No interval can be given yet: that takes two seeds of two configs."
    away = sum(each.verdict is not Verdict.NOT_SHOWN for each in every.values())
    kept = sum(holm([each.p_value for each in every.values() if each.p_value is not None]))
    second = ""
    if results.second_metric is not None and results.second_intervals:
        second = f" ({metric_name(results.second_metric)} adds {results.second_intervals} that are not independent)"
    return (
        f"The tables show {counted(len(every), 'different 95 % interval')}{second}; if no difference were real, about "
        f"{number(0.05 * len(every))} of them would leave 0 out by chance alone. Here {_count(away)} leave 0 out, and "
        f"{_count(kept)} would after Holm's correction for reading all of them (5 % family-wise)."
    )


def _count(number_of: int) -> str:
    return str(number_of) if number_of else "none"


def missing(results: Results) -> tuple[str, ...]:
    """Cells without a number of every seed, with the reason; each config once."""
    return tuple(
        f"{results.name_of(cell.cell.config_id)}: {'; '.join(reasons)}"
        for cell in results.distinct
        if (reasons := _reasons(cell))
    )


def _reasons(cell: CellResult) -> Sequence[str]:
    return () if cell.complete else [mark for mark in cell.marks if "ran on" not in mark and "earlier" not in mark]
