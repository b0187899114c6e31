"""The images of a domain at the sizes that training sees: in place from a store, or read from a folder once a process.

Images of a folder are resized by Pillow's bilinear rule, which does not alias, labels by the nearest one. A store that
is made of such a folder keeps native sizes and follows the same rule, so both have the same pixels; every trial on a
host reads the same pages of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.crops import box_of
from trainables.data.datasets.realpair import DATASET, indices_of_parts
from trainables.data.labels import TrainIds, UnknownIds, pixels_by_class
from trainables.data.packing.format import PackedSplit, Store
from trainables.data.packing.manifest import MANIFEST
from trainables.data.packing.resize import Pixels, Size, fit_size, resize_label
from trainables.data.readers import DECODING_ERRORS, BrokenSample, Found, read_image
from trainables.data.sampling import Counts
from trainables.data.splits import LAYOUT, PLACES, Split
from trainables.geometry import Box


class Images(Protocol):
    """Images of one domain, each seen at one size."""

    @property
    def labelled(self) -> bool:
        """Whether they have labels."""

    def __len__(self) -> int: ...

    def size(self, index: int) -> Size:
        """(rows, columns) that are seen."""

    def window(self, index: int, box: Box) -> Pixels:
        """[rows, columns, 3] of a window of the image as it is seen; it may be read-only memory."""

    def label(self, index: int) -> TrainIds:
        """[h, w] in trainIds, at the size that is seen, or (images that are evaluated) at the label's own."""

    def pixels(self) -> Counts:
        """Pixels by image and trainId, at the label's native size or as seen, 255 last: [N, K + 1]."""


@dataclass(frozen=True, slots=True)
class StoredImages:
    """A split of a store, resized as it is read.

    Args:
        split: At native size, or fitted into the box already.
        box: (rows, columns) that images are fitted into, ratio kept.
        own_label_size: Labels keep their own size.
        antialias: Resize by Pillow's rule instead of cv2's, which the reference implementation uses.
    """

    split: PackedSplit
    box: Size
    own_label_size: bool = False
    antialias: bool = False

    @property
    def labelled(self) -> bool:
        return self.split.manifest.labelled

    def __len__(self) -> int:
        return len(self.split)

    def size(self, index: int) -> Size:
        return self.split.size(index, self.box)

    def window(self, index: int, box: Box) -> Pixels:
        if self.antialias:
            return box_of(_antialiased(self.split.image(index), self.size(index)), box)
        return self.split.image_window(index, self.size(index), box)

    def label(self, index: int) -> TrainIds:
        return self.split.label(index) if self.own_label_size else self.split.sized_label(index, self.size(index))

    def pixels(self) -> Counts:
        return self.split.pixels


@dataclass(frozen=True, slots=True)
class ReadImages:
    """Images that were read from a folder and resized; `labels` is None where it has none."""

    images: tuple[Pixels, ...]
    labels: tuple[TrainIds, ...] | None

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> Size:
        return _size(self.images[index])

    def window(self, index: int, box: Box) -> Pixels:
        return box_of(self.images[index], box)

    def label(self, index: int) -> TrainIds:
        assert self.labels is not None, "these images have no labels"
        return self.labels[index]

    def pixels(self) -> Counts:
        return np.stack([pixels_by_class(self.label(index)) for index in range(len(self))])


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Both domains of a folder, or of the store that was made of it; `parts` are indices of source images."""

    source: Images
    parts: tuple[npt.NDArray[np.int64], ...]
    target: Images
    validation: Images


def open_image_pair(path: Path, box: Size) -> ImagePair:
    """Open a folder, or a store that `python -m trainables.data prepare realpair` made of it.

    Args:
        path: Either.
        box: (rows, columns) that images are fitted into.

    Raises:
        ValueError: The folder lacks images or labels, a file of it is broken, or the store cannot be used.
    """
    if not (path / MANIFEST).is_file():
        return read_folder(path, box)
    store = Store(path)
    store.manifest.check_dataset(DATASET.dataset, str(path))
    splits = {split: store.split(split) for split in PLACES}
    for packed in splits.values():
        packed.check_box(None)
    source, target, validation = (
        StoredImages(packed, box, own_label_size=split is Split.VAL, antialias=True) for split, packed in splits.items()
    )
    names = [source.split.name(index) for index in range(len(source))]
    return ImagePair(source, indices_of_parts(names), target, validation)


@lru_cache(maxsize=1)
def read_folder(root: Path, box: Size) -> ImagePair:
    """Read a folder; images are fitted into `box`.

    Raises:
        ValueError: See `open_image_pair`.
    """
    found = {split: _found(root, split) for split in PLACES}
    source, target, validation = (_read(found[split], box, own_label_size=split is Split.VAL) for split in PLACES)
    names = [sample.name for sample in found[Split.SOURCE].samples]
    return ImagePair(source, indices_of_parts(names), target, validation)


def _found(root: Path, split: Split) -> Found:
    """Refuse a folder without images, and images without labels (or the reverse)."""
    folder = root / PLACES[split]
    found = DATASET.find(root, split)
    if not found.samples and not any(folder.glob("images/*.*")):
        raise ValueError(f"There are no images in {folder / 'images'}; give a folder with {LAYOUT}.")
    if found.problems:
        first = found.problems[0]
        raise ValueError(
            f"{folder} holds images without a label, or labels without an image ({len(found.problems)} in all, the "
            f"first: {first.path}, {first.detail}); every image needs a label of its name, so complete the folder."
        )
    return found


def _read(found: Found, box: Size, *, own_label_size: bool) -> ReadImages:
    images, labels = [], []
    for sample in found.samples:
        image = _read_image(sample.image)
        size = fit_size(_size(image), box)
        images.append(_antialiased(image, size))
        if sample.label is not None:
            label = _read_label(sample.label, _size(image))
            labels.append(label if own_label_size else resize_label(label, size))
    return ReadImages(tuple(images), tuple(labels) or None)


def _read_image(path: Path) -> Pixels:
    try:
        return read_image(path)
    except BrokenSample as error:
        raise ValueError(
            f"{path} must be an image, but cannot be read ({error.detail}); replace or remove it."
        ) from None


def _read_label(path: Path, size: Size) -> TrainIds:
    try:
        label = DATASET.train_ids(path)
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


def _antialiased(image: Pixels, size: Size) -> Pixels:
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _size(pixels: Pixels) -> Size:
    return pixels.shape[0], pixels.shape[1]
