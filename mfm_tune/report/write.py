"""The report of a study, from the ledger alone: one HTML page, Markdown, and each table as LaTeX and CSV.

The page needs no network and no other file; its pictures are inlined. The same ledger gives the same report, byte for
byte. Files are replaced whole, so a reader never sees half of one. What cannot be made of it is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from mfm_tune.errors import typed
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import replacing
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.report.charts import Figure
from mfm_tune.report.classes import class_figures
from mfm_tune.report.content import Content
from mfm_tune.report.csv_files import classes_csv, explored_csv, table_csv, trials_csv
from mfm_tune.report.figures import figures
from mfm_tune.report.html import html
from mfm_tune.report.latex import latex
from mfm_tune.report.markdown import markdown
from mfm_tune.report.pictures import strips
from mfm_tune.report.search_figures import search_figures
from mfm_tune.report.search_sections import search_text
from mfm_tune.report.sections import Text, study_text
from mfm_tune.report.tables import Printed, class_grids, printed, trial_grid
from mfm_tune.report.terminal import in_columns, search_in_columns
from mfm_tune.results.search import collect_search
from mfm_tune.results.study import Results, collect
from mfm_tune.search.importance import importances
from mfm_tune.search_space import Search
from mfm_tune.space import Study

HTML_NAME = "report.html"
MARKDOWN_NAME = "report.md"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """What was written. `tables` holds LaTeX and CSV, `figures` the SVG files that the Markdown shows, `lost` a
    sentence for each piece that could not be made."""

    html: Path
    markdown: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.lost:
            return f"Report, incomplete: {self.html.parent}"
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
    results, pieces = collect(study, state, fingerprints), _Pieces()
    return _report(folder, storage, pieces, results, partial(study_text, results), {}, {})


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
    found, pieces = collect_search(search, state, code), _Pieces()
    candidates = partial(importances, found.points, search.parameters, search.criterion)
    shares = pieces.made("importances", candidates) or ()
    figures = pieces.made("figures of the search", partial(search_figures, found, shares)) or {}
    text = partial(search_text, found, shares, tuple(figures))
    return _report(
        folder, storage, pieces, found.results, text, figures, {"tables/explored.csv": partial(explored_csv, found)}
    )


@dataclass
class _Pieces:
    """Makes the pieces of a report: an error costs the piece, and is named."""

    lost: list[str] = field(default_factory=list)
    error: Exception | None = None  # the last one

    def made(self, what: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; None where it raised."""
        try:
            return make()
        except Exception as error:  # whatever it is, the other pieces are good
            self.lost.append(f"The report lacks {what}: {typed(error)}")
            self.error = error
            return None

    def encoded(self, makers: Mapping[str, Callable[[], str]]) -> dict[str, bytes]:
        """The contents of files by name; those that could not be made are left out."""
        contents = {name: self.made(name, partial(_encoded, make)) for name, make in makers.items()}
        return {name: content for name, content in contents.items() if content is not None}


def _encoded(make: Callable[[], str]) -> bytes:
    return make().encode()


def _report(
    folder: Path,
    storage: Path,
    pieces: _Pieces,
    results: Results,
    text: Callable[[], Text],
    figures_of_search: Mapping[str, Figure],
    files_of_search: Mapping[str, Callable[[], str]],
) -> ReportFiles:
    """Make every piece once, and write them."""
    drawn = {
        **(pieces.made("figures", partial(figures, results)) or {}),
        **(pieces.made("figures of classes", partial(class_figures, results)) or {}),
        **figures_of_search,
    }
    shown = pieces.made("the pictures", partial(strips, results, storage)) or ()
    tables = [pieces.made(table.table.title, partial(printed, results, table)) for table in results.tables]
    ready = tuple(table for table in tables if table is not None)
    files = pieces.encoded({**_tables(results, ready), **files_of_search})
    written = files | pieces.encoded({f"figures/{name}.svg": figure.file for name, figure in drawn.items()})
    said = pieces.made("its text", text)
    if said is not None:
        content = Content(
            study=results.study,
            text=said,
            tables=ready,
            figures=drawn,
            strips=shown,
            classes=class_grids(results),
            trials=trial_grid(results),
            files={name.removeprefix("tables/"): data for name, data in files.items()},
        )
        written |= pieces.encoded({HTML_NAME: partial(html, content), MARKDOWN_NAME: partial(markdown, content)})
    return _written(folder, written, pieces)


def _tables(results: Results, printed_tables: Iterable[Printed]) -> dict[str, Callable[[], str]]:
    """What makes the files that hold tables, by name."""
    makers: dict[str, Callable[[], str]] = {
        "tables/trials.csv": partial(trials_csv, results),
        "tables/classes.csv": partial(classes_csv, results),
    }
    makers |= {f"tables/{table.table.name}.csv": partial(table_csv, results, table) for table in results.tables}
    return makers | {f"tables/{table.name}.tex": partial(latex, table) for table in printed_tables}


def _written(folder: Path, contents: Mapping[str, bytes], pieces: _Pieces) -> ReportFiles:
    written = [name for name, data in contents.items() if pieces.made(name, partial(_write, folder / name, data))]
    if not written and pieces.error is not None:
        raise pieces.error
    _remove_others(folder, {folder / name for name in written})
    return ReportFiles(
        html=folder / HTML_NAME,
        markdown=folder / MARKDOWN_NAME,
        tables=tuple(folder / name for name in written if name.startswith("tables/")),
        figures=tuple(folder / name for name in written if name.startswith("figures/")),
        lost=tuple(pieces.lost),
    )


def _remove_others(folder: Path, written: Set[Path]) -> None:
    """Remove what an earlier report had and this one has not."""
    for pattern in (HTML_NAME, MARKDOWN_NAME, "figures/*.svg", "tables/*.csv", "tables/*.tex"):
        for path in folder.glob(pattern):
            if path.is_file() and path not in written:
                path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> bool:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return True


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
