"""What a report's text is made of: the banner, and sections that the page and the Markdown print alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Banner:
    """The top of the page: the answers, and what a reader needs in order to understand them."""

    answers: tuple[str, ...]
    context: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, sentences, and perhaps a small table; figures whose group is its key come under it.

    Args:
        visible: How many rows the page shows unasked; None: all of them.
        folded: What the page calls the others.
    """

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    visible: int | None = None
    folded: str = "The table"


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text beside the tables.

    Args:
        first: Sections on the first page, before drawings and tables.
        reading: How many intervals are read at once; printed where the tables begin.
        leading: Sections right behind the tables.
        sections: Those that end the report.
    """

    subtitle: str
    banner: Banner
    first: tuple[Section, ...]
    reading: str
    sections: tuple[Section, ...]
    leading: tuple[Section, ...] = ()


def filled(*sections: Section | None) -> tuple[Section, ...]:
    """The sections that have something to print."""
    return tuple(section for section in sections if section and (section.sentences or section.rows))
