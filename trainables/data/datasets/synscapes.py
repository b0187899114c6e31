"""Synscapes: `img/rgb/N.png` and `img/class/N.png`, whose ids are Cityscapes' label ids."""

from __future__ import annotations

from pathlib import Path

from trainables.data.datasets.gta import LABEL_IDS
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one number; the enlarged images of `img/rgb-2k` have no labels of their size."""
    return pair(root, split, by_stem(root / "img" / "rgb", "*.png"), by_stem(root / "img" / "class", "*.png"))


# 25,000 images of 720 x 1440; all of them are the source.
DATASET = Reader(
    dataset="synscapes",
    splits=(Split.TRAIN,),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
