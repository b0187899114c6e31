"""How many results a second go through Tune's controller into the ledger.

    python -m tests.benchmarks.controller_rate [--trials 200] [--results 10]

Trials do nothing but report, with 40 metrics and two confusion matrices. The same trials run twice: with the ledger,
and with a recorder that keeps nothing; their ratio is what recording costs. (1,000 trials of 10 results is the size
of a large search.)
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from mfm_tune.engine import EngineOptions
from mfm_tune.program import Outcome, Report
from mfm_tune.recorder import Recorder
from mfm_tune.tuning import run_with_ray
from tests.benchmarks.instant_program import REPOSITORY, Instant, InstantProgram, new_recorder, trials_of


class Timed(Recorder):
    """Notes when results came."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.times: list[float] = []

    def reported(self, key: str, report: Report) -> None:
        super().reported(key, report)
        self.times.append(time.perf_counter())


class Forgetful(Timed):
    """Keeps nothing."""

    def started(self, key: str, attempt: int) -> None:
        return

    def reported(self, key: str, report: Report) -> None:
        self.times.append(time.perf_counter())

    def ended(self, key: str, outcome: Outcome, *, error: str = "", rung: int | None = None) -> None:
        return


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--results", type=int, default=10, help="of each trial")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}; {given.trials} trials of {given.results} results")
    rates = {kind: rate(kind, given.trials, given.results) for kind in (Forgetful, Timed)}
    print(f"{'without a ledger':<24}{rates[Forgetful]:>8.0f} results/s")
    print(f"{'with the ledger':<24}{rates[Timed]:>8.0f} results/s")
    print(f"{'ratio':<24}{rates[Timed] / rates[Forgetful]:>8.2f}")
    return 0


def rate(kind: type[Timed], trials: int, results: int) -> float:
    """Results a second between the first and the last."""
    planned = trials_of([Instant(number=number, blocks=results) for number in range(trials)])
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder)
        recorder, _ = new_recorder(storage, planned, kind)
        run_with_ray(InstantProgram(), planned, recorder, EngineOptions(storage=storage, import_paths=(REPOSITORY,)))
    assert isinstance(recorder, Timed)
    return (len(recorder.times) - 1) / (recorder.times[-1] - recorder.times[0])


if __name__ == "__main__":
    sys.exit(main())
