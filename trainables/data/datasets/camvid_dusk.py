"""CamVid at dusk, 11 classes: the drive 0001TP, divided by time, the target of day -> dusk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainables.data.classes import CAMVID_CLASSES
from trainables.data.datasets.camvid_day import LABEL_IDS, files
from trainables.data.readers import Found, Reader, by_ids, pair
from trainables.data.splits import Split

DRIVE = "0001TP_*"
LAST = 8520  # frame of the first half, in the order of time; the rest is scored, and is nobody's training image


def find(root: Path, split: Split) -> Found:
    """The frames up to `LAST` train, the later ones validate: 62 each."""
    return pair(root, split, _of(split, files(root, DRIVE)), _of(split, files(root, DRIVE, "annot")))


def _of(split: Split, found: Mapping[str, Path]) -> dict[str, Path]:
    early = split is Split.TRAIN
    return {name: path for name, path in found.items() if (int(name.rpartition("_")[2]) <= LAST) is early}


DATASET = Reader(
    dataset="camvid-dusk",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    classes=CAMVID_CLASSES,
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
