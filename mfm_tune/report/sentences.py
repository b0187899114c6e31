"""The numbers of a study in sentences: counts of trials, differences, the paper's directions, what is missing."""

from __future__ import annotations

from collections import Counter

from mfm_tune.ledger.records import Status
from mfm_tune.published import OutOfMemory, paper_number
from mfm_tune.report.numbers import counted, in_words, metric_name, number, signed
from mfm_tune.results.claims import Direction, claims
from mfm_tune.results.statistics import Verdict, holm
from mfm_tune.results.study import OWN, Comparison, Results, TableResult
from mfm_tune.results.trials import MarkKind


def status(results: Results) -> str:
    """How many trials have each status, in a sentence."""
    total = len(results.configs) * len(results.seeds)
    parts = [f"{results.statuses[each]} {each.value}" for each in Status if results.statuses[each]]
    seeds = ", ".join(map(str, results.seeds))
    return (
        f"{counted(len(results.cells), 'cell')}, {counted(len(results.configs), 'distinct config')}, "
        f"{counted(total, 'trial')} with {'seed' if len(results.seeds) == 1 else 'seeds'} {seeds}: {', '.join(parts)}."
    )


def headline(results: Results) -> tuple[str, ...]:
    """The references minus the first one, and rows minus baselines of their own: what the study is about."""
    own = _own_differences(results)
    if not results.references:
        return own or ("The study names no reference, so no differences are printed.",)
    return (*map(_main_difference, results.main), *own)


def _own_differences(results: Results) -> tuple[str, ...]:
    """Of rows with baselines of their own: how many intervals exclude zero."""
    own = [each.paired for table in results.tables for _, baseline, each in table.comparisons if baseline is OWN]
    if not own:
        return ()
    counts = Counter(paired.verdict for paired in own if paired.low is not None)
    parts = [f"{counts[verdict]} {phrase}" for verdict, phrase in _SHOWN.items() if counts[verdict]]
    if open_ := len(own) - counts.total():
        parts.append(f"{open_} without an interval yet")
    return (f"Of the {counted(len(own), 'difference')} to {OWN.name}: {', '.join(parts)}.",)


_SHOWN = {
    Verdict.BETTER: "with the whole interval above 0",
    Verdict.WORSE: "with the whole interval below 0",
    Verdict.INCONCLUSIVE: "inconclusive (the interval contains 0)",
}


def _main_difference(comparison: Comparison) -> str:
    name, base, paired = comparison.config.name, comparison.baseline.name, comparison.paired
    if paired.mean is None:
        return f"{name} against {base}: not measured yet, no seed has both."
    paper = "" if comparison.paper is None else f"; the paper prints {signed(comparison.paper)}"
    text = f"{name} minus {base} in {metric_name(comparison.metric)}: {in_words(paired)}{paper}."
    match paired.verdict:
        case Verdict.BETTER:
            return f"{text} The whole interval lies above 0."
        case Verdict.WORSE:
            return f"{text} The whole interval lies below 0."
        case Verdict.INCONCLUSIVE if paired.low is None:
            return f"{text} One seed cannot tell a difference from chance."
        case _ if not any(paired.per_seed.values()):
            return f"{text} The two are equal on every seed."
        case _:
            return f"{text} The interval contains 0, so the difference is inconclusive."


def directions(results: Results) -> tuple[str, ...]:
    """How many of the paper's directions are seen, against each reference."""
    sentences = []
    every = claims(results)
    for baseline in dict.fromkeys(claim.baseline for claim in every):
        compared = [claim for claim in every if claim.baseline == baseline]
        counts = Counter(claim.direction for claim in compared)
        parts = [f"{counts[each]} {_PHRASES[each][counts[each] > 1]}" for each in Direction if counts[each]]
        what = counted(len(compared), "difference")
        sentences.append(f"Of the {what} to {baseline} that the paper prints, " + ", ".join(parts) + ".")
    return tuple(sentences)


_PHRASES = {  # for one, for several
    Direction.HOLDS: ("holds here with its whole interval", "hold here with their whole intervals"),
    Direction.SAME_SIGN: ("has the paper's sign but is inconclusive", "have the paper's sign but are inconclusive"),
    Direction.OTHER_SIGN: ("has the other sign but is inconclusive", "have the other sign but are inconclusive"),
    Direction.CONTRADICTED: ("is contradicted by its whole interval", "are contradicted by their whole intervals"),
    Direction.EQUAL: ("is exactly 0 here", "are exactly 0 here"),
    Direction.OPEN: ("is not measured", "are not measured"),
}


