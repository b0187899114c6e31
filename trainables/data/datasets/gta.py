"""GTA (Playing for Data): `images/*.png` and `labels/*.png`, palette images whose indices are Cityscapes' label ids."""

from __future__ import annotations

from pathlib import Path

from trainables.data.datasets.cityscapes import TRAIN_ID_OF
from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

LABEL_IDS = LabelMap(TRAIN_ID_OF, range(35))  # Cityscapes' ids; 34 is not evaluated


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one name; converted `*_labelTrainIds.png` beside them are left alone."""
    labels = by_stem(root / "labels", "*.png")
    native = {key: path for key, path in labels.items() if not key.endswith("_labelTrainIds")}
    return pair(root, split, by_stem(root / "images", "*.png"), native)


# 24,966 images of about 1052 x 1914; all of them are the source, as in the reference implementation.
DATASET = Reader(
    dataset="gta",
    splits=(Split.TRAIN,),
    training_size=(720, 1280),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
