"""The tables on a terminal: as many columns as fit, the value, the paper's and the differences first."""

from __future__ import annotations

import io
import shutil

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from mfm_tune.report.numbers import cell_text, difference, level_text, mean_std, metric_name, number
from mfm_tune.report.search_sections import optimism, search_summary, selection
from mfm_tune.report.sentences import directions, headline, how_to_read, without_effect
from mfm_tune.report.tables import cost_headings, printed, step_text
from mfm_tune.results.search import SearchResults
from mfm_tune.results.study import CellResult, Results, TableResult
from mfm_tune.space import paper_text

WIDE = 110  # from this width on, the second metric and the cost are printed too
LEAST = 60


def in_columns(results: Results, width: int | None = None) -> str:
    """All tables and the main findings as text without escape codes, lines at most `width` long."""
    columns = max(LEAST, width or shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=io.StringIO(), width=columns, color_system=None, highlight=False, legacy_windows=False)
    for table in results.tables:
        console.print(_grid(results, table, wide=columns >= WIDE))
        for index, note in enumerate(printed(results, table).footnotes, 1):
            console.print(Text(f"  [{index}] {note}"))
    said = (*headline(results), *directions(results), *without_effect(results))
    for sentence in (*said, how_to_read(results)):
        console.print(Text(sentence))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def search_in_columns(found: SearchResults, width: int | None = None) -> str:
    """What a search found: sentences, what the choice was worth, how label-free criteria would have chosen."""
    columns = max(LEAST, width or shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=io.StringIO(), width=columns, color_system=None, highlight=False, legacy_windows=False)
    for sentence in search_summary(found):
        console.print(Text(sentence))
    for section in (optimism(found, {}), selection(found, {})):
        if section is not None and section.rows:
            grid = Grid(title=Text(section.title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
            for index, heading in enumerate(section.headings):
                grid.add_column(Text(heading), justify="right" if index else "left", overflow="fold")
            for row in section.rows:
                grid.add_row(*map(Text, row))
            console.print(grid)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _grid(results: Results, table: TableResult, *, wide: bool) -> Grid:
    title = Text(f"{table.table.title} ({metric_name(table.metric)})")
    grid = Grid(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, heading in enumerate(_headings(results, table, wide=wide)):
        grid.add_column(Text(heading), justify="right" if index else "left", overflow="fold")
    for quoted in table.table.quoted:
        grid.add_row(Text(quoted.label), "", number(quoted.paper.miou))
    notes = [row.notes for row in printed(results, table).rows if not row.quoted]
    for cell, marks in zip(table.cells, notes, strict=True):
        level = level_text(cell) + "".join(f" [{mark}]" for mark in marks)
        texts = [level, cell_text(cell), *_further(results, table, cell, wide=wide)]
        grid.add_row(*(Text(text) for text in texts))
    return grid


def _headings(results: Results, table: TableResult, *, wide: bool) -> list[str]:
    headings = [table.table.axis.name, "mean ± std (n)", *(["paper"] if table.has_paper else [])]
    headings += [f"minus {baseline.name}" for baseline in table.baselines[: 2 if wide else 1]]
    if wide and results.second_metric is not None:
        headings.append(metric_name(results.second_metric))
    return [*headings, *cost_headings(table)[:1]] if wide else headings


def _further(results: Results, table: TableResult, cell: CellResult, *, wide: bool) -> list[str]:
    """What stands behind a cell's level and value."""
    texts = [paper_text(cell.cell.paper)] if table.has_paper else []
    texts += ["" if each is None else difference(each.paired) for each in cell.comparisons[: 2 if wide else 1]]
    if wide and results.second_metric is not None:
        texts.append(mean_std(cell.second, len(results.seeds)))
    return [*texts, step_text(cell.config.step_ms)] if wide and table.shows_cost else texts
