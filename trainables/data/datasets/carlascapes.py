"""CarlaScapes: `*_img.png` and `*_labelIds.png` in one folder or in folders below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.labels import LabelMap, TrainIds
from trainables.data.packing.resize import Size
from trainables.data.readers import Found, by_stem, pair, read_ids
from trainables.data.splits import Split

# CARLA from 0.9.14: Cityscapes' classes in order, from 1; 24 is the road line, 25 the ground beside it.
LABEL_IDS = LabelMap({train_id + 1: train_id for train_id in range(19)} | {24: 0, 25: 1}, range(29))


@dataclass(frozen=True, slots=True)
class CarlaScapes:
    """Images of a CARLA simulator; all of them are the source."""

    dataset: str = "carlascapes"
    splits: tuple[Split, ...] = (Split.TRAIN,)
    scored: Split | None = None
    training_size: Size | None = None

    def find(self, root: Path, split: Split) -> Found:
        """Pair images and labels of one name."""
        images = by_stem(root, "**/*_img.png", "_img")
        return pair(root, split, images, by_stem(root, "**/*_labelIds.png", "_labelIds"))

    def train_ids(self, label: Path) -> TrainIds:
        """One channel of ids."""
        return LABEL_IDS(read_ids(label))


DATASET = CarlaScapes()
