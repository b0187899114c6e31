"""A plain progress line: how far, how fast, how long still."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[str, int, int, int], None]  # receives a part, what is done, the total, and what is broken

LINE_EVERY_S = 10.0  # where the output is no terminal
REDRAW_EVERY_S = 0.2


class ProgressLine:
    """Shows the progress of a long command on standard error, in one line that is redrawn on a terminal."""

    def __init__(self, stream: TextIO | None = None, unit: str = "images") -> None:
        self._unit = unit
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._part = ""
        self._started = 0.0
        self._first = 0
        self._shown = 0.0

    def __call__(self, part: str, done: int, total: int, broken: int) -> None:
        """Show that `done` of `total` things of a part (a split) are done, `broken` of them unusable.

        A part starts at its first call: work of an earlier run does not count for the speed.
        """
        now = time.monotonic()
        if part != self._part:
            self._part, self._started, self._first = part, now, done
        interval = REDRAW_EVERY_S if self._terminal else LINE_EVERY_S
        if done < total and now - self._shown < interval:
            return
        self._shown = now
        text = self._text(done, total, broken, now - self._started)
        end = "\n" if done >= total or not self._terminal else ""
        self._stream.write(f"\r{text:<78}{end}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def _text(self, done: int, total: int, broken: int, seconds: float) -> str:
        text = f"{self._part}: {done}/{total} {self._unit}, {100 * done // max(total, 1)} %"
        if done > self._first and seconds > 0:
            speed = (done - self._first) / seconds
            text += f", {speed:.1f} {self._unit}/s, {duration((total - done) / speed)} left"
        return text + (f", {broken} broken" if broken else "")


def duration(seconds: float) -> str:
    """Seconds as text of at most two units, such as `3 min 20 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def gigabytes(size: int) -> str:
    """Bytes in GB (or MB where that is small)."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
