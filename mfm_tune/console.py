"""What commands share: a parser and exit codes, streams that cannot fail them, no words of libraries between theirs.

Results are in the ledger before a line about them is printed. So a terminal that cannot encode a sign, a disk that is
full behind a redirection, or a stream that is closed costs lines, never a run or its exit code. A reader that goes
away (`| head`) still ends it, as everywhere.
"""

from __future__ import annotations

import argparse
import codecs
import io
import logging
import os
import re
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

from mfm_tune.errors import OptionError, UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGN_S = 5.0  # between two signs of life of work that lasts
T = TypeVar("T")
ARGUMENT = re.compile(r"^argument (\S+): (?=must )|(?<!\w)argument (?=\S+: |-)")
CHOICE = re.compile(r"invalid choice: (.+) \(choose from (.+)\)")
PLAIN = {"−": "-", "–": "-", "─": "-", "━": "-", "±": "+-", "×": "x", "…": "..."}


class Parser(argparse.ArgumentParser):
    """A parser that reports what is wrong in one sentence, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Raise the `OptionError`."""
        message = message.replace("invalid float value: ", "must be a number, got ")
        told = CHOICE.sub(r"must be one of \2, got \1", message)
        told = ARGUMENT.sub(lambda found: f"{found[1]} " if found[1] else "", told)
        raise OptionError(f"{told}; see {self.prog} --help.")


def integer(text: str, low: int = 1, high: int | None = None) -> int:
    """The value of an option that is an integer, by default of at least 1."""
    if not text.isdecimal() or not low <= int(text) <= (int(text) if high is None else high):
        within = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise argparse.ArgumentTypeError(f"must be an integer {within}, got '{text}'")
    return int(text)


def steady_streams() -> None:
    """Make standard output and error take whatever is printed. For the start of a process."""
    _open_standard_descriptors()
    codecs.register_error("mfm_tune.plainly", _plainly)
    sys.stdout = _steady(sys.stdout, 1, "mfm_tune.plainly")
    sys.stderr = _steady(sys.stderr, 2, "backslashreplace")


def exit_code(run: Callable[[], None]) -> int:
    """Run a command that only reads or writes files: 0, 2 with a sentence on standard error for bad input, 130 for
    Ctrl-C, 141 where the reader of a pipe went away."""
    try:
        run()
        print(end="", flush=True)  # here, where a reader that went away is met, not when the interpreter ends
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def print_timed(text: str) -> None:
    """Print a line at once, behind the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def counting(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a line every `SIGN_S` seconds on how many are done: `17:03:20 120 of 800 runs`."""
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said >= SIGN_S:
            print_timed(f"{number:,} of {len(items):,} {what}")
            said = time.monotonic()
        yield item


class _Lenient(io.FileIO):
    """A descriptor that is written to as far as it takes it; what it does not take is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


def _steady(stream: TextIO | None, descriptor: int, errors: str) -> TextIO:
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lenient(descriptor, "w", closefd=False)),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=errors,
        line_buffering=descriptor == 2 or getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )


def _open_standard_descriptors() -> None:
    """See that 0, 1 and 2 are open: else the ledger would become standard output, and child processes print into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in lacking), error.end


@contextmanager
def quiet_libraries(*, verbose: bool = False) -> Iterator[None]:
    """Leave out what Python warns of in the code of libraries, and what matplotlib logs of its caches; `-W` and
    PYTHONWARNINGS win."""
    if verbose or sys.warnoptions:
        yield
        return
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    places = {Path(path) for name, path in sysconfig.get_paths().items() if name in ("stdlib", "purelib", "platlib")}
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_ours(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not any(place in Path(filename).parents for place in places):
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_ours
        yield
