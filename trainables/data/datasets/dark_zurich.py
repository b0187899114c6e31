"""Dark Zurich: `rgb_anon/train/night` without labels; `rgb_anon/val/night` with those of `gt/val/night`."""

from __future__ import annotations

from pathlib import Path

from trainables.data.datasets.acdc import IMAGE, LABEL, frames
from trainables.data.labels import TRAIN_IDS
from trainables.data.readers import Found, Reader, by_ids, pair
from trainables.data.splits import Split

OTHER_TIMES = ("day", "twilight")


def find(root: Path, split: Split) -> Found:
    """Night images; those of day and twilight are left out."""
    images = {
        key: path
        for key, path in frames(root / "rgb_anon", split, IMAGE).items()
        if not set(OTHER_TIMES) & set(key.split("/"))
    }
    return pair(root, split, images, None if split is Split.TRAIN else frames(root / "gt", split, LABEL))


# 2,416 night images of 1080 x 1920 to train on, 50 labelled ones to validate.
DATASET = Reader(
    dataset="dark-zurich",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    training_size=(540, 960),
    find=find,
    train_ids=by_ids(TRAIN_IDS),
)
