"""The report as Markdown: the same tables and sentences as the page, with the figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mfm_tune.report.charts import Figure
from mfm_tune.report.sections import Section, Words, words
from mfm_tune.report.tables import Entry, Printed, Row, printed
from mfm_tune.results.study import Results, TableResult

HOW_TO_READ_A_TABLE = (
    "Values are mean ± sample standard deviation over seeds (their number in brackets). A difference is taken seed by "
    "seed; its 95 % t-interval stands in square brackets, and *visible from* is half of the interval's width, the "
    "smallest mean difference that these seeds would have told from zero."
)


def escaped(text: str) -> str:
    """Text that Markdown prints as it stands, on one line and inside a table."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def markdown(results: Results, figures: Mapping[str, Figure], said: Words | None = None) -> str:
    """The whole report; `said` None takes the words of a study."""
    said = words(results) if said is None else said
    parts = [f"# {escaped(results.study.title)}", escaped(said.subtitle)]
    parts += [*map(escaped, results.study.notes), *_section(said.summary, figures), "## Tables", HOW_TO_READ_A_TABLE]
    for table in results.tables:
        parts += _table(results, table, figures)
    for section in said.leading:
        parts += _section(section, figures)
    parts += _others(figures)
    for section in said.sections:
        parts += _section(section, figures)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, figures: Mapping[str, Figure]) -> list[str]:
    parts = [f"## {escaped(section.title)}"]
    if section.sentences:
        parts.append("\n".join(f"- {escaped(sentence)}" for sentence in section.sentences))
    if section.rows:
        parts.append(_grid(section.headings, section.rows))
    return parts + [_image(name, figures[name]) for name in section.figures]


def _table(results: Results, table: TableResult, figures: Mapping[str, Figure]) -> list[str]:
    ready = printed(results, table)
    parts = [f"### {escaped(ready.title)}", _printed(ready)]
    if ready.footnotes:
        parts.append("\n".join(f"\\[{index}\\] {escaped(note)}  " for index, note in enumerate(ready.footnotes, 1)))
    if ready.note:
        parts.append(escaped(ready.note))
    return parts + [_image(name, figure) for name, figure in figures.items() if figure.table == ready.name]


def _others(figures: Mapping[str, Figure]) -> list[str]:
    others = {name: figure for name, figure in figures.items() if figure.group == "classes"}
    parts: list[str] = []
    for name, figure in others.items():
        parts += [f"## {escaped(figure.title)}", _image(name, figure)]
    return parts


def _image(name: str, figure: Figure) -> str:
    return f"![{escaped(figure.title)}](figures/{name}.svg)"


def _printed(table: Printed) -> str:
    rows = [[*(_left(table, row)), *(_entry(entry) for entry in row.entries)] for row in table.rows]
    headings = [escaped(heading) for heading in (*table.left_headings, *table.headings)]
    right = len(table.left_headings)
    return _lines(headings, ["---"] * right + ["---:"] * len(table.headings), rows)


def _left(table: Printed, row: Row) -> list[str]:
    left = [escaped(text) for text in table.left(row)]
    if row.notes:
        left[0] += " " + ", ".join(f"\\[{note}\\]" for note in row.notes)
    return left


def _entry(entry: Entry) -> str:
    text = escaped(entry.text)
    return f"{text}<br>{escaped(entry.detail)}" if entry.detail else text


def _grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _lines(
        [escaped(heading) for heading in headings], ["---"] * len(headings), [[escaped(t) for t in row] for row in rows]
    )


def _lines(headings: Sequence[str], rules: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rules, *rows))
