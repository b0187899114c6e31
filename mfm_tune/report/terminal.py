"""The tables on a terminal: as many columns as fit, the value, the paper's and the differences first."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.report.search_sections import search_summary, selection, selection_bias
from mfm_tune.report.sentences import directions, headline, how_to_read, without_effect
from mfm_tune.report.tables import Kind, Printed, Row, printed
from mfm_tune.results.search import collect_search
from mfm_tune.results.study import Results, collect
from mfm_tune.search_space import Search
from mfm_tune.space import Study

WIDE = 110  # from this width on, the second metric and the cost are printed too
LEAST = 60


def terminal_table(
    study: Study, state: LedgerState, *, fingerprints: Mapping[str, str] | None = None, width: int | None = None
) -> str:
    """The tables of a study and what they show, as lines without escape codes that are at most `width` long (None: as
    wide as this terminal)."""
    return _of_study(collect(study, state, fingerprints), width)


def terminal_search(
    search: Search, state: LedgerState, *, code: TrainingCode | None = None, width: int | None = None
) -> str:
    """What a search found, what the choice was worth, how label-free criteria would have chosen, and the table of what
    it confirmed; `width` as in `terminal_table`."""
    found = collect_search(search, state, code)
    sections = [section for section in (selection_bias(found), selection(found)) if section and section.rows]
    grids = [_grid(section.title, section.headings, section.rows) for section in sections]
    shown = _rendered([*map(Text, search_summary(found)), *grids], _columns(width))
    return f"{shown}\n{_of_study(found.results, width)}"


def _of_study(results: Results, width: int | None) -> str:
    columns = _columns(width)
    lines: list[RenderableType] = []
    for table in (printed(results, each) for each in results.tables):
        lines.append(_table(table, wide=columns >= WIDE))
        lines += [Text(f"  [{index}] {note}") for index, note in enumerate(table.footnotes, 1)]
    sentences = (*headline(results), *directions(results), *without_effect(results), how_to_read(results))
    return _rendered([*lines, *map(Text, sentences)], columns)


def _columns(width: int | None) -> int:
    return max(LEAST, width or shutil.get_terminal_size((100, 24)).columns)


def _rendered(lines: Iterable[RenderableType], columns: int) -> str:
    file = io.StringIO()
    console = Console(file=file, width=columns, color_system=None, highlight=False, legacy_windows=False)
    for line in lines:
        console.print(line)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _table(table: Printed, *, wide: bool) -> Table:
    of_kind = {kind: [index for index, each in enumerate(table.kinds) if each is kind] for kind in Kind}
    shown = [*of_kind[Kind.VALUE], *of_kind[Kind.PAPER], *of_kind[Kind.DIFFERENCE][: 2 if wide else 1]]
    if wide:
        shown += [*of_kind[Kind.SECOND], *of_kind[Kind.COST][:1]]
    headings = (table.axis, "mean ± std (n)", *(table.headings[index] for index in shown[1:]))
    rows = [(_level(row), *(row.entries[index].text for index in shown)) for row in table.rows]
    return _grid(f"{table.title} ({table.metric})", headings, rows)


def _level(row: Row) -> str:
    trained = "" if row.trained in ("", row.level) else f" (trained {row.trained})"
    return f"{row.level}{trained}{''.join(f' [{note}]' for note in row.notes)}"


def _grid(title: str, headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    grid = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, heading in enumerate(headings):
        grid.add_column(Text(heading), justify="right" if index else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid
