"""Cityscapes: `leftImg8bit/{split}/{city}/*_leftImg8bit.png` and `gtFine/{split}/{city}/*_gtFine_labelIds.png`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.datasets.readers import Found, by_stem, pair, read_ids
from trainables.data.labels import CITYSCAPES, TrainIds
from trainables.data.packing.resize import Size
from trainables.data.splits import Split


@dataclass(frozen=True, slots=True)
class Cityscapes:
    """2,975 training and 500 validation images of 1024 x 2048."""

    dataset: str = "cityscapes"
    splits: tuple[Split, ...] = (Split.TRAIN, Split.VAL)
    scored: Split | None = Split.VAL
    training_size: Size | None = (512, 1024)

    def find(self, root: Path, split: Split) -> Found:
        """Pair images and labels of one city and frame; `labelIds` are read, which every download has."""
        images = by_stem(root / "leftImg8bit" / split.value, "*/*_leftImg8bit.png", "_leftImg8bit")
        elsewhere = {
            key: f"gtFine/{other.value}" for other in Split if other is not split for key in _labels(root, other)
        }
        return pair(root, split, images, _labels(root, split), elsewhere)

    def train_ids(self, label: Path) -> TrainIds:
        """One channel of label ids."""
        return CITYSCAPES(read_ids(label))


def _labels(root: Path, split: Split) -> dict[str, Path]:
    return by_stem(root / "gtFine" / split.value, "*/*_gtFine_labelIds.png", "_gtFine_labelIds")
