"""Figure 4 of the paper: masking ratios from 0.1 to 0.9. The paper gives a number for 0.4 only.

Ratio 0.4 is Table 2's default and trains once for both.

    python -m mfm_tune.run search_spaces/figure4.py
"""

from __future__ import annotations

from mfm_tune.space import Axis, Study, Table
from trainables.program import Segmentation
from trainables.recipes import ABOUT, Scale, at_each_scale, dacs, dacs_mfm, mfm

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def study(scale: Scale) -> Study:
    """Figure 4 at one scale."""
    ratios = Axis(
        name="ratio",
        levels=tuple((ratio, 55.9 if ratio == 0.4 else None) for ratio in RATIOS),
        make=lambda ratio: dacs(scale, mfm(scale, ratio=ratio)),
    )
    return Study(
        name="figure4",
        title="Figure 4: masking ratio",
        profile=scale.name,
        program=Segmentation(),
        tables=(Table(name="figure4", title="Masking ratio", axis=ratios, plot=True),),
        references={"DACS": dacs(scale), "MFM": dacs_mfm(scale)},
        about=ABOUT,
        needs=scale.needs,
        comparable=scale.comparable,
        notes=scale.notes,
    )


STUDIES = at_each_scale(study)
