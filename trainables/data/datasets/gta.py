"""GTA (Playing for Data): `images/*.png` and `labels/*.png`, palette images whose indices are Cityscapes' label ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.datasets.cityscapes import TRAIN_ID_OF
from trainables.data.labels import LabelMap, TrainIds
from trainables.data.packing.resize import Size
from trainables.data.readers import Found, by_stem, pair, read_ids
from trainables.data.splits import Split

LABEL_IDS = LabelMap(TRAIN_ID_OF, range(35))  # Cityscapes' ids; 34 is not evaluated


@dataclass(frozen=True, slots=True)
class Gta:
    """24,966 images of about 1052 x 1914; all of them are the source, as in the reference implementation."""

    dataset: str = "gta"
    splits: tuple[Split, ...] = (Split.TRAIN,)
    scored: Split | None = None
    training_size: Size | None = (720, 1280)

    def find(self, root: Path, split: Split) -> Found:
        """Pair images and labels of one name; converted `*_labelTrainIds.png` beside them are left alone."""
        labels = by_stem(root / "labels", "*.png")
        native = {key: path for key, path in labels.items() if not key.endswith("_labelTrainIds")}
        return pair(root, split, by_stem(root / "images", "*.png"), native)

    def train_ids(self, label: Path) -> TrainIds:
        """Palette indices are the ids."""
        return LABEL_IDS(read_ids(label))


DATASET = Gta()
