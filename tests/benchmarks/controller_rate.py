"""How many results a second go through Tune's controller into the ledger and on to MLflow.

    python -m tests.benchmarks.controller_rate [--trials 200] [--results 10] [--out tests/benchmarks/results]

Trials do nothing but report, with 40 metrics and two confusion matrices; all of them are pending at once. The same
trials run three times: with a recorder that keeps nothing, with the ledger, and with the ledger and the mirror to
MLflow (SQLite). The ratios are what recording costs; the mirror must have everything soon after the last result.
(1,000 trials of 10 results is the size of a large search.)
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.program import Outcome, Report
from mfm_tune.tracking.mirror import caught_up, start_mirror
from mfm_tune.tune.engine import run_with_ray
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
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the table there, too")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load average {load:.1f}; {given.trials} trials of {given.results} results", flush=True)
    forgotten = measure(Forgetful, given.trials, given.results)
    kept = measure(Timed, given.trials, given.results)
    mirrored = measure(Timed, given.trials, given.results, mirror=True)
    print(f"{'':<32}{'results/s':>10}{'ratio':>8}{'gap between results, ms: median':>34}{'99 %':>8}{'most':>8}")
    measured = {"no ledger": forgotten, "ledger": kept, "ledger and mirror": mirrored}
    for name, each in measured.items():
        median, late, most = (1000 * gap for gap in each.gaps)
        print(f"{name:<32}{each.rate:>10.0f}{each.rate / forgotten.rate:>8.2f}{median:>34.2f}{late:>8.2f}{most:>8.0f}")
    print(f"MLflow had everything {mirrored.behind_s:.1f} s after the last of {mirrored.results:,} results")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "controller_rate.md").write_text(page(measured, given, load))
    return 0


def page(measured: Mapping[str, Measured], given: argparse.Namespace, load: float) -> str:
    """The table as a page."""
    first, mirrored = next(iter(measured.values())), measured["ledger and mirror"]
    lines = [
        "# Results a second through Tune's controller",
        "",
        f"`python -m tests.benchmarks.controller_rate --trials {given.trials} --results {given.results}` on "
        f"{os.cpu_count()} cores, load average {load:.1f} at the start: {given.trials:,} trials that do nothing but "
        f"report, all pending at once, and {mirrored.results:,} results of 40 metrics and two confusion matrices in "
        "each run.",
        "",
        "| | results/s | ratio | gap between results, ms: median | 99 % | most |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in measured.items():
        median, late, most = (1000 * gap for gap in each.gaps)
        rate = f"{each.rate:.0f} | {each.rate / first.rate:.2f}"
        lines.append(f"| {name} | {rate} | {median:.2f} | {late:.2f} | {most:.0f} |")
    lines += ["", f"MLflow (SQLite) had everything {mirrored.behind_s:.1f} s after the last result."]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Measured:
    """When results came; seconds that the mirror had not caught up after the last of them."""

    times: list[float]
    behind_s: float

    @property
    def results(self) -> int:
        return len(self.times)

    @property
    def rate(self) -> float:
        """Results a second between the first and the last."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    @property
    def gaps(self) -> tuple[float, float, float]:
        """Seconds between results: median, 99th percentile, most."""
        gaps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return statistics.median(gaps), statistics.quantiles(gaps, n=100)[98], max(gaps)


def measure(kind: type[Timed], trials: int, results: int, *, mirror: bool = False) -> Measured:
    """Run the trials; with a mirror, wait until it has delivered everything."""
    planned = trials_of([Instant(number=number, blocks=results) for number in range(trials)])
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder)
        recorder, _ = new_recorder(storage, planned, kind)
        assert isinstance(recorder, Timed)
        process = start_mirror(storage, None) if mirror else None
        while process is not None and process.lag() == "starting":  # importing MLflow and making its tables is no lag
            time.sleep(0.1)
        run_with_ray(InstantProgram(), planned, recorder, EngineOptions(storage=storage, import_paths=(REPOSITORY,)))
        behind_s = 0.0
        if process is not None:
            while not caught_up(process.target):
                time.sleep(0.1)
            behind_s = max(0.0, time.perf_counter() - recorder.times[-1])
            process.finish(1.0)
    return Measured(recorder.times, behind_s)


if __name__ == "__main__":
    sys.exit(main())
