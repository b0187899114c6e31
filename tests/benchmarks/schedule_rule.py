"""The rule of docs/schedule.md over the trials of search_spaces/schedule.py that a ledger has, as a Markdown table.

python -m tests.benchmarks.schedule_rule [--storage DIR]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from mfm_tune.identity import config_id
from mfm_tune.ledger.state import LedgerState, read_storage
from search_spaces.schedule import DACS, GATES, PRETRAINING, QUARTERS, STEPS, STUDY, VARIANTS, scheduled
from trainables.recipes import MINI

GAP, FLAT = 5.0, 1.0  # mIoU
SOURCE, ORACLE = "source-only", "oracle"


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What the ledger has of a pair of lengths, student mIoU.

    Args:
        finals: Row -> seed -> the last value.
        last_quarter: What DACS gains in it, over the seeds that it has.
    """

    pretraining: int
    steps: int
    finals: Mapping[str, Mapping[int, float]]
    last_quarter: float

    def differences(self, a: str, b: str) -> list[float]:
        """a - b over the seeds that both have."""
        return [self.finals[a][seed] - self.finals[b][seed] for seed in self.finals[a] if seed in self.finals[b]]

    @property
    def passes(self) -> bool:
        """The three gates, on every seed."""
        return min(self.gaps) >= GAP and self.last_quarter < FLAT

    @property
    def gaps(self) -> tuple[float, float]:
        """DACS - source-only and oracle - DACS on the seed on which it is smallest; -inf where there is none."""
        adapted, open_ = self.differences(DACS, SOURCE), self.differences(ORACLE, DACS)
        return min(adapted, default=-math.inf), min(open_, default=-math.inf)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds of variant - DACS, pooled over the variants."""
        every = [self.differences(name, DACS) for name in VARIANTS]
        variances = [stdev(each) ** 2 for each in every if len(each) > 1]
        return math.sqrt(fmean(variances)) if variances else None


def of_lengths(state: LedgerState, pretraining: int, steps: int) -> Lengths | None:
    """What the ledger has of them; None where it has no DACS."""
    scale = scheduled(MINI, pretraining, steps)
    configs = {name: config_id(make(scale)) for name, make in (*GATES.items(), *VARIANTS.items())}
    finals = {name: state.finals(config, STUDY.seeds, STUDY.metric) for name, config in configs.items()}
    if not finals[DACS]:
        return None
    gains = [finals[DACS][seed] - before(state, configs[DACS], seed, steps) for seed in finals[DACS]]
    return Lengths(pretraining=pretraining, steps=steps, finals=finals, last_quarter=fmean(gains))


def before(state: LedgerState, config: str, seed: int, steps: int) -> float:
    """The metric at three quarters of the steps."""
    record = state.counts(config, seed)
    assert record is not None
    at = steps - steps // QUARTERS
    return next(float(report["metrics"][STUDY.metric]) for report in record.reports if report["step"] == at)


def line(found: Lengths) -> str:
    """A row of the table."""
    seeds = len(found.finals[DACS])
    dacs = fmean(found.finals[DACS].values())
    spread = found.spread
    cost = ["–", "–"] if spread is None else [f"{spread:.2f}", f"{spread**2 * found.steps:,.0f}"]
    cells = [
        f"{found.pretraining}",
        f"{found.steps:,}",
        f"{seeds}",
        f"{dacs:.1f}",
        *(f"{gap:.1f}" for gap in found.gaps),
    ]
    return " | ".join(["", *cells, f"{found.last_quarter:+.1f}", "yes" if found.passes else "no", *cost, ""]).strip()


def main(storage: Path) -> None:
    """Print the table."""
    state = read_storage(storage)
    head = ("pre-training", "steps", "seeds", "DACS", "− source-only", "oracle −", "last quarter", "passes", "sd")
    print("| " + " | ".join((*head, "sd² × steps")) + " |")
    print("|" + " ---: |" * (len(head) + 1))
    for pretraining, steps in product(PRETRAINING, STEPS):
        found = of_lengths(state, pretraining, steps)
        if found is not None:
            print(line(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The rule of docs/schedule.md over the trials that a ledger has.")
    parser.add_argument("--storage", type=Path, default=Path("runs"), help="of the run (./runs)")
    main(parser.parse_args().storage)
