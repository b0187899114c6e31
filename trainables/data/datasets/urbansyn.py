"""UrbanSyn: `rgb/rgb_NNNN.png` and `ss/ss_NNNN.png`, which are trainIds, 19 where nothing is labelled."""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import NUM_CLASSES, LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split
from trainables.geometry import IGNORE

LABEL_IDS = LabelMap({train_id: train_id for train_id in range(NUM_CLASSES)}, [NUM_CLASSES, IGNORE])


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one number."""
    return pair(root, split, _by_number(root / "rgb", "rgb_"), _by_number(root / "ss", "ss_"))


def _by_number(folder: Path, prefix: str) -> dict[str, Path]:
    return {key.removeprefix(prefix): path for key, path in by_stem(folder, f"{prefix}*.png").items()}


# 7,539 images of 1024 x 2048; all of them are the source.
DATASET = Reader(
    dataset="urbansyn",
    splits=(Split.TRAIN,),
    training_size=(512, 1024),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
