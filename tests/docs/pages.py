"""What the pages show: blocks of code that are tested, and the commands of the README's table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Row:
    """A row of the table "I want to ..."."""

    wish: str
    pages: tuple[str, ...]
    command: str


def blocks(page: Path) -> list[tuple[str, str]]:
    """The Python blocks of a page, each with the name in the comment above it, in order."""
    return re.findall(r"<!-- tested: ([^\n]+) -->\n```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def block(name: str) -> str:
    """The Python block of a name, on whichever page it is."""
    found = [text for page in (README, *DOCS.glob("*.md")) for own, text in blocks(page) if own == name]
    assert len(found) == 1, f"{len(found)} pages have a block for '{name}'"
    return found[0]


def rows() -> list[Row]:
    """The table "I want to ..." of the README."""
    table = README.read_text(encoding="utf-8").split("| I want to ... |")[1].split("\n\n")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [Row(wish, tuple(re.findall(r"\]\(([^)#]+)", pages)), command.strip("`")) for wish, pages, command in lines]


def printed(name: str) -> tuple[str, list[str]]:
    """A command that the README shows, and the lines that it shows of what is printed."""
    found = re.search(
        rf"<!-- printed: {name} -->\n```console\n\$ (.*?)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found, f"the README has no output of '{name}'"
    return found.group(1), found.group(2).splitlines()
