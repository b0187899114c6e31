"""Numbers as people read them. Standard library only."""

from __future__ import annotations

import math

NOTHING = "–"
MINUS = "−"
SIGNIFICANT = 3
MOST_WITH_DECIMALS = 999.5  # from here on three significant digits leave no decimal


def number(value: float | None, digits: int | None = 1) -> str:
    """`55.1`, with a true minus sign; a dash for None and for numbers that are not finite.

    Args:
        digits: Decimals; None takes three significant digits.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}" if digits is not None else _significant(value)
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else MINUS + text[1:]
    return text


def signed(value: float | None, digits: int | None = 1) -> str:
    """`+0.8`, `−0.8`, `0.0`; a dash for None and for numbers that are not finite."""
    text = number(value, digits)
    return text if text == NOTHING or text[0] == MINUS or not text.strip("0.") else f"+{text}"


def _significant(value: float) -> str:
    return f"{value:.{SIGNIFICANT}g}" if abs(value) < MOST_WITH_DECIMALS else f"{value:.0f}"
