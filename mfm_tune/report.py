"""The report of a study, from the ledger alone: one HTML page, Markdown, and each table as LaTeX and CSV.

The page needs no network and no other file; its pictures are inlined. The same ledger gives the same report, byte for
byte. Files are replaced whole, so a reader never sees half of one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from mfm_tune.fingerprint import TrainingCode
from mfm_tune.ledger import LedgerState
from mfm_tune.report_classes import class_figures
from mfm_tune.report_csv import classes_csv, explored_csv, table_csv, trials_csv
from mfm_tune.report_figures import Figure, figures
from mfm_tune.report_html import html
from mfm_tune.report_importance import importances
from mfm_tune.report_latex import latex
from mfm_tune.report_markdown import markdown
from mfm_tune.report_pictures import strips
from mfm_tune.report_search import search_words
from mfm_tune.report_search_figures import search_figures
from mfm_tune.report_tables import printed
from mfm_tune.report_terminal import in_columns, search_in_columns
from mfm_tune.results import Results, collect
from mfm_tune.search_results import collect_search
from mfm_tune.search_space import Search
from mfm_tune.space import Study

HTML_NAME = "report.html"
MARKDOWN_NAME = "report.md"


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """What was written. `tables` holds LaTeX and CSV, `figures` the SVG files that the Markdown shows."""

    html: Path
    markdown: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]

    def __str__(self) -> str:
        return f"Report: {self.html}\n        {self.markdown}, with tables/ and figures/ beside it"


def write_report(
    study: Study,
    state: LedgerState,
    folder: Path,
    *,
    storage: Path,
    fingerprints: Mapping[str, str] | None = None,
) -> ReportFiles:
    """Write a study's report.

    Args:
        study: What is reported.
        state: The ledger.
        folder: Where the files go; created where needed. Those of an earlier report are replaced or removed.
        storage: The storage folder, for the pictures that trials left there.
        fingerprints: Config id -> fingerprint of the code as it is now; results of other code are marked.

    Raises:
        OSError: The folder cannot be written.
    """
    results = collect(study, state, fingerprints)
    drawn = {**figures(results), **class_figures(results)}
    texts = {
        HTML_NAME: html(results, drawn, strips(results, storage)),
        MARKDOWN_NAME: markdown(results, drawn),
    }
    return _written(folder, {**texts, **_tables(results)}, drawn)


def write_search_report(
    search: Search, state: LedgerState, folder: Path, *, storage: Path, code: TrainingCode | None = None
) -> ReportFiles:
    """Write a search's report: what was confirmed as a study's report has it, and what was explored.

    Args:
        search: What is reported.
        state: The ledger.
        folder: As in `write_report`.
        storage: The storage folder.
        code: Of training, as it is now; results of other code are marked.

    Raises:
        OSError: The folder cannot be written.
    """
    found = collect_search(search, state, code)
    results, shares = found.results, importances(found)
    drawn = {**figures(results), **class_figures(results), **search_figures(found, shares)}
    said = search_words(found, shares, drawn)
    tables = {**_tables(results), "tables/explored.csv": explored_csv(found)}
    texts = {
        HTML_NAME: html(results, drawn, strips(results, storage), said, {"explored.csv": explored_csv(found)}),
        MARKDOWN_NAME: markdown(results, drawn, said),
    }
    return _written(folder, {**texts, **tables}, drawn)


def _tables(results: Results) -> dict[str, str]:
    """The files that hold tables."""
    texts = {"tables/trials.csv": trials_csv(results), "tables/classes.csv": classes_csv(results)}
    for table in results.tables:
        texts[f"tables/{table.table.name}.csv"] = table_csv(results, table)
        texts[f"tables/{table.table.name}.tex"] = latex(printed(results, table))
    return texts


def _written(folder: Path, texts: Mapping[str, str], drawn: Mapping[str, Figure]) -> ReportFiles:
    files = {**texts, **{f"figures/{name}.svg": figure.file() for name, figure in drawn.items()}}
    written = {name: _write(folder / name, text) for name, text in files.items()}
    _remove_others(folder, set(written.values()))
    return ReportFiles(
        html=written[HTML_NAME],
        markdown=written[MARKDOWN_NAME],
        tables=tuple(path for name, path in written.items() if name.startswith("tables/")),
        figures=tuple(path for name, path in written.items() if name.startswith("figures/")),
    )


def terminal_table(
    study: Study,
    state: LedgerState,
    *,
    fingerprints: Mapping[str, str] | None = None,
    width: int | None = None,
) -> str:
    """The tables and what they say, for a terminal of `width` columns (None: as wide as this one)."""
    return in_columns(collect(study, state, fingerprints), width)


def terminal_search(
    search: Search, state: LedgerState, *, code: TrainingCode | None = None, width: int | None = None
) -> str:
    """What a search found, and the table of what it confirmed, for a terminal of `width` columns."""
    found = collect_search(search, state, code)
    return f"{search_in_columns(found, width)}\n{in_columns(found.results, width)}"


def _remove_others(folder: Path, written: Set[Path]) -> None:
    """Remove tables and figures that an earlier report had and this one has not."""
    for pattern in ("figures/*.svg", "tables/*.csv", "tables/*.tex"):
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
