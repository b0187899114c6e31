"""Controls that the paper lacks and a careful reader asks for.

Is it masking, rebuilding, or one more pass with pseudo-labels? Does DACS gain as much from the same compute? How far
are the lower and the upper mark? And, where the network has BatchNorm, how much of the gap do re-estimated statistics
close alone?

    python -m mfm_tune.run search_spaces/controls.py
"""

from __future__ import annotations

from collections.abc import Callable

from mfm_tune.space import Axis, Study, Table
from trainables.config import Experiment, SmallDeepLab
from trainables.program import Segmentation
from trainables.recipes import (
    ABOUT,
    Scale,
    at_each_scale,
    dacs,
    dacs_mfm,
    longer,
    mfm,
    oracle,
    source_only,
    with_batch_norm,
)

EQUAL_COMPUTE = 1.6  # a step of DACS + MFM over one of DACS: 1.57 alone on a CPU, 1.60 with two trials side by side
STATISTICS_BATCHES = 40  # unlabelled target batches for AdaBN


Row = Callable[[Scale], Experiment]
CONTROLS: dict[str, Row] = {
    "source-only": source_only,
    "DACS": dacs,
    "DACS, equal compute": lambda scale: longer(dacs(scale), EQUAL_COMPUTE),
    "extra pseudo-label pass (ratio 0)": lambda scale: dacs(scale, mfm(scale, ratio=0.0, rebuild=False)),
    "masking only": lambda scale: dacs(scale, mfm(scale, rebuild=False)),
    "MFM": dacs_mfm,
    "target-supervised oracle": oracle,
}
# The same question where BatchNorm statistics are a back door between the domains.
BATCH_NORM_CONTROLS: dict[str, Row] = {
    "source-only": source_only,
    "AdaBN": lambda scale: source_only(scale, adapt_statistics=STATISTICS_BATCHES),
    "DACS": dacs,
    "DACS + MFM": dacs_mfm,
}


def study(scale: Scale) -> Study:
    """The controls at one scale; the BatchNorm variant stands where the scale's network has one."""
    controls = Axis(
        name="control",
        levels=tuple((level, None) for level in CONTROLS),
        make=lambda level: CONTROLS[level](scale),
    )
    tables = [Table(name="controls", title="Controls", axis=controls)]
    if isinstance(scale.network, SmallDeepLab):
        variant = with_batch_norm(scale)
        own = dacs(variant)
        batch_norm = Axis(
            name="batch-norm-control",
            levels=tuple((level, None) for level in BATCH_NORM_CONTROLS),
            make=lambda level: BATCH_NORM_CONTROLS[level](variant),
            against=lambda level: None if level == "DACS" else own,
        )
        tables.append(
            Table(
                name="controls-bn",
                title="Controls with BatchNorm",
                axis=batch_norm,
                note="With BatchNorm, re-estimated statistics alone close most of the gap between source-only "
                "and DACS, so a gain over source-only there is no evidence for self-training.",
            )
        )
    return Study(
        name="controls",
        title="Controls: what a gain of MFM can be made of",
        profile=scale.name,
        program=Segmentation(),
        tables=tuple(tables),
        references={"DACS": dacs(scale), "MFM": dacs_mfm(scale)},
        about=ABOUT,
        needs=scale.needs,
        comparable=scale.comparable,
        notes=scale.notes,
    )


STUDIES = at_each_scale(study)
