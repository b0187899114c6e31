"""What a search draws a parameter from: a range of numbers, of integers, or a choice. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from mfm_tune.errors import SearchSpaceError
from mfm_tune.fields import AtLeast1, IntRange
from mfm_tune.published import Declared
from mfm_tune.space import default_label

Printed = float | int | str  # a parameter's value as it is printed and kept in the ledger

End = Annotated[int, IntRange(-(2**53), 2**53)]  # samplers count in floats, which hold integers exactly up to here


@dataclass(frozen=True)
class Float(Declared):
    """A number from a range, both ends included.

    Args:
        low, high: The range.
        log: Draw it by its logarithm.
        digits: Significant digits of a value: what is printed is what is trained.

    Raises:
        SearchSpaceError: The range is empty or not finite, or not positive with `log`.
    """

    low: float
    high: float
    log: bool = False
    digits: Annotated[int, IntRange(1, 17)] = 4

    def _check_together(self) -> None:
        _check_range(self, self.low, self.high, log=self.log)

    @property
    def count(self) -> int | None:
        """How many values there are; None for a continuum."""
        return None

    def rounded(self, value: float) -> float:
        """The value to its significant digits, within the range."""
        return min(self.high, max(self.low, float(f"{value:.{self.digits}g}")))

    def printed(self, value: Any) -> Printed:
        """A value as it is printed."""
        return float(value)

    def value(self, printed: Printed) -> float:
        """The value that is printed so.

        Raises:
            ValueError: It is none of this range.
        """
        if isinstance(printed, str) or not self.low <= printed <= self.high:
            raise ValueError(f"{printed!r} does not lie in {self.low} to {self.high}.")
        return float(printed)

    def grid(self, points: int) -> tuple[float, ...]:
        """Values at equal distances (of the logarithm with `log`), ends included."""
        shares = [number / (points - 1) for number in range(points)] if points > 1 else [0.5]
        if self.log:
            ratio = self.high / self.low
            return tuple(self.rounded(self.low * ratio**share) for share in shares)
        return tuple(self.rounded(self.low + (self.high - self.low) * share) for share in shares)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Integer(Declared):
    """A whole number from a range, both ends included.

    Args:
        low, high: The range.
        step: Distance of values, counted from `low`.
        log: Draw it by its logarithm; `step` must then be 1.

    Raises:
        SearchSpaceError: The range is empty, not positive with `log`, or no whole number of steps.
    """

    low: End
    high: End
    step: AtLeast1 = 1
    log: bool = False

    def _check_together(self) -> None:
        _check_range(self, self.low, self.high, log=self.log)
        if (self.high - self.low) % self.step or (self.log and self.step != 1):
            raise SearchSpaceError(
                f"Integer must have whole ends a whole number of steps apart, and step 1 with log, got low={self.low}, "
                f"high={self.high}, step={self.step}, log={self.log}; change one of them."
            )

    @property
    def count(self) -> int | None:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def printed(self, value: Any) -> Printed:
        """A value as it is printed."""
        return int(value)

    def value(self, printed: Printed) -> int:
        """The value that is printed so.

        Raises:
            ValueError: It is none of this range.
        """
        if not isinstance(printed, int) or printed not in range(self.low, self.high + 1, self.step):
            raise ValueError(f"{printed!r} is none of {self}.")
        return printed

    def grid(self, points: int) -> Sequence[int]:
        """All values, none of them held in memory."""
        return range(self.low, self.high + 1, self.step)

    def __str__(self) -> str:
        step = f" by {self.step}" if self.step > 1 else ""
        return f"{self.low} to {self.high}{step}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choice(Declared):
    """One of several options; enums are printed by their value.

    Raises:
        SearchSpaceError: No option, or two that are printed alike.
    """

    options: tuple[Hashable, ...]

    def _check_together(self) -> None:
        texts = [str(self.printed(option)) for option in self.options]
        if not texts or len(set(texts)) != len(texts):
            raise SearchSpaceError(
                "Choice must have options that are printed differently, at least one, got "
                f"{', '.join(texts) or 'none'}."
            )

    @property
    def count(self) -> int | None:
        """How many options there are."""
        return len(self.options)

    def printed(self, value: Any) -> Printed:
        """An option as it is printed."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return value if is_number else default_label(value)

    def value(self, printed: Printed) -> Any:
        """The option that is printed so.

        Raises:
            ValueError: There is none.
        """
        for option in self.options:
            if self.printed(option) == printed:
                return option
        raise ValueError(f"{printed!r} is none of {self}.")

    def grid(self, points: int) -> tuple[Any, ...]:
        """All options."""
        return self.options

    def __str__(self) -> str:
        return ", ".join(str(self.printed(option)) for option in self.options)


Distribution = Float | Integer | Choice


def _check_range(kind: Any, low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
        above = "0 < low < high" if log else "low < high"
        raise SearchSpaceError(f"{type(kind).__name__} must have finite ends with {above}, got {low} and {high}.")
