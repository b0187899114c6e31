"""Lyft's Perception Challenge, made with CARLA: `{split}/CameraRGB/N.png`, `{split}/CameraSeg/N.png` (ids in red)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from trainables.data.labels import LabelMap, TrainIds
from trainables.data.packing.resize import Size
from trainables.data.readers import Found, by_stem, pair, read_colours
from trainables.data.splits import Split
from trainables.geometry import IGNORE

Mask = npt.NDArray[np.bool_]

# CARLA up to 0.9.11: 6 is the road line; 0 is everything without a class, and the sky.
LABEL_IDS = LabelMap({1: 2, 2: 4, 4: 11, 5: 5, 6: 0, 7: 0, 8: 1, 9: 8, 10: 13, 11: 3, 12: 7}, range(13))
NO_CLASS = 0
CAR = 10
SKY_TRAIN_ID = 10


@dataclass(frozen=True, slots=True)
class CarlaLyft:
    """Lyft's Perception Challenge: `{split}/CameraRGB/N.png` and `{split}/CameraSeg/N.png`, or both in the root.

    Where an id does not say what is there, its place does: what has no class and reaches the top edge is sky, and the
    car that reaches the bottom edge is the ego-vehicle's hood, which is ignored.
    """

    dataset: str = "carla-lyft"
    splits: tuple[Split, ...] = (Split.TRAIN,)
    scored: Split | None = None
    training_size: Size | None = None

    def find(self, root: Path, split: Split) -> Found:
        """Pair images and labels of one name."""
        folder = root / split.value
        if split is Split.TRAIN and (root / "CameraRGB").is_dir():
            folder = root
        return pair(root, split, by_stem(folder / "CameraRGB", "*.png"), by_stem(folder / "CameraSeg", "*.png"))

    def train_ids(self, label: Path) -> TrainIds:
        """The red channel holds the ids."""
        ids = read_colours(label)[..., 0]
        train_ids = LABEL_IDS(ids)
        train_ids[reached_from_top(ids == NO_CLASS)] = SKY_TRAIN_ID
        train_ids[reached_from_top(ids[::-1] == CAR)[::-1]] = IGNORE
        return train_ids


DATASET = CarlaLyft()


def reached_from_top(mask: Mask) -> Mask:
    """The part of a mask [H, W] that is connected to the first row, over edges of pixels."""
    components, _ = ndimage.label(mask)
    reached: Mask = np.isin(components, components[0]) & mask
    return reached
