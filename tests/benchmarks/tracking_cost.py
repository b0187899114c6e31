"""What a tracking server in trouble costs a study: `python -m tests.benchmarks.tracking_cost`.

The same trials are run inline again and again, without a mirror and with one whose store works, is not there, never
answers, answers 500, is a SQLite file that another program has locked, or is one that was left half made. Printed is
the median time a trial takes, over that of the runs without tracking in the same rounds, and the spread of the latter.
The stubs sleep and compute a little, so that a mirror that takes the processor away is seen too.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from mfm_tune.tracking.mirror import start_mirror
from tests.mfm_tune.stub_launch import launch, stub_trials
from tests.mfm_tune.stub_program import StubConfig
from tests.mfm_tune.tracking.tracking_places import (
    dead_address,
    failing_server,
    hanging_server,
    make_database,
    storage_with,
)

Place = Callable[[Path], AbstractContextManager[str | None]]


@contextmanager
def dead(_storage: Path) -> Iterator[str]:
    """Nothing listens."""
    yield dead_address()


@contextmanager
def locked(storage: Path) -> Iterator[None]:
    """Another program holds the file."""
    holder = sqlite3.connect(storage / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield None
    finally:
        holder.close()


@contextmanager
def half_made(storage: Path) -> Iterator[None]:
    """The file has two of the tables, and nothing else."""
    (storage / "mlflow.db").unlink()
    with sqlite3.connect(storage / "mlflow.db") as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.close()
    yield None


PLACES: dict[str, Place | None] = {
    "no tracking": None,
    "a SQLite file": lambda _storage: nullcontext(None),
    "a dead server": dead,
    "a server that never answers": lambda _storage: hanging_server(),
    "a server that answers 500": lambda _storage: failing_server(),
    "a locked SQLite file": locked,
    "a SQLite file half made": half_made,
}


def seconds(place: Place | None, storage: Path, trials: int, steps: int) -> float:
    """Time of a study's trials, its mirror at work; the wait for the mirror at the end is not in it."""
    with nullcontext() if place is None else place(storage) as uri:
        mirror = None if place is None else start_mirror(storage, uri)
        begun = time.perf_counter()
        launch(storage, stub_trials([StubConfig(level=1, steps=steps, sleep_s=0.02)], seeds=range(trials)), inline=True)
        took = time.perf_counter() - begun
        if mirror is not None:
            mirror.finish(0.1)
    return took / trials


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tracking_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args(argv)
    times: dict[str, list[float]] = {name: [] for name in PLACES}
    with tempfile.TemporaryDirectory() as folder:
        empty = make_database(Path(folder) / "empty.db")
        for number in range(given.rounds):
            for name, place in PLACES.items():
                storage = storage_with(empty, Path(folder) / f"{number}-{name.replace(' ', '-')}")
                times[name].append(seconds(place, storage, given.trials, given.steps))
    base = times["no tracking"]
    print(f"{'':32}{'s a trial':>10}{'ratio':>8}   ratios of the rounds")
    for name, of_place in times.items():
        ratios = [each / other for each, other in zip(of_place, base, strict=True)]
        rounds = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:32}{statistics.median(of_place):10.3f}{statistics.median(ratios):8.3f}   {rounds}")
    noise = [each / statistics.median(base) for each in base]
    print(f"runs without tracking lie between {min(noise):.3f} and {max(noise):.3f} of their median")
    return 0


if __name__ == "__main__":
    sys.exit(main())
