"""CamVid in IDD-Lite's seven classes: the folders of `camvid`, without its lists."""

from __future__ import annotations

from pathlib import Path

from trainables.data.classes import IDD_LITE_CLASSES
from trainables.data.datasets.camvid import folder_of
from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

# Building and tree are far; pole, sign and fence roadside. Bicyclist is a rider and a bicycle, of two classes there.
LABEL_IDS = LabelMap({0: 6, 1: 5, 2: 4, 3: 0, 4: 1, 5: 5, 6: 4, 7: 4, 8: 3, 9: 2}, range(12))


def find(root: Path, split: Split) -> Found:
    """Files of one name."""
    folder = folder_of(root)
    labels = by_stem(folder / f"{split.value}annot", "*.png")
    return pair(root, split, by_stem(folder / split.value, "*.[jp]*g"), labels)


# 367 and 101 images of 360 x 480. The 233 of test are nobody's: for a last look at a finished model.
DATASET = Reader(
    dataset="camvid-seven",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    classes=IDD_LITE_CLASSES,
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
