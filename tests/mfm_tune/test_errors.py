"""What errors print."""

from __future__ import annotations

from mfm_tune.errors import last_line


def test_the_last_line_of_a_traceback_says_what_was_wrong() -> None:
    """And an empty one says so."""
    assert last_line("Traceback\n  File\nValueError: no\n\n") == "ValueError: no"
    assert last_line("") == "no reason was given"
