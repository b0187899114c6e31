"""IDD-Lite, seven classes: `leftImg8bit/{split}/{drive}/*_image.jpg`, `gtFine/{split}/{drive}/*_label.png`."""

from __future__ import annotations

from pathlib import Path

from trainables.data.classes import IDD_LITE_CLASSES
from trainables.data.labels import LabelMap
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import Split
from trainables.geometry import IGNORE

LABEL_IDS = LabelMap({label_id: label_id for label_id in range(len(IDD_LITE_CLASSES))}, [IGNORE])


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one drive and frame; labels of instances beside them are left alone."""
    labels = by_stem(root / "gtFine" / split.value, "*/*_label.png", "_label")
    semantic = {key: path for key, path in labels.items() if not key.endswith("_inst")}
    return pair(root, split, by_stem(root / "leftImg8bit" / split.value, "*/*_image.jpg", "_image"), semantic)


# 1,403 training and 204 validation images of 227 x 320.
DATASET = Reader(
    dataset="idd-lite",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    classes=IDD_LITE_CLASSES,
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
