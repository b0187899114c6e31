"""Mapillary Vistas 1.2: `{training,validation}/images/*.jpg` and `.../labels/*.png`, palette images of 66 ids.

The download of version 2.0 has the same labels in `{training,validation}/v1.2/labels`.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

FOLDERS = {Split.TRAIN: "training", Split.VAL: "validation"}

# As in benchmarks of domain generalisation: road with general lane markings and manholes (13, 24, 41), sidewalk with
# kerbs (2, 15), poles with utility poles (45, 47), riders of all kinds (20 to 22), the front of signs alone (50). No
# class have crosswalks, bike and service lanes, parking, guard rails, bridges and street lights, among others.
TRAIN_ID_OF = {
    13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6, 50: 7, 30: 8, 29: 9, 27: 10, 19: 11,
    20: 12, 21: 12, 22: 12, 55: 13, 61: 14, 54: 15, 58: 16, 57: 17, 52: 18,
}  # fmt: skip
LABEL_IDS = LabelMap(TRAIN_ID_OF, range(66))


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one name."""
    folder = root / FOLDERS[split]
    labels = folder / "v1.2" / "labels" if (folder / "v1.2").is_dir() else folder / "labels"
    return pair(root, split, by_stem(folder / "images", "*.jpg"), by_stem(labels, "*.png"))


# 18,000 training and 2,000 validation images of many sizes, about 2500 x 3300.
DATASET = Reader(
    dataset="mapillary",
    splits=tuple(FOLDERS),
    scored=Split.VAL,
    training_size=(768, 1024),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
