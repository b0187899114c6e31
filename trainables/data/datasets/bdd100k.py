"""BDD100K, 10k images with masks: `images/10k/{split}/*.jpg`, `labels/sem_seg/masks/{split}/*.png`, which are trainIds.

The older download is read too: `seg/images/{split}/*.jpg` and `seg/labels/{split}/*_train_id.png`.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import TRAIN_IDS
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split


def find(root: Path, split: Split) -> Found:
    """Pair images and masks of one name."""
    if (root / "seg").is_dir():
        images, labels = root / "seg" / "images", root / "seg" / "labels"
    else:
        images, labels = root / "images" / "10k", root / "labels" / "sem_seg" / "masks"
    masks = {other: by_stem(labels / other.value, "*.png", "_train_id") for other in DATASET.splits}
    elsewhere = {key: f"masks/{other.value}" for other in masks if other is not split for key in masks[other]}
    return pair(root, split, by_stem(images / split.value, "*.jpg"), masks[split], elsewhere)


# 7,000 training and 1,000 validation images of 720 x 1280.
DATASET = Reader(
    dataset="bdd100k",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    find=find,
    train_ids=by_ids(TRAIN_IDS),
)
