"""Table 2 of the paper, (a) to (f): which parts of Masked Feature Modeling matter (DACS, DeepLab-V2, GTA ->
Cityscapes).

One thing moves at a time. All six tables pass through the default or the DACS baseline, which train once a seed:
25 cells, 19 distinct configs, 57 trials with seeds 0, 1, 2.

    python -m mfm_tune.run search_spaces/table2.py --plan
    python -m mfm_tune.run search_spaces/table2.py
"""

from __future__ import annotations

from mfm_tune.space import OOM, Axis, Study, Table
from trainables.config import Experiment, Objective
from trainables.program import Segmentation
from trainables.recipes import ABOUT, Scale, at_each_scale, dacs, dacs_mfm, mfm

BASELINE = "Baseline"


def rebuilder_tables(scale: Scale) -> tuple[Table, ...]:
    """(a) and (b), the size of the Rebuilder; `trained` is what a printed level becomes at the scale."""
    dims = Axis(
        name="dim",
        levels=((128, 54.7), (256, 55.1), (512, 55.9), (768, 53.6)),
        make=lambda dim: dacs(scale, mfm(scale, dim=dim)),
        trained=scale.dim,
    )
    blocks = Axis(
        name="blocks",
        levels=((1, 55.4), (2, 55.9), (4, 54.4), (8, 52.9)),
        make=lambda blocks: dacs(scale, mfm(scale, blocks=blocks)),
    )
    return Table(name="2a", title="(a) Dim C'", axis=dims), Table(name="2b", title="(b) Blocks", axis=blocks)


def masking_tables(scale: Scale) -> tuple[Table, ...]:
    """(c) and (d), whether and on which grid features are masked."""
    rows = {
        BASELINE: (52.1, dacs(scale)),
        "Masking": (51.9, dacs(scale, mfm(scale, rebuild=False))),
        "Masking + Rebuilding": (55.9, dacs_mfm(scale)),
    }
    cases = Axis(
        name="case",
        levels=tuple((name, paper) for name, (paper, _) in rows.items()),
        make=lambda name: rows[name][1],
    )
    grids = Axis(
        name="grid",
        levels=((8, 55.6), (16, 55.9), (32, 54.1), (64, OOM)),
        make=lambda grid: dacs(scale, mfm(scale, grid=grid)),
        trained=lambda grid: "x".join(map(str, scale.grid(grid))),
    )
    return Table(name="2c", title="(c) Case", axis=cases), Table(name="2d", title="(d) Grid H' = W'", axis=grids)


def loss_tables(scale: Scale) -> tuple[Table, ...]:
    """(e) and (f), what is learned from rebuilt features, and how much it weighs."""

    def objective(level: Objective | str) -> Experiment:
        return dacs(scale, mfm(scale, objective=level)) if isinstance(level, Objective) else dacs(scale)

    objectives: Axis[Objective | str] = Axis(
        name="objective",
        levels=(
            (BASELINE, 52.1),
            (Objective.PIXEL_RECONSTRUCTION, 51.8),
            (Objective.FEATURE_TEACHER, 53.5),
            (Objective.FEATURE_STUDENT, 53.7),
            (Objective.PIXEL_CLASSIFICATION, 55.9),
        ),
        make=objective,
    )
    weights = Axis(
        name="lambda",
        levels=((0.1, 54.7), (0.5, 55.8), (1.0, 55.9), (2.0, 55.4), (10.0, 52.1)),
        make=lambda weight: dacs(scale, mfm(scale, weight=weight)),
    )
    return (
        Table(name="2e", title="(e) Objective", axis=objectives),
        Table(name="2f", title="(f) Trade-off λ", axis=weights),
    )


def study(scale: Scale) -> Study:
    """Table 2 at one scale."""
    return Study(
        name="table2",
        title="Table 2: ablation of MFM with DACS",
        profile=scale.name,
        program=Segmentation(),
        tables=(*rebuilder_tables(scale), *masking_tables(scale), *loss_tables(scale)),
        references={"DACS": dacs(scale), "MFM": dacs_mfm(scale)},
        about=ABOUT,
        needs=scale.needs,
        comparable=scale.comparable,
        notes=scale.notes,
    )


STUDIES = at_each_scale(study)
