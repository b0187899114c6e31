"""The report as Markdown: the same tables and sentences as the page, with the figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mfm_tune.report.charts import Figure
from mfm_tune.report.content import Content
from mfm_tune.report.sections import Section
from mfm_tune.report.tables import Entry, Printed, Row

HOW_TO_READ_A_TABLE = (
    "Values are mean ± sample standard deviation over seeds (their number in brackets). A difference is taken seed by "
    "seed, with its 95 % t-interval in square brackets; the *half-width* of the interval is the smallest mean "
    "difference whose interval would exclude zero on these seeds."
)


def escaped(text: str) -> str:
    """Text that Markdown prints as it stands, on one line and inside a table."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def markdown(content: Content) -> str:
    """The whole report."""
    study, text, figures = content.study, content.text, content.figures
    parts = [f"# {escaped(study.title)}", escaped(text.subtitle)]
    parts += [*map(escaped, study.notes), *_section(text.summary, figures), "## Tables", HOW_TO_READ_A_TABLE]
    for table in content.tables:
        parts += _table(table, figures)
    for section in text.leading:
        parts += _section(section, figures)
    for name, figure in figures.items():
        if figure.group == "classes":
            parts += [f"## {escaped(figure.title)}", _image(name, figure)]
    for section in text.sections:
        parts += _section(section, figures)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, figures: Mapping[str, Figure]) -> list[str]:
    parts = [f"## {escaped(section.title)}"]
    if section.sentences:
        parts.append("\n".join(f"- {escaped(sentence)}" for sentence in section.sentences))
    if section.rows:
        parts.append(_grid(section.headings, section.rows))
    return parts + [_image(name, figures[name]) for name in section.figures]


def _table(table: Printed, figures: Mapping[str, Figure]) -> list[str]:
    parts = [f"### {escaped(table.title)}", _printed(table)]
    if table.footnotes:
        parts.append("\n".join(f"\\[{index}\\] {escaped(note)}  " for index, note in enumerate(table.footnotes, 1)))
    if table.note:
        parts.append(escaped(table.note))
    return parts + [_image(name, figure) for name, figure in figures.items() if figure.table == table.name]


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
