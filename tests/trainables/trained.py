"""A trial of seconds, for tests of what is made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from trainables.config import Experiment, Schedule, ToyCity
from trainables.recipes import SMOKE, hrda, mfm
from trainables.running.trial import Trial
from trainables.tensor_file import Arrays

TINY_CITY = ToyCity(image_size=(32, 64), source_images=4, target_images=4, validation_images=3)


def tiny(config: Experiment, steps: int = 2) -> Experiment:
    """The config with random initial weights, a few images and a few steps, scored once."""
    return replace(
        config,
        data=replace(TINY_CITY, source=config.data.source),  # type: ignore[union-attr]
        initial=None,
        schedule=Schedule(steps=steps, warmup_steps=0),
        evaluation=replace(config.evaluation, interval=steps),
    )


def same_arrays(first: Arrays, second: Arrays) -> bool:
    """Whether two sets of tensors are bitwise equal."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def finished_trial(folder: Path, config: Experiment | None = None) -> Trial:
    """A finished trial in a folder, not closed: its student is in memory, its checkpoint and final weights on disk.

    Args:
        folder: The trial's.
        config: None takes HRDA with MFM, which has everything that an export leaves out.
    """
    chosen = tiny(hrda(SMOKE, mfm(SMOKE))) if config is None else config
    trial = Trial(chosen, seed=0, folder=str(folder), shared=str(folder.parent / "shared"), data={})
    while trial.advance()["outcome"] is None:
        pass
    return trial
