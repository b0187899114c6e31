"""Cityscapes: `leftImg8bit/{split}/{city}/*_leftImg8bit.png` and `gtFine/{split}/{city}/*_gtFine_labelIds.png`."""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

# 0 to 6 are void; 9, 10, 14 to 16, 18, 29 and 30 are not evaluated.
TRAIN_ID_OF = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18,
}  # fmt: skip
LABEL_IDS = LabelMap(TRAIN_ID_OF, range(34))


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one city and frame; `labelIds` are read, which every download has."""
    images = by_stem(root / "leftImg8bit" / split.value, "*/*_leftImg8bit.png", "_leftImg8bit")
    elsewhere = {key: f"gtFine/{other.value}" for other in Split if other is not split for key in _labels(root, other)}
    return pair(root, split, images, _labels(root, split), elsewhere)


def _labels(root: Path, split: Split) -> dict[str, Path]:
    return by_stem(root / "gtFine" / split.value, "*/*_gtFine_labelIds.png", "_gtFine_labelIds")


# 2,975 training and 500 validation images of 1024 x 2048.
DATASET = Reader(
    dataset="cityscapes",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    training_size=(512, 1024),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
