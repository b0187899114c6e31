"""CarlaScapes: `*_img.png` and `*_labelIds.png` in one folder or in folders below it."""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

# CARLA from 0.9.14: Cityscapes' classes in order, from 1; 24 is the road line, 25 the ground beside it.
LABEL_IDS = LabelMap({train_id + 1: train_id for train_id in range(19)} | {24: 0, 25: 1}, range(29))


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one name."""
    images = by_stem(root, "**/*_img.png", "_img")
    return pair(root, split, images, by_stem(root, "**/*_labelIds.png", "_labelIds"))


# Images of a CARLA simulator; all of them are the source.
DATASET = Reader(
    dataset="carlascapes",
    splits=(Split.TRAIN,),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
