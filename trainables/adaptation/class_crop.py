"""Class-balanced crops of the target (SePiCo, Xie et al. 2023): of several windows the one with the evenest classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.config import ClassBalancedCrop
from trainables.geometry import IGNORE, Box, size_of
from trainables.models.segmentor import Segmentor, laid_out
from trainables.randomness import Streams
from trainables.step_data import Batch


@torch.no_grad()
def class_balanced(
    target: Batch, settings: ClassBalancedCrop, teacher: Segmentor, streams: Streams, step: int
) -> Batch:
    """Crop each image where the teacher sees the evenest classes; its labels of the whole image are not kept.

    Args:
        target: Images [B, 3, H, W], at least as large as the crop.
        settings: Size and number of windows.

    Raises:
        ValueError: The images are smaller than the crop.
    """
    rows, columns = size_of(target.image)
    height, width = settings.size
    if rows < height or columns < width:
        raise ValueError(
            f"SelfTraining.class_crop.size must be at most the target's training images, {rows}x{columns} pixels, got "
            f"{height}x{width}."
        )
    labels = teacher.predict(target.image).max(dim=1).indices.cpu()
    boxes = [
        most_even(label, windows(settings, streams, step, item, (rows, columns)), settings.max_class_share)
        for item, label in enumerate(labels)
    ]
    image = torch.stack([box.crop(one) for box, one in zip(boxes, target.image, strict=True)])
    valid = None
    if target.valid is not None:
        valid = tuple(within(one, box) for one, box in zip(target.valid, boxes, strict=True))
    return Batch(laid_out(image, target.image), None, valid)


def windows(settings: ClassBalancedCrop, streams: Streams, step: int, item: int, size: tuple[int, int]) -> list[Box]:
    """Boxes at uniform places in an image of (rows, columns)."""
    height, width = settings.size
    draws = streams.numpy("class-balanced crop", step, item)
    places = [
        (int(draws.integers(size[0] - height + 1)), int(draws.integers(size[1] - width + 1)))
        for _ in range(settings.tries)
    ]
    return [Box(top, left, height, width) for top, left in places]


def most_even(label: Tensor, boxes: Sequence[Box], max_class_share: float) -> Box:
    """The first of the boxes with the highest score.

    The score is the sum of ln n over the classes with n > 1 pixels in the box: highest where many classes share it
    evenly. A box of one class, or with a class that fills `max_class_share` of it or more, has 0.

    Args:
        label: [H, W], int64 on the host, 255 ignored.
        boxes: At least one.
    """
    return max(boxes, key=lambda box: _score(box.crop(label), max_class_share))


def _score(label: Tensor, max_class_share: float) -> float:
    counts = torch.bincount(label.flatten(), minlength=IGNORE + 1)[:IGNORE].double()
    counts = counts[counts > 0]
    if len(counts) < 2 or float(counts.max() / counts.sum()) >= max_class_share:
        return 0.0
    return float(counts[counts > 1].log().sum())


def within(box: Box, crop: Box) -> Box:
    """The part of a rectangle that a crop shows, in the crop's coordinates."""
    top, left = max(box.top, crop.top), max(box.left, crop.left)
    bottom = min(box.top + box.height, crop.top + crop.height)
    right = min(box.left + box.width, crop.left + crop.width)
    return Box(top - crop.top, left - crop.left, max(bottom - top, 0), max(right - left, 0))
