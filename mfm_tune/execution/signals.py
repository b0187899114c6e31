"""How a run ends before its trials do: SIGINT, SIGTERM, or the loss of what trials run on."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESUME = "To resume, give the same command again."
LAST_S = 5.0  # how long the main thread has to come out of a library when what trials run on is lost


class Interrupted(BaseException):
    """A signal asked the run to stop. Not an Exception, so that no trial mistakes it for a failure of its own.

    Args:
        number: SIGINT or SIGTERM.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + int(self.number)


class EngineLost(BaseException):
    """What trials run on is gone: one sentence, exit code 1. Trials in progress stay open. Not an Exception, so that no
    trial and no library takes it for a failure of its own."""


class Interruption:
    """SIGINT and SIGTERM as `Interrupted`, raised where the main thread is, as a context.

    Signals reach the main thread only; in another thread nothing is listened to.

    Args:
        at_once: Raise at the first signal; else the first is remembered, and the second raises.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.number: signal.Signals | None = None
        self._at_once = at_once
        self._raised: Interrupted | None = None
        self._lost: EngineLost | None = None
        self._out = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def came(self) -> bool:
        """Whether a signal asked the run to stop."""
        return self.number is not None

    def listen(self) -> None:
        """Take the signals over, again where a library has taken them in between."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.signal(number, self._handle)
                self._before.setdefault(number, handler)

    def lose(self, lost: EngineLost) -> None:
        """End the run, called in another thread: what trials run on is lost."""
        if not self._before:
            return  # the run is not in the main thread, and the engine's library ends it by itself
        self._lost = lost
        _thread.interrupt_main(signal.SIGINT)
        if not self._out.wait(LAST_S):
            _leave(lost)

    @contextmanager
    def upheld(self) -> Iterator[None]:
        """Within, what a signal raises stays what it is: the compiled part of Ray makes a SystemError of it."""
        try:
            yield
        except SystemError as error:
            raise self._lost or self._raised or error from None
        finally:
            self._out.set()

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._lost is not None:
            raise self._lost
        first = self.number is None
        self.number = self.number or signal.Signals(number)
        if self._at_once or not first:
            self._raised = Interrupted(self.number)
            raise self._raised


def _leave(lost: EngineLost) -> NoReturn:
    """End this process where its main thread waits in Ray's own code for what is lost, from which nothing calls it
    back, and which would end the process within a minute. The ledger is as whole as after any kill."""
    show_cursor = "\x1b[?25h\n" if sys.stdout.isatty() else ""
    print(show_cursor, end="", flush=True)
    print(lost, file=sys.stderr, flush=True)
    os._exit(1)
