"""How long the embedded benchmark trains: source-only, DACS, variants of DACS and the oracle, at several lengths.

The schedule of `mini` is chosen by a rule that was written down before a trial of MFM had run with it
(docs/schedule.md), from these trials alone: no row here trains MFM. A pair of a pre-training's length and a number of
steps is left where, on every seed, DACS ends at least 5 above source-only and the oracle at least 5 above DACS, and
where DACS gains less than 1 in the last quarter of its steps. Of these the one is taken whose variants of DACS, which
stand for whatever is compared, need the least training for an interval of a given width: the smallest variance of
paired differences, times the steps.

    python -m mfm_tune.run search_spaces/schedule.py --only p400-s800 --seeds 0 --inline
    python -m tests.benchmarks.schedule_rule
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain, product
from typing import Any

from mfm_tune.space import Axis, Study, Table
from trainables.config import Experiment, SelfTraining, WarmStart
from trainables.program import Segmentation
from trainables.recipes import MINI, OVER_SEEDS, Scale, dacs, oracle, source_only

PRETRAINING = (200, 400, 800)  # steps
STEPS = (400, 540, 800, 1600, 3200)
QUARTERS = 4  # evaluations of a trial: what the last quarter gains is seen


def variant(**changes: Any) -> Callable[[Scale], Experiment]:
    """DACS with fields of its self-training changed."""

    def make(scale: Scale) -> Experiment:
        config = dacs(scale)
        assert isinstance(config.adaptation, SelfTraining)
        return replace(config, adaptation=replace(config.adaptation, **changes))

    return make


Rows = Mapping[str, Callable[[Scale], Experiment]]
DACS = "DACS"
GATES: Rows = {"source-only": source_only, DACS: dacs, "oracle": oracle}
VARIANTS: Rows = {
    "threshold 0.9": variant(threshold=0.9),
    "momentum 0.999": variant(momentum=0.999),
    "no jitter": variant(jitter=None),
}


def scheduled(scale: Scale, pretraining: int, steps: int) -> Scale:
    """The scale with these lengths."""
    assert isinstance(scale.initial, WarmStart)
    return replace(
        scale,
        initial=replace(scale.initial, steps=pretraining),
        schedule=replace(scale.schedule, steps=steps),
        evaluation=replace(scale.evaluation, interval=steps // QUARTERS),
    )


def tables(scale: Scale, pretraining: int, steps: int) -> tuple[Table, Table]:
    """The gates at one pair of lengths, and the variants; each row is compared with the pair's DACS."""
    own, name = scheduled(scale, pretraining, steps), f"p{pretraining}-s{steps}"

    def table(name: str, title: str, rows: Rows) -> Table:
        axis = Axis(
            name=name,
            levels=tuple(rows),
            make=lambda row: rows[row](own),
            against=lambda row: None if row == DACS else dacs(own),
        )
        return Table(name=name, title=title, axis=axis)

    title = f"{pretraining} steps of pre-training, {steps} steps"
    return table(name, title, GATES), table(f"{name}-variants", f"{title}: variants of DACS", VARIANTS)


STUDY = Study(
    name="schedule",
    title="How long the embedded benchmark trains",
    profile=MINI.name,
    program=Segmentation(),
    tables=tuple(chain.from_iterable(tables(MINI, *lengths) for lengths in product(PRETRAINING, STEPS))),
    comparable=MINI.comparable,
    notes=(OVER_SEEDS,),
)
