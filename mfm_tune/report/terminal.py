"""The tables on a terminal: as many columns as fit, the value, the paper's and the differences first."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType
from rich.text import Text

from mfm_tune.display.grid import as_lines, columns, grid
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.report.columns import Kind
from mfm_tune.report.first_page import answers, counts_of_claims
from mfm_tune.report.pseudo_labels import pseudo_label_warnings
from mfm_tune.report.search_sections import search_summary, selection, selection_bias
from mfm_tune.report.sentences import how_to_read
from mfm_tune.report.tables import Printed, Row, printed
from mfm_tune.report.two_levels import two_levels_section
from mfm_tune.report.two_stage import two_stage
from mfm_tune.results.claims import claims
from mfm_tune.results.search import collect_search
from mfm_tune.results.study import Results, collect
from mfm_tune.search_space import Search
from mfm_tune.space import Study

WIDE = 110  # from this width on, the second metric and the cost are printed too


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
    grids = [grid(section.title, section.headings, section.rows) for section in sections]
    shown = as_lines([*map(Text, search_summary(found)), *grids], width)
    return f"{shown}\n{_of_study(found.results, width)}"


def _of_study(results: Results, width: int | None) -> str:
    lines: list[RenderableType] = []
    waiting = [table.table.name for table in results.tables if not table.begun]
    if len(waiting) == len(results.tables):
        waiting = []
    for table in (printed(results, each) for each in results.tables if each.table.name not in waiting):
        lines.append(_table(table, wide=columns(width) >= WIDE))
        lines += [Text(f"  [{index}] {note}") for index, note in enumerate(table.footnotes, 1)]
    if waiting:
        lines.append(Text(f"Without a trial yet: {', '.join(waiting)}."))
    levels = two_levels_section(results)
    if levels.rows:
        lines.append(grid(levels.title, levels.headings, levels.rows))
    found = (*answers(results), *pseudo_label_warnings(results), *two_stage(results))
    sentences = (*found, *counts_of_claims(claims(results)), how_to_read(results))
    return as_lines([*lines, *map(Text, sentences)], width)


def _table(table: Printed, *, wide: bool) -> RenderableType:
    of_kind = {kind: [index for index, each in enumerate(table.kinds) if each is kind] for kind in Kind}
    shown = [*of_kind[Kind.VALUE], *of_kind[Kind.PAPER], *of_kind[Kind.DIFFERENCE][: 2 if wide else 1]]
    if wide:
        shown += [*of_kind[Kind.SECOND], *of_kind[Kind.COST][:1]]
    headings = (table.axis, "mean ± std (n)", *(table.headings[index] for index in shown[1:]))
    rows = [(_level(row), *(row.entries[index].text for index in shown)) for row in table.rows]
    return grid(f"{table.title} ({table.metric})", headings, rows)


def _level(row: Row) -> str:
    trained = "" if row.trained in ("", row.level) else f" (trained {row.trained})"
    return f"{row.level}{trained}{''.join(f' [{note}]' for note in row.notes)}"
