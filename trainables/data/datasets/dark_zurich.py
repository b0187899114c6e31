"""Dark Zurich: `rgb_anon/train/night` without labels; `rgb_anon/val/night` with those of `gt/val/night`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.datasets.acdc import IMAGE, LABEL, frames
from trainables.data.labels import TRAIN_IDS, TrainIds
from trainables.data.packing.resize import Size
from trainables.data.readers import Found, pair, read_ids
from trainables.data.splits import Split

OTHER_TIMES = ("day", "twilight")


@dataclass(frozen=True, slots=True)
class DarkZurich:
    """2,416 night images of 1080 x 1920 to train on, 50 labelled ones to validate."""

    dataset: str = "dark-zurich"
    splits: tuple[Split, ...] = (Split.TRAIN, Split.VAL)
    scored: Split | None = Split.VAL
    training_size: Size | None = (540, 960)

    def find(self, root: Path, split: Split) -> Found:
        """Night images; those of day and twilight are left out."""
        images = {
            key: path
            for key, path in frames(root / "rgb_anon", split, IMAGE).items()
            if not set(OTHER_TIMES) & set(key.split("/"))
        }
        return pair(root, split, images, None if split is Split.TRAIN else frames(root / "gt", split, LABEL))

    def train_ids(self, label: Path) -> TrainIds:
        """The labels are trainIds."""
        return TRAIN_IDS(read_ids(label))


DATASET = DarkZurich()
