"""What the gain depends on: initial weights, the length of training, MFM's start, and the time that it takes.

A study over seeds shows what varies once one set of encoder weights is given, as the paper's ImageNet weights are. Here
five pre-trainings are five sets, three seeds each, so that variation between sets and between seeds within them can be
told apart: each table has a row for each set, and the report analyses both. At every length stand DACS itself, DACS
for as long as DACS + MFM takes, and DACS + MFM; at the length of `midi` also MFM that begins late.

CPU-hours that `--plan` prints, without the five pre-trainings: 0.3, 0.4, 0.6, 1.2 and 2.3 for the tables of 400, 540,
800, 1,600 and 3,200 steps, and 5.6 for all. DACS and DACS + MFM at the lengths of `mini` and `midi`, the smaller set
below, take 0.9:

    python -m mfm_tune.run search_spaces/initial_weights.py --plan
    python -m mfm_tune.run search_spaces/initial_weights.py --only s540-dacs s540-mfm s1600-dacs s1600-mfm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from mfm_tune.space import Axis, Study, Table
from search_spaces.controls import EQUAL_COMPUTE
from search_spaces.schedule import STEPS, scheduled
from trainables.config import Experiment, WarmStart
from trainables.program import Segmentation
from trainables.recipes import MIDI, MINI, SMOKE, Scale, dacs, dacs_mfm, longer, mfm

WEIGHTS = (5, 6, 7, 8, 9)  # seeds of pre-trainings, the first one that of all other studies
STARTS = (0.25, 0.5)  # of the steps, before a late MFM begins
NOTE = (
    "A row is a set of initial encoder weights, and its own mean is over seeds of that set. Means over all rows are "
    "over sets and seeds."
)

Make = Callable[[Scale], Experiment]


def starting_at(share: float) -> Make:
    """DACS + MFM whose term is trained after this share of the steps."""

    def make(scale: Scale) -> Experiment:
        return dacs(scale, replace(mfm(scale), start_step=round(share * scale.schedule.steps)))

    return make


def from_weights(scale: Scale, seed: int) -> Scale:
    """The scale with the encoder of the pre-training of a seed."""
    assert isinstance(scale.initial, WarmStart)
    return replace(scale, initial=replace(scale.initial, seed=seed))


def table(scale: Scale, name: str, title: str, make: Make, baseline: Make | None = dacs) -> Table:
    """One config under every set of weights, compared with the baseline under the same."""
    axis = Axis(
        name=name,
        levels=WEIGHTS,
        make=lambda seed: make(from_weights(scale, seed)),
        label=lambda seed: f"weights {seed}",
        against=None if baseline is None else lambda seed: baseline(from_weights(scale, seed)),
    )
    return Table(name=name, title=title, axis=axis, draws_of="initial weights")


def of_length(scale: Scale) -> tuple[Table, ...]:
    """DACS, DACS for MFM's time, and DACS + MFM."""
    steps = scale.schedule.steps
    return (
        table(scale, f"s{steps}-dacs", f"{steps:,} steps: DACS", dacs, baseline=None),
        table(
            scale,
            f"s{steps}-time",
            f"{steps:,} steps: DACS for MFM's time minus DACS",
            lambda scale: longer(dacs(scale), EQUAL_COMPUTE),
        ),
        table(scale, f"s{steps}-mfm", f"{steps:,} steps: DACS + MFM minus DACS", dacs_mfm),
    )


def late(scale: Scale) -> tuple[Table, ...]:
    """DACS + MFM that begins late."""
    steps = scale.schedule.steps
    return tuple(
        table(
            scale,
            f"s{steps}-start-{100 * share:.0f}",
            f"{steps:,} steps: DACS + MFM from {100 * share:.0f} % of them on minus DACS",
            starting_at(share),
        )
        for share in STARTS
    )


def study(scale: Scale, lengths: tuple[int, ...], begun_late: int) -> Study:
    """All lengths with the scale's pre-training, and a late MFM at one of them."""
    assert isinstance(scale.initial, WarmStart)
    scales = {steps: scheduled(scale, scale.initial.steps, steps) for steps in lengths}
    return Study(
        name="initial_weights",
        title="What the gain of MFM depends on: initial weights, length, start, time",
        profile=scale.name,
        program=Segmentation(),
        tables=(*chain.from_iterable(map(of_length, scales.values())), *late(scales[begun_late])),
        comparable=scale.comparable[1:] if scale is MINI else scale.comparable,  # of mini's own length is the first
        notes=(NOTE,),
    )


STUDIES = {SMOKE.name: study(SMOKE, (8,), 8), MINI.name: study(MINI, STEPS, MIDI.schedule.steps)}
