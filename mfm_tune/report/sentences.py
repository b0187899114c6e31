"""Sentences about the numbers of a study: counts of trials, caveats of cells, best levels, what is missing."""

from __future__ import annotations

from mfm_tune.criteria import criterion_of, digits_of
from mfm_tune.ledger.records import Status
from mfm_tune.published import OutOfMemory, paper_notes, paper_number
from mfm_tune.report.numbers import counted, estimate, in_words, metric_name, number, signed
from mfm_tune.results.statistics import holm
from mfm_tune.results.study import CellResult, Results, TableResult
from mfm_tune.results.trials import MarkKind, marks


def status(results: Results) -> str:
    """How many trials have each status, in a sentence."""
    total = results.statuses.total()
    parts = [f"{results.statuses[each]} {each.value}" for each in Status if results.statuses[each]]
    seeds, second = results.study.seeds, total - len(results.configs) * len(results.study.seeds)
    further = f" and {second} of a second stage" if second else ""
    return (
        f"{counted(len(results.cells), 'cell')}, {counted(len(results.configs), 'distinct config')}, "
        f"{counted(total, 'trial')} with {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{', '.join(map(str, seeds))}{further}: {', '.join(parts)}."
    )


def best_level(table: TableResult) -> str | None:
    """Whether the paper's best level has the best mean here too; None where a table cannot be compared, and while one
    of the two lacks a seed."""
    printed = [(value, cell) for cell in table.cells if (value := paper_number(cell.cell.paper)) is not None]
    measured = [(cell.summary.mean, cell) for cell in table.cells if cell.summary.mean is not None]
    if len(printed) < 2 or len(measured) < 2:
        return None
    criterion, digits = criterion_of(table.metric), digits_of(table.metric)
    best = "highest" if criterion.larger_is_better else "lowest"
    (ours, cell), (paper, _) = (
        max(numbers, key=lambda each: criterion.oriented(each[0])) for numbers in (measured, printed)
    )
    tied = [each for value, each in printed if value == paper]
    paper_cell = next((each for each in tied if each.summary.mean == ours), tied[0])
    if not (cell.complete and paper_cell.complete):
        return None
    papers = f"The paper's best is {paper_cell.cell.level} ({number(paper, digits)})"
    if paper_cell.summary.mean == ours:
        return f"{papers}, and it has the {best} mean here too."
    text = f"{papers}; the {best} mean here is at {cell.cell.level} ({number(ours, digits)})"
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
    return f"{text}, a difference of {in_words(between, table.metric)}."


def two_levels_in_words(table: TableResult) -> str | None:
    """Of rows that are draws of one thing: the mean over all, and what varies between and within them, with 95 %
    intervals; or why there is none. None for other rows, and before there is a number."""
    draws_of, found, metric = table.table.draws_of, table.two_levels, table.metric
    if not draws_of or not any(cell.values for cell in table.cells):
        return None
    if table.share_baseline:
        return f"Rows share a baseline, whose noise is in all of their differences: no analysis of {draws_of}."
    if found is None:
        return f"An analysis of {draws_of} takes two rows with numbers of two seeds that all rows have."
    return (
        f"Over {found.groups} draws of {draws_of} with {found.each} seeds each: "
        f"{estimate(found.mean, metric, signed if table.comparisons else number)}. Standard deviation between "
        f"{draws_of} {estimate(found.between, metric)}, between seeds of one of them {estimate(found.within, metric)}."
    )


def caveats(results: Results, cell: CellResult) -> tuple[str, ...]:
    """What a reader must know of a row before reading its numbers, the paper's too."""
    alike = results.alike.get(cell.cell.config_id, ())
    same = (f"Exactly the numbers of {', '.join(alike)} on every seed: what tells them apart had no effect.",)
    memory = _out_of_memory(cell)
    return (*map(str, cell.marks), *paper_notes(cell.cell.paper), *(same if alike else ()), *memory)


def _out_of_memory(cell: CellResult) -> tuple[str, ...]:
    """Where the paper prints OOM, or we ran out of memory."""
    ours = Status.OOM in cell.statuses
    if isinstance(cell.cell.paper, OutOfMemory):
        here = "here too" if ours else ("here it fits" if cell.values else "here it is not measured yet")
        return (f"The paper prints OOM; {here}.",)
    return ("It ran out of memory here.",) if ours else ()


def how_to_read(results: Results) -> str:
    """How many intervals are read at once, and what that means."""
    every = results.intervals
    if not every:
        return "No interval can be given yet: that takes two seeds of two configs."
    away = sum(each.sign != 0 for each in every.values())
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
    """Rows and their baselines without a number of every seed, with the reason; each config once."""
    every = ((config, marks(config, metric, results.environments)) for config, metric in results.numbered)
    found = (
        f"{config.name}: {'; '.join(reasons)}"
        for config, of_config in every
        if (reasons := [str(mark) for mark in of_config if mark.kind is MarkKind.MISSING])
    )
    return tuple(dict.fromkeys(found))
