"""A search over the settings of Masked Feature Modeling on DACS: 40 points, the best three confirmed with three seeds.

Trials are ranked by target mIoU, which takes labels of the target (oracle selection). A search that may not see them
names another criterion of `mfm_tune.criteria`; all of them are measured in every trial, and the report says how well
each would have chosen.

    python -m mfm_tune.run search_spaces/search_mfm.py --plan
    python -m mfm_tune.run search_spaces/search_mfm.py
"""

from __future__ import annotations

from dataclasses import replace

from mfm_tune.criteria import TARGET_MIOU
from mfm_tune.search_space import Asha, Choice, Distribution, Float, Search, Tpe, Values
from trainables.config import Experiment, Objective
from trainables.program import Segmentation
from trainables.recipes import ABOUT, Scale, at_each_scale, dacs, dacs_mfm, mfm, with_selection_criteria

EVALUATIONS = 4  # a trial; ASHA looks after the first and the second


def on_rungs(scale: Scale) -> Scale:
    """The scale with evaluations where ASHA looks."""
    interval = scale.schedule.steps // EVALUATIONS
    return replace(
        scale,
        schedule=replace(scale.schedule, steps=EVALUATIONS * interval),
        evaluation=replace(scale.evaluation, interval=interval),
    )


def point(scale: Scale, values: Values) -> Experiment:
    """DACS + MFM at a point; dim and grid are printed levels, the start a share of the steps."""
    own = scale.rebuilder_learning_rate
    task = mfm(
        replace(scale, rebuilder_learning_rate=_rebuilder_rate(own, values)),
        ratio=values["ratio"],
        weight=values["lambda"],
        dim=values["dim"],
        blocks=values["blocks"],
        grid=values["grid"],
        objective=values["objective"],
    )
    config = dacs(scale, replace(task, start_step=round(values["start"] * scale.schedule.steps)))
    return replace(config, optimizer=replace(scale.optimizer, learning_rate=values["learning rate"]))


def _rebuilder_rate(own: float | None, values: Values) -> float | None:
    """None is the encoder's own, as the default has it."""
    rate: float = values["Rebuilder learning rate"]
    return None if own is None and rate == values["learning rate"] else rate


def parameters(rate: float, rebuilder_rate: float) -> dict[str, Distribution]:
    """The searched space, around the default's learning rates."""
    return {
        "ratio": Float(0.1, 0.9, digits=2),
        "lambda": Float(0.1, 10.0, log=True, digits=2),
        "dim": Choice((128, 256, 512, 768)),
        "blocks": Choice((1, 2, 4)),
        "grid": Choice((8, 16, 32)),
        "objective": Choice(tuple(Objective)),
        "start": Float(0.0, 0.5, digits=2),
        "learning rate": Float(rate / 4, rate * 4, log=True, digits=2),
        "Rebuilder learning rate": Float(rebuilder_rate / 10, rebuilder_rate * 10, log=True, digits=2),
    }


def search(scale: Scale) -> Search:
    """The search at one scale."""
    rungs = on_rungs(scale)
    rate = scale.optimizer.learning_rate
    rebuilder_rate = scale.rebuilder_learning_rate or rate
    default = {
        "ratio": 0.4,
        "lambda": 1.0,
        "dim": 512,
        "blocks": 2,
        "grid": 16,
        "objective": Objective.PIXEL_CLASSIFICATION,
        "start": 0.0,
        "learning rate": rate,
        "Rebuilder learning rate": rebuilder_rate,
    }
    return Search(
        name="search_mfm",
        title="Search over the settings of MFM with DACS",
        profile=scale.name,
        program=Segmentation(),
        parameters=parameters(rate, rebuilder_rate),
        make=lambda values: with_selection_criteria(point(rungs, values)),
        baselines={
            "DACS": with_selection_criteria(dacs(rungs)),
            "MFM": with_selection_criteria(dacs_mfm(rungs)),
        },
        about=ABOUT,
        first=(default,),
        trials=40,
        explore_seed=0,
        confirm=3,
        seeds=(1, 2, 3),  # none of them had a part in the choice
        criterion=TARGET_MIOU,
        sampler=Tpe(startup=10),
        scheduler=Asha(reduction_factor=2, rungs=2),
        needs=scale.needs,
        comparable=(
            *scale.comparable,
            "5 % of the source is held out in searches, so that numbers differ from those of tables.",
        ),
        notes=(
            *scale.notes,
            "The learning rate is searched together with MFM, and the baselines keep theirs: a gain may come from it.",
        ),
    )


SEARCHES = at_each_scale(search)
