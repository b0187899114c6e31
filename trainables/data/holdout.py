"""Which source images train and which are held out to evaluate a model without target labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.config import SourceHoldout
from trainables.data.sampling import Counts
from trainables.randomness import Streams

SEED = 0  # of the draw: the same images for every trial, so that scores of different seeds are of one thing


@dataclass(frozen=True, slots=True)
class Division:
    """Indices of source images, ascending: those that train, and those that are held out."""

    training: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


def divide(images: int, holdout: SourceHoldout | None) -> Division:
    """Draw which of so many source images are held out; the rounded share of them, at least one.

    Raises:
        ValueError: Nothing is left to train on.
    """
    if holdout is None:
        return Division(np.arange(images), np.arange(0))
    count = max(1, round(holdout.share * images))
    if count >= images:
        raise ValueError(
            f"SourceHoldout.share must leave images to train on, got {holdout.share:g} with {images} source "
            f"image{'s' if images != 1 else ''}; add images, or leave the holdout out."
        )
    order = Streams(SEED).permutation("holdout", 0, images).numpy()
    return Division(np.sort(order[count:]), np.sort(order[:count]))


def without(pixels: Counts, held_out: npt.NDArray[np.int64]) -> Counts:
    """Pixel counts by image and class, [N, K + 1], in which held-out images show nothing, so that none is drawn."""
    if not len(held_out):
        return pixels
    kept = pixels.copy()
    kept[held_out] = 0
    return kept
