"""CARLA + AirSim in IDD-Lite's seven classes: the source of a folder as `realpair` describes it."""

from __future__ import annotations

from pathlib import Path

from trainables.data.classes import IDD_LITE_CLASSES
from trainables.data.datasets import realpair
from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids
from trainables.data.splits import Split
from trainables.geometry import IGNORE

# Terrain is non-drivable; building and vegetation far; wall, fence, pole, light and sign roadside.
TRAIN_ID_OF = {
    0: 0, 1: 1, 2: 5, 3: 4, 4: 4, 5: 4, 6: 4, 7: 4, 8: 5, 9: 1, 10: 6, 11: 2, 12: 2,
    **dict.fromkeys(range(13, 19), 3),
}  # fmt: skip
LABEL_IDS = LabelMap(TRAIN_ID_OF, [IGNORE])


def find(root: Path, split: Split) -> Found:
    """All images of the source, whatever their part."""
    return realpair.find(root, Split.SOURCE)


DATASET = Reader(
    dataset="carla-seven",
    splits=(Split.TRAIN,),
    classes=IDD_LITE_CLASSES,
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
