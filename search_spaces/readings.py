"""The paper's open points as a study: every reading of docs/readings.md that may matter, one row each.

A row is DACS + MFM with one point read otherwise; its number is that of docs/readings.md. So which reading the paper's
gain rests on is measured and not argued about. Points that the other spaces sweep are left to them: the objective (20
to 22) and the sizes of the Rebuilder (8) to Table 2, its learning rate (15) to table_mrm.

    python -m mfm_tune.run search_spaces/readings.py --plan
    python -m mfm_tune.run search_spaces/readings.py --only readings
"""

from __future__ import annotations

from dataclasses import replace

from mfm_tune.space import Axis, Study, Table
from trainables.config import (
    AttentionSource,
    Downscale,
    Experiment,
    LabelWeight,
    LossRegion,
    MaskDraw,
    Mfm,
    MfmInput,
    Norm,
    Position,
    Projector,
    Rebuilder,
    SmallDeepLab,
)
from trainables.program import Segmentation
from trainables.recipes import (
    ABOUT,
    Scale,
    at_each_scale,
    dacs,
    dacs_mfm,
    hrda,
    mfm,
    needs_of,
    original_dacs,
)

DEFAULT = "as in docs/readings.md"
LATE = 0.25  # of the steps, before a term that starts late


def readings(scale: Scale) -> dict[str, Mfm]:
    """MFM with one point read otherwise, by row."""
    own = mfm(scale)
    assert own.rebuilder is not None
    rows = {
        DEFAULT: own,
        "1: mixed image": replace(own, input=MfmInput.MIXED),
        "1: mixed image, on the mixed pass itself": replace(own, input=MfmInput.MIXED_SHARED),
        "1: augmented target": replace(own, input=MfmInput.TARGET_AUGMENTED),
        "2: no gradient into the encoder": replace(own, detach_encoder=True),
        "3: pseudo-labels weigh 1": replace(own, label_weight=LabelWeight.NONE),
        "3: sure pixels weigh 1, others 0": replace(own, label_weight=LabelWeight.PIXEL),
        "4: masked pixels": replace(own, region=LossRegion.MASKED),
        "5: an exact number of masked cells": replace(own, draw=MaskDraw.EXACT),
        "7: learned positions": _with(own, replace(own.rebuilder, position=Position.LEARNED)),
        "9: mean over cells": _with(own, replace(own.rebuilder, downscale=Downscale.AREA)),
        "17: after a quarter of the steps": replace(own, start_step=round(LATE * scale.schedule.steps)),
    }
    if has_batch_norm(scale):
        rows["18: statistics stay"] = replace(own, freeze_statistics=True)
    return rows


def _with(task: Mfm, rebuilder: Rebuilder) -> Mfm:
    return replace(task, rebuilder=rebuilder)


def has_batch_norm(scale: Scale) -> bool:
    """Whether running statistics can move in the MFM pass: not in the embedded benchmark's network."""
    return not (isinstance(scale.network, SmallDeepLab) and scale.network.norm is Norm.GROUP)


def hrda_rows(scale: Scale) -> dict[str, Experiment]:
    """Points that only a network of two resolutions, or of several stages, has."""
    own = mfm(scale)
    assert own.rebuilder is not None
    return {
        "HRDA": hrda(scale),
        "HRDA w/ MFM": hrda(scale, own),
        "1: on the mixed pass itself": hrda(scale, replace(own, input=MfmInput.MIXED_SHARED)),
        "11: projectors in a chain": hrda(scale, _with(own, replace(own.rebuilder, projector=Projector.CHAIN))),
        "23: attention sees the original context": hrda(scale, replace(own, attention=AttentionSource.ORIGINAL)),
    }


def dacs_rows(scale: Scale) -> dict[str, Experiment]:
    """Point 25: the re-implementation, or the recipe of DACS's own paper with 6.25 times the steps."""
    original = original_dacs(scale)
    return {
        "DACS re-implemented": dacs(scale),
        "DACS re-implemented w/ MFM": dacs_mfm(scale),
        "DACS as first published": original,
        "DACS as first published w/ MFM": replace(original, auxiliary=(mfm(scale),)),
    }


def compared(name: str, title: str, rows: dict[str, Experiment], against: dict[str, str], note: str) -> Table:
    """A table whose rows are compared with other rows of it."""
    axis = Axis(
        name=name,
        levels=tuple((row, None) for row in rows),
        make=lambda row: rows[row],
        against=lambda row: rows[against[row]] if row in against else None,
    )
    return Table(name=name, title=title, axis=axis, note=note)


def tables(scale: Scale) -> tuple[Table, ...]:
    """One of all points on DACS, one of those that take HRDA, one of what DACS is."""
    rows = readings(scale)
    points = Axis(name="reading", levels=tuple((row, None) for row in rows), make=lambda row: dacs(scale, rows[row]))
    table = Table(
        name="readings",
        title="One point read otherwise (DACS + MFM)",
        axis=points,
        note="The number before a row is that of docs/readings.md. On the mixed pass itself MFM has no encoder pass of "
        "its own: its time a step is what this reading is for.",
    )
    of_dacs = compared(
        "readings-dacs",
        "25: which DACS",
        dacs_rows(scale),
        {f"{each} w/ MFM": each for each in ("DACS re-implemented", "DACS as first published")},
        "Each row with MFM is compared with the row above it.",
    )
    if scale.daformer is None:
        return table, of_dacs
    default = "HRDA w/ MFM"
    others = {row: default for row in hrda_rows(scale) if row not in ("HRDA", default)}
    of_hrda = compared(
        "readings-hrda",
        "Points of two resolutions and several stages (HRDA + MFM)",
        hrda_rows(scale),
        {default: "HRDA", **others},
        "HRDA w/ MFM is compared with HRDA, every other row with HRDA w/ MFM.",
    )
    return table, of_hrda, of_dacs


def study(scale: Scale) -> Study:
    """The readings at one scale."""
    declared = tables(scale)
    configs = [table.axis.make(level) for table in declared for level, _ in table.axis.levels]
    return Study(
        name="readings",
        title="How the paper is read: one point at a time",
        profile=scale.name,
        program=Segmentation(),
        tables=declared,
        references={"DACS": dacs(scale), "MFM": dacs_mfm(scale)},
        about=ABOUT,
        needs=needs_of(scale, configs),
        comparable=scale.comparable,
        notes=scale.notes,
    )


STUDIES = at_each_scale(study)
