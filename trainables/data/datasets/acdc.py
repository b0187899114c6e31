"""ACDC: `rgb_anon/{condition}/{split}/{drive}/*_rgb_anon.png` and `gt/.../*_gt_labelTrainIds.png`.

The conditions (fog, night, rain, snow) are read together; the layout in which they were merged into `rgb_anon/{split}`
is read too. The reference views without a condition (`train_ref`, ...) are not part of it.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import TRAIN_IDS
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

IMAGE = "_rgb_anon"
LABEL = "_gt_labelTrainIds"


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one condition, drive and frame."""
    images = frames(root / "rgb_anon", split, IMAGE)
    labels = frames(root / "gt", split, LABEL)
    elsewhere = {
        "/".join(split.value if part == other.value else part for part in key.split("/")): f"the split {other.value}"
        for other in Split
        if other is not split
        for key in frames(root / "gt", other, LABEL)
    }
    return pair(root, split, images, labels, elsewhere)


def frames(folder: Path, split: Split, suffix: str) -> dict[str, Path]:
    """Files of a split by their path without suffix; a split is a folder's whole name, at any depth."""
    found = by_stem(folder, f"**/*{suffix}.png", suffix)
    return {key: path for key, path in found.items() if split.value in key.split("/")[:-1]}


# 1,600 training and 406 validation images of 1080 x 1920.
DATASET = Reader(
    dataset="acdc",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    training_size=(540, 960),
    find=find,
    train_ids=by_ids(TRAIN_IDS),
)
