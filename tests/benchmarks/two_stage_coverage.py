"""How often intervals hold the true difference: of two stages, and of seeds added until the interval is narrow.

    python -m tests.benchmarks.two_stage_coverage [REPETITIONS]

Differences between two configs are drawn from a normal distribution, seed by seed. The two-stage interval is the
platform's own (`pairs_needed`, `paired_difference`). Beside it are what one is tempted to do instead: to look at the
paired t-interval after each seed and stop when it is narrow; and to take the spread of all seeds at the end of the two
stages. An interval of 95 % must hold the true difference in 95 of 100 repetitions.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from mfm_tune.ledger.stages import FirstStage, StageName
from mfm_tune.results.statistics import Paired, paired_difference, pairs_needed, summary, t_quantile

TRUTH, SD = 0.7, 1.0
MOST = 100_000  # seeds, where no other number is given
LOOKS = 80  # seeds after which every paired t-interval of these cases is narrow
NAME = StageName("simulated", "smoke", frozenset(("own", "baseline")), "student/miou")


@dataclass(frozen=True)
class Case:
    """Seeds of the first stage, half-width in standard deviations of the differences, the most seeds of a config."""

    first: int
    half_width: float
    max_seeds: int = MOST


CASES = (
    *(Case(first, half_width) for first in (3, 5) for half_width in (2.0, 1.0, 0.5)),
    Case(3, 0.5, 20),
    Case(5, 0.5, 20),
)


def main(repetitions: int) -> None:
    """Print a row a case: coverage in percent, and seeds of a config on average."""
    print("| first stage | half-width / sd | most seeds | two-stage | seeds | until narrow | seeds | sd of all seeds |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        print(row(case, repetitions), flush=True)


def row(case: Case, repetitions: int) -> str:
    """A case as a row of the table."""
    random = np.random.default_rng([case.first, round(100 * case.half_width), case.max_seeds])
    pairs = [_two_stages(case, random) for _ in range(repetitions)]
    looked, seeds = _until_narrow(case, random, repetitions)
    most = "" if case.max_seeds == MOST else str(case.max_seeds)
    cells = (
        f"{100 * fmean(_holds(each) for each, _ in pairs):.1f}",
        f"{fmean(each.n for each, _ in pairs):.1f}",
        f"{100 * looked:.1f}",
        f"{seeds:.1f}",
        f"{100 * fmean(_holds(each) for _, each in pairs):.1f}",
    )
    return f"| {case.first} | {case.half_width:g} | {most} | {' | '.join(cells)} |"


def _holds(paired: Paired) -> bool:
    assert paired.low is not None
    assert paired.high is not None
    return paired.low <= TRUTH <= paired.high


def _two_stages(case: Case, random: np.random.Generator) -> tuple[Paired, Paired]:
    """The interval of the procedure, and the paired t-interval with the spread of all of its seeds."""
    first = random.normal(TRUTH, SD, case.first).tolist()
    std = summary(first).std
    assert std is not None
    stage = FirstStage(
        name=NAME,
        half_width=case.half_width,
        max_seeds=case.max_seeds,
        seeds=tuple(range(case.first)),
        pairs=tuple(range(case.first)),
        std=std,
        needed=pairs_needed(std, case.first, case.half_width),
        keys=frozenset(),
    )
    further = random.normal(TRUTH, SD, min(stage.needed, case.max_seeds) - case.first).tolist()
    differences = dict(enumerate([*first, *further]))
    zeros = dict.fromkeys(differences, 0.0)
    return paired_difference(differences, zeros, stage), paired_difference(differences, zeros)


def _until_narrow(case: Case, random: np.random.Generator, repetitions: int) -> tuple[float, float]:
    """Coverage and mean number of seeds where one looks after each seed, and stops at the first narrow interval."""
    longest = min(case.max_seeds, LOOKS)
    drawn = random.normal(TRUTH, SD, (repetitions, longest))
    n = np.arange(1, longest + 1)
    mean = drawn.cumsum(1) / n
    variance = np.maximum(0.0, (drawn**2).cumsum(1) - n * mean**2) / np.maximum(1, n - 1)
    quantiles = np.array([0.0, *(t_quantile(0.975, df) for df in range(1, longest))])
    half = quantiles * np.sqrt(variance / n)
    stops = (half <= case.half_width * SD) & (n >= case.first)
    stops[:, -1] |= longest == case.max_seeds
    assert stops.any(1).all(), "an interval is still wide at the last look; raise LOOKS"
    at = np.arange(repetitions), stops.argmax(1)
    return float(np.mean(np.abs(mean[at] - TRUTH) <= half[at])), float(np.mean(n[at[1]]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
