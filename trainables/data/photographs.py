"""The images of a pair with real photographs: read from the folder once a process, or in place from a store.

Both give the same pixels: images are resized by Pillow's bilinear rule, which does not alias, labels by the nearest
one. The store therefore keeps images at their native size; every trial of a machine reads the same pages of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.datasets.readers import DECODING_ERRORS, BrokenSample, Found, read_image
from trainables.data.datasets.real_pair import RealPair, indices_of_parts
from trainables.data.labels import TrainIds, UnknownIds
from trainables.data.packing.format import PackedSplit, Store
from trainables.data.packing.manifest import MANIFEST
from trainables.data.packing.resize import Pixels, Size, fit_size, resize_label
from trainables.data.splits import LAYOUT, PLACES, Split


class Photographs(Protocol):
    """Images of one domain, fitted into a box with their ratio kept."""

    @property
    def labelled(self) -> bool:
        """Whether they have labels."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Pixels:
        """[h, w, 3], at training size."""

    def label(self, index: int) -> TrainIds:
        """[h, w] in trainIds, at training size, or (validation) at the label's own size."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Everything that a folder or a store holds; `parts` are indices of source images."""

    source: Photographs
    parts: tuple[npt.NDArray[np.int64], ...]
    target: Photographs
    validation: Photographs


def open_pair(path: Path, box: Size) -> Pair:
    """Open a folder, or a store that `python -m trainables.data prepare realpair` made of it.

    Args:
        path: Either.
        box: (rows, columns) that images are fitted into.

    Raises:
        ValueError: The folder lacks images or labels, a file of it is broken, or the store cannot be used.
    """
    return _open_store(path, box) if (path / MANIFEST).is_file() else read_folder(path, box)


# --------------------------------------------------------------------------------------------------------------------
# A store
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """A split of a store, resized as it is read: a millisecond an image.

    Args:
        split: At native size.
        box: (rows, columns) that images are fitted into.
        own_label_size: Labels keep their own size.
    """

    split: PackedSplit
    box: Size
    own_label_size: bool

    @property
    def labelled(self) -> bool:
        return self.split.manifest.labelled

    def __len__(self) -> int:
        return len(self.split)

    def image(self, index: int) -> Pixels:
        return _resized(self.split.image(index), self.box)

    def label(self, index: int) -> TrainIds:
        return self.split.label(index) if self.own_label_size else _resized_label(self.split.label(index), self.box)


def _open_store(path: Path, box: Size) -> Pair:
    store = Store(path)
    store.manifest.check_dataset(RealPair().dataset, str(path))
    source, target, validation = (_stored(store, split, box) for split in PLACES)
    names = [source.split.name(index) for index in range(len(source))]
    return Pair(source, indices_of_parts(names), target, validation)


def _stored(store: Store, split: Split, box: Size) -> Stored:
    packed = store.split(split)
    packed.check_box(None)
    return Stored(packed, box, own_label_size=split is Split.VAL)


# --------------------------------------------------------------------------------------------------------------------
# A folder
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InMemory:
    """Images that were read from a folder; `labels` is None where it has none."""

    images: tuple[Pixels, ...]
    labels: tuple[TrainIds, ...] | None

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Pixels:
        return self.images[index]

    def label(self, index: int) -> TrainIds:
        assert self.labels is not None, "these images have no labels"
        return self.labels[index]


@lru_cache(maxsize=1)
def read_folder(root: Path, box: Size) -> Pair:
    """Read a folder; images are fitted into `box`.

    Raises:
        ValueError: See `open_pair`.
    """
    found = {split: _found(root, split) for split in PLACES}
    source, target, validation = (_read(found[split], box, own_label_size=split is Split.VAL) for split in PLACES)
    names = [sample.name for sample in found[Split.SOURCE].samples]
    return Pair(source, indices_of_parts(names), target, validation)


def _found(root: Path, split: Split) -> Found:
    """Refuse a folder without images, and images without labels (or the reverse)."""
    folder = root / PLACES[split]
    found = RealPair().find(root, split)
    if not found.samples and not any(folder.glob("images/*.*")):
        raise ValueError(f"There are no images in {folder / 'images'}; give a folder with {LAYOUT}.")
    if found.problems:
        first = found.problems[0]
        raise ValueError(
            f"{folder} holds images without a label, or labels without an image ({len(found.problems)} in all, the "
            f"first: {first.path}, {first.detail}); every image needs a label of its name, so complete the folder."
        )
    return found


def _read(found: Found, box: Size, *, own_label_size: bool) -> InMemory:
    images, labels = [], []
    for sample in found.samples:
        image = _read_image(sample.image)
        images.append(_resized(image, box))
        if sample.label is not None:
            label = _read_label(sample.label, (image.shape[0], image.shape[1]))
            labels.append(label if own_label_size else _resized_label(label, box))
    return InMemory(tuple(images), tuple(labels) or None)


def _read_image(path: Path) -> Pixels:
    try:
        return read_image(path)
    except BrokenSample as error:
        raise ValueError(
            f"{path} must be an image, but cannot be read ({error.detail}); replace or remove it."
        ) from None


def _read_label(path: Path, size: Size) -> TrainIds:
    try:
        label = RealPair().train_ids(path)
    except UnknownIds as error:
        raise ValueError(f"{path} must hold trainIds 0 to 18 and 255, but holds {error}; convert the labels.") from None
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} must be a label in one channel, but cannot be read ({error}); replace it.") from None
    if label.shape != size:
        raise ValueError(
            f"{path} must have the size of its image, {size[0]}x{size[1]}, but has {label.shape[0]}x{label.shape[1]}; "
            "give labels at the images' size."
        )
    return label


def _resized(image: Pixels, box: Size) -> Pixels:
    rows, columns = fit_size((image.shape[0], image.shape[1]), box)
    return np.array(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))


def _resized_label(label: TrainIds, box: Size) -> TrainIds:
    return resize_label(label, fit_size((label.shape[0], label.shape[1]), box))
