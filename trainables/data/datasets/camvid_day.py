"""CamVid by day, 11 classes: the drives 0006R0 and 0016E5 of a folder with CamVid, the source of day -> dusk."""

from __future__ import annotations

from pathlib import Path

from trainables.data.classes import CAMVID_CLASSES
from trainables.data.datasets.camvid import folder_of
from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split

DRIVES = ("0006R0_*", "0016E5_*")
FOLDERS = ("train", "val", "test", "dusk")  # the SegNet copy's, and later frames of the dusk drive by themselves
LABEL_IDS = LabelMap(
    {label_id: label_id for label_id in range(len(CAMVID_CLASSES))}, [len(CAMVID_CLASSES)]
)  # 11 = void


def files(root: Path, pattern: str, ending: str = "") -> dict[str, Path]:
    """Files of a drive by their name, wherever the copy's split put them: `FOLDER/NAME.*`, `FOLDERannot/NAME.png`."""
    places = [folder_of(root) / f"{folder}{ending}" for folder in FOLDERS]
    return {name: path for place in places for name, path in by_stem(place, pattern).items()}


def find(root: Path, split: Split) -> Found:
    """All labelled frames of the day's drives: 101 and 305."""
    images = {name: path for drive in DRIVES for name, path in files(root, drive).items()}
    labels = {name: path for drive in DRIVES for name, path in files(root, drive, "annot").items()}
    return pair(root, split, images, labels)


DATASET = Reader(
    dataset="camvid-day",
    splits=(Split.TRAIN,),
    classes=CAMVID_CLASSES,
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
