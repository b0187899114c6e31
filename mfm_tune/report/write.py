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
from mfm_tune.report.csv_files import classes_csv, explored_csv, table_csv, trials_csv
from mfm_tune.report.figures import figures
from mfm_tune.report.html import html
from mfm_tune.report.latex import latex
from mfm_tune.report.markdown import markdown
from mfm_tune.report.pictures import strips
from mfm_tune.report.search_figures import search_figures
from mfm_tune.report.search_sections import search_words
from mfm_tune.report.tables import printed
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
    drawn = pieces.figures(results)
    shown = pieces.made("the pictures", partial(strips, results, storage)) or ()
    makers: dict[str, Callable[[], str]] = {
        HTML_NAME: partial(html, results, drawn, shown),
        MARKDOWN_NAME: partial(markdown, results, drawn),
        **_tables(results),
    }
    return _written(folder, makers, drawn, pieces)


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
    results = found.results
    shares = pieces.made("importances", partial(importances, found.points, search.parameters, search.criterion)) or ()
    drawn = pieces.figures(results) | pieces.drawn("figures of the search", partial(search_figures, found, shares))
    said = pieces.made("the words of the search", partial(search_words, found, shares, drawn))
    shown = pieces.made("the pictures", partial(strips, results, storage)) or ()
    points = pieces.made("tables/explored.csv", partial(explored_csv, found)) or ""
    makers: dict[str, Callable[[], str]] = {
        HTML_NAME: partial(html, results, drawn, shown, said, {"explored.csv": points}),
        MARKDOWN_NAME: partial(markdown, results, drawn, said),
        **_tables(results),
        "tables/explored.csv": lambda: points,
    }
    return _written(folder, makers, drawn, pieces)


@dataclass
class _Pieces:
    """Makes the pieces of a report: an error costs the piece, and says which."""

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

    def figures(self, results: Results) -> dict[str, Figure]:
        """Figures of a study, by file name."""
        of_tables = self.drawn("figures", partial(figures, results))
        return of_tables | self.drawn("figures of classes", partial(class_figures, results))

    def drawn(self, what: str, draw: Callable[[], dict[str, Figure]]) -> dict[str, Figure]:
        """Figures by file name, or none."""
        return self.made(what, draw) or {}


def _tables(results: Results) -> dict[str, Callable[[], str]]:
    """What makes the files that hold tables."""
    makers: dict[str, Callable[[], str]] = {
        "tables/trials.csv": partial(trials_csv, results),
        "tables/classes.csv": partial(classes_csv, results),
    }
    for table in results.tables:
        makers[f"tables/{table.table.name}.csv"] = partial(table_csv, results, table)
        makers[f"tables/{table.table.name}.tex"] = lambda table=table: latex(printed(results, table))  # type: ignore[misc]
    return makers


def _written(
    folder: Path, makers: Mapping[str, Callable[[], str]], drawn: Mapping[str, Figure], pieces: _Pieces
) -> ReportFiles:
    files = {**makers, **{f"figures/{name}.svg": figure.file for name, figure in drawn.items()}}
    written = [name for name, make in files.items() if pieces.made(name, partial(_write, folder / name, make))]
    if not written and pieces.error is not None:
        raise pieces.error
    _remove_others(folder, {folder / name for name in written})
    return ReportFiles(
        html=folder / HTML_NAME,
        markdown=folder / MARKDOWN_NAME,
        tables=_under(folder, "tables/", written),
        figures=_under(folder, "figures/", written),
        lost=tuple(pieces.lost),
    )


def _under(folder: Path, beginning: str, names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names if name.startswith(beginning))


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
    """Remove what an earlier report had and this one has not."""
    for pattern in (HTML_NAME, MARKDOWN_NAME, "figures/*.svg", "tables/*.csv", "tables/*.tex"):
        for path in folder.glob(pattern):
            if path.is_file() and path not in written:
                path.unlink(missing_ok=True)


def _write(path: Path, make: Callable[[], str]) -> bool:
    content = make().encode()
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return True
