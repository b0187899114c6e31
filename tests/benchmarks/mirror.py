"""What MLflow costs: time and size of the mirror, the driver's wait, results a second, memory of the UI.

    python -m tests.benchmarks.mirror [--trials 300] [--reports 30] [--metrics 60]

Prints one line a figure. The ledger is made up; store, server and mirror are real. Run it on an idle machine: the
mirror is a process of low priority and gets what the others leave.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from mfm_tune import sync
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.tracking.mirror import Mirror, Target, caught_up, start_mirror
from mfm_tune.tracking.server import server
from tests.mfm_tune.tracking.tracking_ledger import Fiction, write
from tests.mfm_tune.tracking.tracking_places import hanging_server, make_database, storage_with

MIB = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mirror", description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--reports", type=int, default=30)
    parser.add_argument("--metrics", type=int, default=60)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        begun = time.perf_counter()
        empty = make_database(root / "empty.db")
        say("first use of a SQLite file, process and import included", time.perf_counter() - begun, "s")
        whole = storage_with(empty, root / "whole")
        delivered(whole, given.trials, given.reports, given.metrics)
        shown(whole)
        followed(storage_with(empty, root / "followed"), given.metrics)
        driver_waits(root, empty, given.metrics)
    return 0


def say(what: str, figure: float, unit: str) -> None:
    """One figure."""
    print(f"{what:75} {figure:12,.1f} {unit}", flush=True)


def delivered(storage: Path, trials: int, reports: int, metrics: int) -> None:
    """A whole ledger to a new SQLite file, and once more."""
    seeds = 3
    widths = tuple(range(128, 128 + max(1, trials // seeds - 2)))
    ledger = write(storage, Fiction(seeds=seeds, reports=reports, metrics=metrics, widths=widths).events())
    count = (len(widths) + 2) * seeds
    numbers = count * reports * metrics
    say(f"ledger of {count} trials x {reports} reports x {metrics} metrics", ledger.stat().st_size / MIB, "MiB")
    begun = time.perf_counter()
    sync.synchronise(Target(storage))
    took = time.perf_counter() - begun
    say(f"mirror of it ({numbers:,} numbers), from an empty SQLite file", took, "s")
    say("numbers a second", numbers / took, "/s")
    say("mlflow.db", (storage / "mlflow.db").stat().st_size / MIB, "MiB")
    begun = time.perf_counter()
    sync.synchronise(Target(storage))
    say("again, nothing is new", time.perf_counter() - begun, "s")
    begun = time.perf_counter()
    sync.synchronise(Target(storage), from_start=True)
    say("again, from the start", time.perf_counter() - begun, "s")


def shown(storage: Path) -> None:
    """The UI's server on it."""
    begun = time.perf_counter()
    with server(Target(storage)) as address:
        say("UI ready", time.perf_counter() - begun, "s")
        time.sleep(2)
        processes = [pid for pid in pids() if address.rpartition(":")[2] in command(pid) and "mlflow" in command(pid)]
        say("its processes", len(processes), "")
        say("their memory (proportional set size)", sum(memory(pid) for pid in processes) / MIB, "MiB")


def followed(storage: Path, metrics: int) -> None:
    """Results a second through ledger and mirror: as fast as they can be written, until MLflow has them."""
    with following(storage, None) as mirror:
        until(mirror)
        begun = time.perf_counter()
        count = sum(1 for _ in reports(storage, metrics, trials=40))
        written = time.perf_counter() - begun
        until(mirror)
        took = time.perf_counter() - begun
    say("results a second into the ledger", count / written, "/s")
    say(f"results a second through ledger and mirror (results of {metrics} numbers)", count / took, "/s")


def driver_waits(root: Path, empty: Path, metrics: int) -> None:
    """The driver's time for a result without a mirror, with one that works, and with a server that never answers."""
    with hanging_server() as hanging:
        for name, uri in (("no mirror", None), ("a mirror to SQLite", None), ("a server that never answers", hanging)):
            storage = storage_with(empty, root / name.replace(" ", "-"))
            mirrored = nullcontext() if name == "no mirror" else following(storage, uri)
            with mirrored:
                times = list(reports(storage, metrics, trials=8, pause=0.01))
            say(f"driver's time for a result, {name}: median", 1e6 * statistics.median(times), "us")
            say(f"driver's time for a result, {name}: 99 %", 1e6 * statistics.quantiles(times, n=100)[98], "us")


def reports(storage: Path, metrics: int, trials: int, pause: float = 0.0) -> Iterator[float]:
    """Append trials' lines by the driver's own writer; yields the seconds of each report."""
    fiction = Fiction(seeds=1, reports=30, metrics=metrics, widths=tuple(range(trials - 2)))
    writer = LedgerWriter(storage / "ledger.jsonl")
    for event in fiction.events():
        if event["event"] == "ledger":
            continue
        begun = time.perf_counter()
        writer.append(event)
        if event["event"] == "report":
            yield time.perf_counter() - begun
            time.sleep(pause)
    writer.close()


@contextmanager
def following(storage: Path, uri: str | None) -> Iterator[Mirror]:
    """A mirror at work."""
    LedgerWriter(storage / "ledger.jsonl").close()
    mirror = start_mirror(storage, uri)
    try:
        yield mirror
    finally:
        mirror.finish(0.1)


def until(mirror: Mirror) -> None:
    """Wait until all is delivered."""
    while not caught_up(mirror.target):
        time.sleep(0.02)


def pids() -> list[int]:
    """All processes."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def command(pid: int) -> str:
    """A process's command line, empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def memory(pid: int) -> int:
    """Proportional set size in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
