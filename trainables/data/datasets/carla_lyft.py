"""Lyft's Perception Challenge, made with CARLA: `{split}/CameraRGB/N.png`, `{split}/CameraSeg/N.png` (ids in red)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from trainables.data.labels import LabelMap, TrainIds
from trainables.data.readers import Found, Reader, by_stem, pair, read_colours
from trainables.data.splits import Split
from trainables.geometry import IGNORE

Mask = npt.NDArray[np.bool_]

# CARLA up to 0.9.11: 6 is the road line; 0 is everything without a class, and the sky.
LABEL_IDS = LabelMap({1: 2, 2: 4, 4: 11, 5: 5, 6: 0, 7: 0, 8: 1, 9: 8, 10: 13, 11: 3, 12: 7}, range(13))
NO_CLASS = 0
CAR = 10
SKY_TRAIN_ID = 10


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one name; both may lie in the root."""
    folder = root / split.value
    if split is Split.TRAIN and (root / "CameraRGB").is_dir():
        folder = root
    return pair(root, split, by_stem(folder / "CameraRGB", "*.png"), by_stem(folder / "CameraSeg", "*.png"))


def train_ids(label: Path) -> TrainIds:
    """Decode the ids in the red channel, by their place where they name no class.

    What has no class and reaches the top edge is sky; the car that reaches the bottom edge is the ego-vehicle's hood,
    which is ignored.
    """
    ids = read_colours(label)[..., 0]
    decoded = LABEL_IDS(ids)
    decoded[reached_from_top(ids == NO_CLASS)] = SKY_TRAIN_ID
    decoded[reached_from_top(ids[::-1] == CAR)[::-1]] = IGNORE
    return decoded


def reached_from_top(mask: Mask) -> Mask:
    """The part of a mask [H, W] that is connected to the first row, over edges of pixels."""
    components, _ = ndimage.label(mask)
    reached: Mask = np.isin(components, components[0]) & mask
    return reached


DATASET = Reader(
    dataset="carla-lyft",
    splits=(Split.TRAIN,),
    find=find,
    train_ids=train_ids,
)
