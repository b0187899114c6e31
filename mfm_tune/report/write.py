"""The report of a study, from the ledger alone: one HTML page, Markdown, and each table as LaTeX and CSV.

The page needs no network and no other file; its pictures are inlined. The same ledger gives the same report, byte for
byte. Files are replaced whole, so a reader never sees half of one. What cannot be made of it is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from mfm_tune.errors import typed
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.storage import replacing
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.report.charts import Figure
from mfm_tune.report.classes import class_figures
from mfm_tune.report.columns import Kind
from mfm_tune.report.csv_files import classes_csv, curves_csv, explored_csv, table_csv, trials_csv
from mfm_tune.report.documents import Content, html, latex, markdown
from mfm_tune.report.figures import figures
from mfm_tune.report.forest import forest_figures
from mfm_tune.report.grids import class_differences, class_grids, matrix, trial_grid
from mfm_tune.report.pictures import strips
from mfm_tune.report.pseudo_labels import pseudo_label_figures
from mfm_tune.report.search_figures import search_figures
from mfm_tune.report.search_sections import search_text
from mfm_tune.report.sections import study_text
from mfm_tune.report.tables import Printed, printed
from mfm_tune.report.text import Text
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
    """What was written. `tables` holds LaTeX and CSV, `figures` the SVG files that the Markdown shows, `paper` LaTeX
    and PDF for an article, `lost` a sentence for each piece that could not be made."""

    html: Path
    markdown: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    paper: tuple[Path, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.lost:
            return f"Report, incomplete: {self.html.parent}"
        beside = "tables/, figures/ and paper/" if self.paper else "tables/ and figures/"
        return f"Report: {self.html}\n        {self.markdown}, with {beside} beside it"


def write_report(
    study: Study,
    state: LedgerState,
    folder: Path,
    *,
    storage: Path,
    fingerprints: Mapping[str, str] | None = None,
    paper: Collection[Kind] = (),
) -> ReportFiles:
    """Write a study's report.

    Args:
        study: What is reported.
        state: The ledger.
        folder: Where the files go; created where needed. Those of an earlier report are replaced or removed.
        storage: The storage folder, for the pictures that trials left there.
        fingerprints: Config id -> fingerprint of the code as it is now; results of other code are marked.
        paper: Columns of the tables in `paper/`, where LaTeX and PDF for an article go; none: no such folder.

    Raises:
        OSError: The folder cannot be written.
    """
    results = collect(study, state, fingerprints)
    return _written(_Writer(folder), results, storage, partial(study_text, results), paper)


def write_search_report(
    search: Search,
    state: LedgerState,
    folder: Path,
    *,
    storage: Path,
    code: TrainingCode | None = None,
    paper: Collection[Kind] = (),
) -> ReportFiles:
    """Write a search's report: what was confirmed as a study's report has it, and what was explored.

    Args:
        search: What is reported.
        state: The ledger.
        folder: As in `write_report`.
        storage: The storage folder.
        code: Of training, as it is now; results of other code are marked.
        paper: As in `write_report`.

    Raises:
        OSError: The folder cannot be written.
    """
    found, writer = collect_search(search, state, code), _Writer(folder)
    shares = (
        writer.made("importances", partial(importances, found.candidates, search.parameters, search.criterion)) or ()
    )
    drawn = writer.made("figures of the search", partial(search_figures, found, shares)) or {}
    text = partial(search_text, found, shares, tuple(drawn))
    explored = {"tables/explored.csv": partial(explored_csv, found)}
    return _written(writer, found.results, storage, text, paper, drawn, explored)


class _Writer:
    """Makes and writes the pieces of a report: an error costs the piece, and is named.

    Attributes:
        files: What was written, by name.
        lost: A sentence for each piece that could not be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.lost: list[str] = []
        self._error: Exception | None = None  # the last one

    def made(self, what: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; None where it raised."""
        try:
            return make()
        except Exception as error:  # whatever it is, the other pieces are good
            self.lost.append(f"The report lacks {what}: {typed(error)}")
            self._error = error
            return None

    def write(self, name: str, make: Callable[[], str | bytes]) -> None:
        """Write a file, where it can be made."""

        def written() -> bytes:
            made = make()
            content = made.encode() if isinstance(made, str) else made
            with replacing(self.folder / name) as temporary:
                temporary.write_bytes(content)
            return content

        content = self.made(name, written)
        if content is not None:
            self.files[name] = content

    def finished(self) -> ReportFiles:
        """Remove what an earlier report had and this one has not."""
        if not self.files and self._error is not None:
            raise self._error
        written = {name: self.folder / name for name in self.files}
        of_paper = [f"paper/*{path.suffix}" for name, path in written.items() if name.startswith("paper/")]
        for pattern in (HTML_NAME, MARKDOWN_NAME, "figures/*.svg", "tables/*.csv", "tables/*.tex", *set(of_paper)):
            for path in self.folder.glob(pattern):
                if path.is_file() and path not in written.values():
                    path.unlink(missing_ok=True)
        return ReportFiles(
            html=self.folder / HTML_NAME,
            markdown=self.folder / MARKDOWN_NAME,
            tables=tuple(path for name, path in written.items() if name.startswith("tables/")),
            figures=tuple(path for name, path in written.items() if name.startswith("figures/")),
            paper=tuple(path for name, path in written.items() if name.startswith("paper/")),
            lost=tuple(self.lost),
        )


def _figures(writer: _Writer, results: Results) -> dict[str, Figure]:
    return {
        **(writer.made("figures of all cells", partial(forest_figures, results)) or {}),
        **(writer.made("figures", partial(figures, results)) or {}),
        **(writer.made("figures of classes", partial(class_figures, results)) or {}),
        **(writer.made("figures of pseudo-labels", partial(pseudo_label_figures, results)) or {}),
    }


def _write_paper(
    writer: _Writer, tables: Sequence[Printed], drawn: Mapping[str, Figure], kinds: Collection[Kind]
) -> None:
    for table in tables:
        writer.write(f"paper/{table.name}.tex", partial(latex, table, kinds))
    for name, figure in drawn.items():
        writer.write(f"paper/{name}.pdf", figure.pdf)


def _written(
    writer: _Writer,
    results: Results,
    storage: Path,
    text: Callable[[], Text],
    paper: Collection[Kind],
    figures_of_search: Mapping[str, Figure] = MappingProxyType({}),
    files_of_search: Mapping[str, Callable[[], str]] = MappingProxyType({}),
) -> ReportFiles:
    """Make every piece once, and write it."""
    drawn = {**_figures(writer, results), **figures_of_search}
    shown = writer.made("the pictures", partial(strips, results, storage)) or ()
    tables = [writer.made(table.table.title, partial(printed, results, table)) for table in results.tables]
    ready = tuple(table for table in tables if table is not None)
    makers: dict[str, Callable[[], str]] = {
        "tables/trials.csv": partial(trials_csv, results),
        "tables/curves.csv": partial(curves_csv, results),
        "tables/classes.csv": partial(classes_csv, results),
    }
    makers |= {f"tables/{table.table.name}.csv": partial(table_csv, results, table) for table in results.tables}
    makers |= {f"tables/{table.name}.tex": partial(latex, table) for table in ready}
    for name, make in (makers | dict(files_of_search)).items():
        writer.write(name, make)
    files = {name.removeprefix("tables/"): data for name, data in writer.files.items()}
    for name, figure in drawn.items():
        writer.write(f"figures/{name}.svg", figure.file)
    if paper:
        _write_paper(writer, ready, drawn, paper)

    said = writer.made("its text", text)
    if said is not None:
        content = Content(
            study=results.study,
            text=said,
            tables=ready,
            figures=drawn,
            strips=shown,
            classes=class_grids(results),
            class_differences=writer.made("the heat map of classes", partial(class_differences, results)),
            matrix=writer.made("the matrix of pairs", partial(matrix, results)),
            trials=trial_grid(results),
            files=files,
        )
        writer.write(HTML_NAME, partial(html, content))
        writer.write(MARKDOWN_NAME, partial(markdown, content))
    return writer.finished()
