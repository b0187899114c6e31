"""What a trial costs beyond its training: our engine beside a Ray Tune function trainable with fresh workers.

    python -m tests.benchmarks.trial_overhead [--trials 40] [--fresh-trials 8] [--seconds 0.25]

Each trial imports torch and sleeps. One-off is what a launch costs whatever its length: from the command to the first
trial's work, and from the last one's to the end. Marginal is the typical (median) pause between two trials at one
place, which is what each further trial adds beyond its own seconds. Both engines run on the same number of workers, one
after the other, each with a Ray of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mfm_tune.execution.resources import local_slots
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.tune.engine import run_with_ray
from mfm_tune.tune.environment import set_environment
from tests.benchmarks.instant_program import (
    REPOSITORY,
    Instant,
    InstantProgram,
    InstantRunning,
    new_recorder,
    trials_of,
)

Spans = Sequence[tuple[float, float]]  # when each trial's work began and ended


@dataclass(frozen=True)
class Overhead:
    """Seconds beyond training."""

    one_off: float
    marginal: float


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="of our engine")
    parser.add_argument("--fresh-trials", type=int, default=8, help="of the function trainable, which takes longer")
    parser.add_argument("--seconds", type=float, default=0.25, help="work of one trial")
    given = parser.parse_args()
    set_environment(None)
    import ray.tune  # noqa: F401 - so that neither engine pays for it

    before = os.getloadavg()[0]
    ours = measured(run_ours, given.trials, given.seconds)
    fresh = measured(run_function_with_fresh_workers, given.fresh_trials, given.seconds)
    print(f"load average before and after: {before:.1f}, {os.getloadavg()[0]:.1f}; {local_slots(1, 0)} workers")
    print(f"{'engine':<44}{'one-off':>10}{'marginal a trial':>19}")
    print(f"{'function trainable, fresh workers':<44}{fresh.one_off:>8.2f} s{1000 * fresh.marginal:>16.0f} ms")
    print(f"{'this engine, workers reused':<44}{ours.one_off:>8.2f} s{1000 * ours.marginal:>16.0f} ms")
    print(f"{'ratio':<44}{fresh.one_off / ours.one_off:>10.1f}{fresh.marginal / max(ours.marginal, 1e-4):>19.0f}")
    return 0


def measured(run: Callable[[int, float], Spans], count: int, seconds: float) -> Overhead:
    """Run trials, and split what they took beyond their own work."""
    started = time.time()
    spans = run(count, seconds)
    ended = time.time()
    first, last = min(begun for begun, _ in spans), max(end for _, end in spans)
    return Overhead(one_off=(first - started) + (ended - last), marginal=median(pauses(spans)))


def pauses(spans: Spans) -> list[float]:
    """From a trial's end to the beginning of the one that took its place: the last one that ended before."""
    found: list[float] = []
    left: list[float] = []  # ends of trials whose place nobody took yet
    for begun, ended in sorted(spans):
        before = max((end for end in left if end <= begun), default=None)
        if before is not None:
            left.remove(before)
            found.append(begun - before)
        left.append(ended)
    return found


def run_ours(count: int, seconds: float) -> Spans:
    """Through `mfm_tune.tune.engine`, ledger and all."""
    trials = trials_of([Instant(number=number, seconds=seconds) for number in range(count)])
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder)
        recorder, state = new_recorder(storage, trials)
        run_with_ray(InstantProgram(), trials, recorder, EngineOptions(storage=storage, import_paths=(REPOSITORY,)))
    return [(record.metrics["begun"], record.metrics["ended"]) for record in state.trials.values()]


def run_function_with_fresh_workers(count: int, seconds: float) -> Spans:
    """Plain Ray Tune: a function trainable, a new worker for each trial, its own loggers off as ours are."""
    import ray
    from ray import tune

    def work(config: dict[str, int]) -> None:
        sys.path.insert(0, REPOSITORY)
        tune.report(dict(InstantRunning(Instant(number=config["number"], seconds=seconds)).advance()["metrics"]))

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(work, {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(count)))},
            tune_config=tune.TuneConfig(reuse_actors=False),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = [result.metrics for result in tuner.fit()]
    ray.shutdown()
    return [(metrics["begun"], metrics["ended"]) for metrics in results if metrics]


if __name__ == "__main__":
    sys.exit(main())
