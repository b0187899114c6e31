"""Which part of an image is seen: random crops, two rules by which a source crop is drawn again, flips, valid boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.config import Margins, PackedPair
from trainables.data.labels import TrainIds, pixels_by_class
from trainables.data.packing.resize import Size, nearest
from trainables.data.sampling import Wanted
from trainables.geometry import IGNORE, Box

REPEATS = 10  # a crop is drawn again at most so often; the last one is used unchecked (reference implementation)


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of the resized image, mirrored left to right or not."""

    box: Box
    flip: bool


def unfilled(pair: object) -> str:
    """A sentence where every crop of a domain is larger than its images, which can be meant; else nothing."""
    if not isinstance(pair, PackedPair):
        return ""
    own = "crop_size" if pair.target_crop is None else "target_crop"
    for crops, images in (("crop_size", "source_size"), (own, "target_size")):
        crop, image = getattr(pair, crops), getattr(pair, images)
        if crop[0] > image[0] or crop[1] > image[1]:
            return (
                f"PackedPair.{crops} {crop} is larger than {images} {image}: each crop is filled up with pixels that "
                f"nothing is learnt from; give a {crops} of at most {image}, or a larger {images}."
            )
    return ""


def draw_box(generator: np.random.Generator, size: Size, crop_size: Size) -> Box:
    """A window of `crop_size` (or of the image, where that is smaller) at a uniformly drawn place."""
    height, width = min(size[0], crop_size[0]), min(size[1], crop_size[1])
    top = int(generator.integers(size[0] - height + 1))
    left = int(generator.integers(size[1] - width + 1))
    return Box(top, left, height, width)


def draw_crop(generator: np.random.Generator, size: Size, crop_size: Size) -> Crop:
    """A window without conditions, for unlabelled images."""
    box = draw_box(generator, size, crop_size)
    return Crop(box, bool(generator.random() < 0.5))


def draw_source_crop(
    generator: np.random.Generator, label: TrainIds, crop_size: Size, max_share: float, wanted: Wanted | None
) -> Crop:
    """A window that is not filled by one class and shows the wanted one.

    Reference implementation: up to 11 windows are drawn until no class fills `max_share` of the labelled pixels. If
    the window then holds too few pixels of the wanted class, all of this is done again, up to 11 times in all.

    Args:
        generator: Draws of this image of the batch; attempts are further draws of it.
        label: trainIds [h, w] of the whole resized image.
        crop_size: (rows, columns) of the crop.
        max_share: Of the labelled pixels of a crop.
        wanted: The class that the crop must show.
    """
    for _ in range(REPEATS + 1):
        box, counts = _draw_mixed_box(generator, label, crop_size, max_share)
        flip = bool(generator.random() < 0.5)
        if wanted is None or counts[wanted.train_id] > wanted.more_than:
            break
    return Crop(box, flip)


def draw_crop_of_class(
    generator: np.random.Generator, label: TrainIds, crop_size: Size, max_share: float, wanted: Wanted
) -> Crop | None:
    """A window around a uniformly drawn pixel of the wanted class.

    Up to 11 are drawn until no class fills `max_share` of the labelled pixels and there are enough of the wanted one.
    The last one is used whatever fills it; None where it shows too few pixels of the wanted class.
    """
    places = np.flatnonzero(label == wanted.train_id)
    if not len(places):
        return None
    size = (label.shape[0], label.shape[1])
    for _ in range(REPEATS + 1):
        row, column = divmod(int(generator.choice(places)), size[1])
        box = draw_box_around(generator, size, crop_size, row, column)
        part = box_of(label, box)
        enough = not wanted.more_than or np.count_nonzero(part == wanted.train_id) > wanted.more_than
        if enough and (max_share >= 1 or is_mixed(pixels_by_class(part, IGNORE), max_share)):
            break
    return Crop(box, bool(generator.random() < 0.5)) if enough else None


def draw_box_around(generator: np.random.Generator, size: Size, crop_size: Size, row: int, column: int) -> Box:
    """One of the windows that hold a pixel, uniformly drawn."""
    height, width = min(size[0], crop_size[0]), min(size[1], crop_size[1])
    top = int(generator.integers(max(0, row - height + 1), min(row, size[0] - height) + 1))
    left = int(generator.integers(max(0, column - width + 1), min(column, size[1] - width) + 1))
    return Box(top, left, height, width)


def _draw_mixed_box(
    generator: np.random.Generator, label: TrainIds, crop_size: Size, max_share: float
) -> tuple[Box, npt.NDArray[np.int64]]:
    for _ in range(REPEATS + 1):
        box = draw_box(generator, (label.shape[0], label.shape[1]), crop_size)
        counts = pixels_by_class(box_of(label, box), IGNORE)  # whatever the number of classes
        if max_share >= 1 or is_mixed(counts, max_share):
            break
    return box, counts


def is_mixed(counts: npt.NDArray[np.int64], max_share: float) -> bool:
    """Whether at least two classes are there and none fills `max_share` of the labelled pixels or more.

    Args:
        counts: Pixels by trainId, 255 last: [K + 1].
    """
    labelled = counts[:-1]
    return bool((labelled > 0).sum() > 1 and labelled.max() / labelled.sum() < max_share)


def box_of(label: TrainIds, box: Box) -> TrainIds:
    """A window of an array [h, w, ...], in place."""
    return label[box.top : box.top + box.height, box.left : box.left + box.width]


def valid_box(margins: Margins, of_size: Size, size: Size, crop: Crop) -> Box:
    """The rectangle of a crop inside the ignore borders of the whole image, in the crop's own pixels after the flip.

    The mask of the borders is made at `of_size` and follows the image through its resize (nearest), crop and flip.

    Args:
        margins: Rows and columns at `of_size`.
        size: (rows, columns) of the resized image that is cropped.
        crop: The window and its flip.
    """
    rows = _inside(of_size[0], size[0], margins.top, margins.bottom)[crop.box.top :][: crop.box.height]
    columns = _inside(of_size[1], size[1], margins.left, margins.right)[crop.box.left :][: crop.box.width]
    top, height = _span(rows)
    left, width = _span(columns[::-1] if crop.flip else columns)
    return Box(top, left, height, width)


def _inside(native: int, resized: int, before: int, after: int) -> npt.NDArray[np.bool_]:
    index = nearest(native, resized)
    return (index >= before) & (index < native - after)


def _span(inside: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Start and length of the one run of True; (0, 0) where there is none."""
    places = np.flatnonzero(inside)
    return (int(places[0]), len(places)) if len(places) else (0, 0)


def padded(label: TrainIds, crop_size: Size) -> TrainIds:
    """The label, filled up to the crop's size with 255 below and to the right."""
    filled = np.full(crop_size, IGNORE, dtype=np.uint8)
    filled[: label.shape[0], : label.shape[1]] = label
    return filled
