"""Tables and lines by rich: how everything looks that is printed on a terminal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Collection, Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

LEAST = 60


def grid(title: str, headings: Iterable[str], rows: Iterable[Iterable[str]], *, texts: Collection[int] = (0,)) -> Table:
    """A table under a title; columns of numbers are flush right, those whose indices are `texts` flush left."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if index in texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def columns(width: int | None) -> int:
    """How many columns lines may take: as wide as this terminal for None."""
    return max(LEAST, width or shutil.get_terminal_size((100, 24)).columns)


def as_lines(parts: Iterable[RenderableType], width: int | None) -> str:
    """Tables and texts as lines without escape codes, at most `columns(width)` long."""
    file = io.StringIO()
    console = Console(file=file, width=columns(width), color_system=None, highlight=False, legacy_windows=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