def best_levels(results: Results) -> tuple[str, ...]:
    """In how many tables the paper's best level has the highest mean here, and where it has not."""
    sentences = [text for table in results.tables if (text := _best_level(table)) is not None]
    if not sentences:
        return ()
    others = [text for text in sentences if text]
    if len(sentences) == 1:
        return tuple(others) or ("The paper's best level has the highest mean here too.",)
    same = len(sentences) - len(others)
    return (
        f"In {_count(same)} of the {len(sentences)} tables that can be compared, the paper's best level is ours too.",
        *others,
    )


def _best_level(table: TableResult) -> str | None:
    """Empty where the paper's best level is ours too, None where a table cannot be compared."""
    printed = [(value, cell) for cell in table.cells if (value := paper_number(cell.cell.paper)) is not None]
    measured = [(cell.summary.mean, cell) for cell in table.cells if cell.summary.mean is not None and cell.complete]
    if len(printed) < 2 or len(measured) < 2:
        return None
    (paper, paper_cell), (ours, cell) = max(printed, key=lambda each: each[0]), max(measured, key=lambda each: each[0])
    if paper_cell is cell or paper_cell.summary.mean == ours:
        return ""
    text = (
        f"{table.table.title}: the paper's best is {paper_cell.cell.level} ({number(paper)}); "
        f"the highest mean here is at {cell.cell.level} ({number(ours)})"
    )
    between = next(
        (
            each.paired
            for each in cell.comparisons
            if each is not None and each.baseline.config_id == paper_cell.cell.config_id
        ),
        None,
    )
    if between is None or between.mean is None:
        return f"{text}."
    return f"{text}, a difference of {in_words(between)}."


def without_effect(results: Results) -> tuple[str, ...]:
    """Configs with exactly the same numbers on every seed: the setting in which they differ did nothing."""
    groups: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for config in results.configs.values():
        numbers = tuple(config.finals(results.metric).items())
        if len(numbers) == len(results.seeds):
            groups.setdefault(numbers, []).append(config.name)
    return tuple(
        f"Exactly the same numbers on every seed, so what tells these apart had no effect here: {', '.join(names)}."
        for names in groups.values()
        if len(names) > 1
    )


def out_of_memory(results: Results) -> tuple[str, ...]:
    """Where the paper prints OOM, or we ran out of memory."""
    sentences = []
    for cell in results.cells:
        ours = Status.OOM in cell.statuses
        if isinstance(cell.cell.paper, OutOfMemory):
            here = "here too" if ours else ("here it fits" if cell.values else "here it is not measured yet")
            sentences.append(f"The paper prints OOM for {cell.cell.axis} {cell.cell.level}; {here}.")
        elif ours:
            sentences.append(f"{cell.cell.axis} {cell.cell.level} ran out of memory here.")
    return tuple(sentences)


def how_to_read(results: Results) -> str:
    """How many intervals are read at once, and what that means."""
    every = results.intervals
    if not every:
        return "No interval can be given yet: that takes two seeds of two configs."
    away = sum(each.verdict is not Verdict.INCONCLUSIVE for each in every.values())
    kept = sum(holm([each.p_value for each in every.values() if each.p_value is not None]))
    second = ""
    if results.second_metric is not None and results.second_intervals:
        second = (
            f" ({metric_name(results.second_metric)} adds {len(results.second_intervals)} that are not independent)"
        )
    return (
        f"The tables show {counted(len(every), 'different 95 % interval')}{second}; if no difference were real, about "
        f"{number(0.05 * len(every))} of them would exclude zero by chance alone. Here {_count(away)} "
        f"{'excludes' if away == 1 else 'exclude'} zero, and {_count(kept)} would after Holm's correction for reading "
        "all of them (5 % family-wise)."
    )


def _count(number_of: int) -> str:
    return str(number_of) if number_of else "none"


def missing(results: Results) -> tuple[str, ...]:
    """Cells without a number of every seed, with the reason; each config once."""
    return tuple(
        f"{cell.config.name}: {'; '.join(reasons)}"
        for cell in results.distinct
        if (reasons := [str(mark) for mark in cell.marks if mark.kind is MarkKind.MISSING])
    )
