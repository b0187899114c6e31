"""CARLA + AirSim -> CamVid: `{source,target/train,target/val}/images/*`, `{source,target/val}/labels/*.png` (trainIds).

    source/images/NAME.*          source/labels/NAME.png
    source/PART.txt               optional: the names of a part, one a line; parts are drawn with equal chance
    target/train/images/NAME.*    target/train/labels/NAME.png (optional, for the oracle only)
    target/val/images/NAME.*      target/val/labels/NAME.png

Labels are one-channel PNG files of Cityscapes' 19 trainIds and 255. An image of a part is called PART/NAME.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.labels import TRAIN_IDS
from trainables.data.readers import Found, Reader, by_ids, by_stem, pair
from trainables.data.splits import PLACES, Split

EVERYTHING = "all"  # source/all.txt names every image: no part


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one name; those of the source are named by their part.

    Raises:
        ValueError: A list of a part names an image that is not there, or that another list names, or none.
    """
    folder = root / PLACES[split]
    labelled = split is not Split.TRAIN or (folder / "labels").is_dir()
    labels = by_stem(folder / "labels", "*.png") if labelled else None
    found = pair(root, split, by_stem(folder / "images", "*.*"), labels)
    if split is not Split.SOURCE:
        return found
    parts = _parts(folder)
    named = [replace(sample, name=parts.get(sample.name, sample.name)) for sample in found.samples]
    return Found(tuple(sorted(named, key=lambda sample: sample.name)), found.problems)


def indices_of_parts(names: Sequence[str]) -> tuple[npt.NDArray[np.int64], ...]:
    """Indices of the images of each part, PART/NAME; one part of all of them where no name has a part."""
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        part, slash, _ = name.partition("/")
        if slash:
            indices.setdefault(part, []).append(index)
    return tuple(np.array(places) for places in indices.values()) or (np.arange(len(names)),)


def _parts(folder: Path) -> dict[str, str]:
    """NAME -> PART/NAME by the lists of a folder."""
    there = by_stem(folder / "images", "*.*")
    parts: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        if path.stem == EVERYTHING or not there:
            continue
        listed = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        fault = "" if listed else "names no image"
        for name in listed:
            if name not in there:
                fault = fault or f"names {name}, which is not in {folder / 'images'}"
            if name in parts:
                fault = fault or f"names {name}, which another list names too"
        if fault:
            raise ValueError(f"{path} must list names of images, one a line, but {fault}; correct or remove the list.")
        parts |= {name: f"{path.stem}/{name}" for name in listed}
    return parts


# Source and target of one folder; images keep their own size, which differs from part to part.
DATASET = Reader(
    dataset="realpair",
    splits=tuple(PLACES),
    scored=Split.VAL,
    find=find,
    train_ids=by_ids(TRAIN_IDS),
)
