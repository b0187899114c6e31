"""Parts of a data set, and where a folder of real images keeps them. Standard library only."""

from __future__ import annotations

from enum import Enum


class Split(Enum):
    """Parts of a data set. A folder that holds both domains of a pair has a split for its source."""

    SOURCE = "source"
    TRAIN = "train"
    VAL = "val"
    TEST = "test"


LAYOUT = "source/images, source/labels, target/train/images, target/val/images and target/val/labels"
PLACES = {Split.SOURCE: "source", Split.TRAIN: "target/train", Split.VAL: "target/val"}
