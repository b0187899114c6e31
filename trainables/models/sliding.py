"""Sliding windows over an image: where they lie, and the mean of what is predicted in them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.geometry import Box, size_of


def windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> tuple[Box, ...]:
    """Windows that cover an image, row by row; the last ones are moved back to end at its border.

    Args:
        size: (rows, columns) of the image.
        window: (rows, columns) of a window; cut down to the image where that is smaller.
        stride: (rows, columns) between neighbours.
    """
    tops = _starts(size[0], window[0], stride[0])
    lefts = _starts(size[1], window[1], stride[1])
    height, width = min(window[0], size[0]), min(window[1], size[1])
    return tuple(Box(top, left, height, width) for top in tops for left in lefts)


def _starts(size: int, window: int, stride: int) -> list[int]:
    if window < 1 or stride < 1 or stride > window:
        raise ValueError(
            f"A sliding window needs a stride from 1 to its own side, got stride {stride} with side {window}."
        )
    last = max(size - window, 0)
    return [*range(0, last, stride), last]


def average(boxes: tuple[Box, ...], parts: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The mean over windows at every position: each part is added to its slice, then divided by how many cover it.

    Args:
        boxes: Place of every part; together they cover the whole.
        parts: [B, K, h, w] each, of its box's size.
        size: (rows, columns) of the whole.

    Returns:
        [B, K, H, W].
    """
    total = parts[0].new_zeros((*parts[0].shape[:2], *size))
    count = torch.zeros(size, dtype=total.dtype)
    for box, part in zip(boxes, parts, strict=True):
        box.crop(total).add_(part)
        box.crop(count).add_(1)
    return total / count.to(total.device, non_blocking=True)


def slide(
    predict: Callable[[Tensor], Tensor], image: Tensor, window: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Logits of an image as the mean over sliding windows.

    Args:
        predict: From a window [B, 3, h, w] to its logits [B, K, h, w].
        image: [B, 3, H, W].
        window: (rows, columns) of a window.
        stride: (rows, columns) between neighbours.

    Returns:
        [B, K, H, W].
    """
    size = size_of(image)
    boxes = windows(size, window, stride)
    return average(boxes, [predict(box.crop(image)) for box in boxes], size)
