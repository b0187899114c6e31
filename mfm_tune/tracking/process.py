"""The mirror process: follows a ledger and delivers it to MLflow until its driver goes away.

    python -m mfm_tune.tracking.process --storage DIR

Started by `mfm_tune.tracking.mirror.start_mirror`. Its standard input is a pipe that only the driver holds. Its first
line is the tracking URI, which may hold a password, or empty; when it closes, what is left is delivered, for at most
`DRAIN_S`, and the process ends. MLflow is imported when there is something to deliver. One
mirror a store: a lock keeps a second one waiting.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mfm_tune.console import steady_streams
from mfm_tune.ledger.uri import without_password_of
from mfm_tune.tracking.mirror import Target, ledger_identity, quiet_environment, state_of_exports, write_state
from mfm_tune.tracking.reader import Batch, BrokenLedgerError, LedgerReader

if TYPE_CHECKING:
    from mfm_tune.tracking.delivery import Delivery

POLL_S = 0.5
DRAIN_S = 30.0
LONGEST_WAIT_S = 60.0
REPORTS_S = 5.0  # how often files of reports and models are looked at


class Mirroring:
    """Delivers a ledger. `catch_up` can be called again after any error.

    Args:
        target: From where to where.
        from_start: Deliver everything again, whatever MLflow has.

    Attributes:
        offset: How far the ledger is delivered.
        exports: The state of the exports that are delivered (`mirror.state_of_exports`).
    """

    def __init__(self, target: Target, *, from_start: bool = False) -> None:
        self.target = target
        self._mended = ""
        self._from_start = from_start
        self._begin()

    @property
    def notice(self) -> str:
        """What was done to a damaged database, and which experiments get nothing, in sentences; else empty."""
        deleted = "" if self._delivery is None else self._delivery.store.deleted
        return " ".join(filter(None, (self._mended, deleted)))

    @property
    def rows(self) -> int:
        """How many rows the store has taken from this object."""
        return 0 if self._delivery is None else self._delivery.store.rows

    @property
    def taken(self) -> int:
        """Changes whenever the store has taken something."""
        return 0 if self._delivery is None else self._delivery.store.taken

    @property
    def doing(self) -> str:
        """How far `catch_up` is, in words, for another thread; empty while it delivers no lines."""
        batch, delivery = self._batch, self._delivery
        if batch is None or delivery is None:
            return ""
        left = sum(len(rows) for rows in list(batch.rows.values()))
        text = f"{self.rows:,} of {self.rows + left:,} numbers delivered"
        return text if left else f"{text}, files of {delivery.trials_with_files} of {len(batch.trials)} trials"

    def _begin(self) -> None:
        self.offset = 0
        self.exports = ""
        self._ledger = ledger_identity(self.target.ledger)
        self._reader = LedgerReader(self.target.ledger)
        self._delivery: Delivery | None = None
        self._batch: Batch | None = None
        self._reports_at = -REPORTS_S

    def catch_up(self) -> None:
        """Deliver all whole lines that the ledger has now, the reports, and exported models.

        Raises:
            TroubleError: The store does not answer; nothing is lost.
            RefusedError: The store takes no experiment of this name.
        """
        if not self._ledger or self._ledger != ledger_identity(self.target.ledger):
            self._begin()
        if self._ledger:
            self._deliver()
        write_state(self.target, word="", detail=self.notice, offset=self.offset, exports=self.exports)

    def _deliver(self) -> None:
        from mfm_tune.tracking.trouble import TroubleError, VanishedError

        try:
            self._deliver_lines()
        except VanishedError:
            self._begin()
            try:
                self._deliver_lines()
            except VanishedError as error:
                raise TroubleError("failing", str(error)) from error

    def _deliver_lines(self) -> None:
        delivery = self._delivery or self._connected()
        while (batch := self._batch or self._reader.read()) is not None:
            self._batch = batch
            delivery.deliver(batch)
            self.offset = self._reader.offset
            self._batch = None
        if time.monotonic() - self._reports_at >= REPORTS_S:
            delivery.deliver_reports()
            exports = state_of_exports(self.target)  # before they are delivered: one may come meanwhile
            delivery.deliver_models()
            self.exports = exports
            self._reports_at = time.monotonic()

    def look_at_reports(self) -> None:
        """Look at the files of reports and models at the next `catch_up`, however short ago that was done."""
        self._reports_at = -REPORTS_S

    def _connected(self) -> Delivery:
        """Open the store."""
        from mfm_tune.tracking.delivery import Delivery
        from mfm_tune.tracking.store import TrackingStore

        store = TrackingStore(self.target, self._ledger, from_start=self._from_start)
        self._mended = store.notice or self._mended
        write_state(self.target, word="", detail=self.notice, offset=self.offset, exports=self.exports)
        self._delivery = Delivery(self.target, self._ledger, store, self._reader)
        return self._delivery


class Driver:
    """The driver at the other end of standard input.

    Attributes:
        tracking_uri: The first line it wrote; None is the SQLite file in the storage folder.
        gone: Set when it went away.
    """

    def __init__(self) -> None:
        self._pipe = io.FileIO(0, closefd=False)  # unbuffered: a lock on a buffer would outlive the thread below
        self.tracking_uri = self._pipe.readline().decode().removesuffix("\n") or None
        self.gone = threading.Event()
        self._deadline = math.inf
        threading.Thread(target=self._wait, name="driver", daemon=True).start()

    def _wait(self) -> None:
        with suppress(OSError):
            self._pipe.readall()
        self._deadline = time.monotonic() + DRAIN_S
        self.gone.set()

    def is_overdue(self, after_s: float = 0.0) -> bool:
        """Whether it will have been gone for longer than `DRAIN_S` after so many seconds."""
        return time.monotonic() + after_s > self._deadline


def follow(target: Target, driver: Driver) -> int:
    """Deliver until the driver is gone and all is delivered, or `DRAIN_S` after that.

    The mirror of an earlier driver is waited for: it ends by itself.
    """
    lock = FileLock(target.lock)
    while not driver.is_overdue():
        with suppress(Timeout), lock.acquire(timeout=POLL_S):
            return _follow(target, driver, Mirroring(target))
    return 1


def _follow(target: Target, driver: Driver, mirroring: Mirroring) -> int:
    delay = 0.0
    while True:
        last = driver.gone.is_set()  # asked before delivering: what the driver wrote is then in the ledger
        if last:
            mirroring.look_at_reports()
        taken = mirroring.taken
        trouble = _one_pass(target, mirroring)
        if last and not trouble:
            return 0
        stuck = trouble and mirroring.taken == taken  # else a server that misses some requests is asked on
        delay = min(LONGEST_WAIT_S, 2 * delay) if stuck and delay else float(trouble)
        if driver.is_overdue(delay):
            return 1
        if last:
            time.sleep(delay)
        else:
            driver.gone.wait(delay or POLL_S)


def _one_pass(target: Target, mirroring: Mirroring) -> bool:
    """Deliver what there is; True where that did not succeed. Never raises: the next pass tries again."""
    try:
        mirroring.catch_up()
    except BrokenLedgerError as error:
        word, detail = "broken", str(error)
    except Exception as error:
        word, detail = getattr(error, "word", "failing"), "".join(traceback.format_exception(error))
        detail = without_password_of(target.given, detail)
    else:
        return False
    last = detail.strip().splitlines()[-1]
    write_state(target, word=word, detail=last, offset=mirroring.offset, exports=mirroring.exports)
    print(time.strftime("%Y-%m-%d %H:%M:%S"), word, detail, file=sys.stderr, flush=True)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Follow a ledger. Returns 0 where all was delivered."""
    parser = argparse.ArgumentParser(prog="python -m mfm_tune.tracking.process", description=__doc__)
    parser.add_argument("--storage", type=Path, required=True)
    given = parser.parse_args(argv)
    os.environ.update(quiet_environment())
    with suppress(OSError):
        os.nice(10)  # training goes first
    driver = Driver()
    return follow(Target(given.storage.absolute(), driver.tracking_uri), driver)


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
