"""cv2's resize in whole numbers: bilinear without antialias for images, nearest for labels, for a window or the whole.

The reference pipeline resizes with cv2, whose 8-bit bilinear works in fixed point: weights of 11 bits, four bits
dropped after the horizontal pass, sixteen after the vertical one. The same whole-number steps give the same pixels on
every machine, and a window of a resized image is bit-equal to that window of the whole resized image.

H and W are rows and columns of the native image, h and w those of the resized one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.geometry import Box

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

WEIGHT_BITS = 11


def fit_size(native: Size, box: Size) -> Size:
    """The largest (rows, columns) with the native ratio that fits into a box, which is turned as the image is.

    A side has one pixel at least, however long and thin the image is.

    Reference implementation: 1052 x 1914 in 720 x 1280 is 704 x 1280.
    """
    scale = min(max(box) / max(native), min(box) / min(native))
    return max(1, int(native[0] * scale + 0.5)), max(1, int(native[1] * scale + 0.5))


def whole(size: Size) -> Box:
    """The box of a whole image."""
    return Box(0, 0, size[0], size[1])


def resize_image(image: Pixels, size: Size, window: Box | None = None) -> Pixels:
    """A window of the image, resized bilinearly.

    Args:
        image: [H, W, 3]; only the rows that the window needs are read.
        size: (h, w) of the whole resized image.
        window: The part of the resized image that is wanted; None is all of it.

    Returns:
        [rows, columns, 3] of the window.
    """
    window = window or whole(size)
    rows = _taps(image.shape[0], size[0]).cut(window.top, window.height)
    columns = _whole_at_ends(_taps(image.shape[1], size[1])).cut(window.left, window.width)
    top, bottom = int(rows.first[0]), int(rows.second[-1]) + 1
    left, right = int(columns.first[0]), int(columns.second[-1]) + 1
    part = torch.from_numpy(image[top:bottom, left:right].astype(np.int32))
    across = part.index_select(1, columns.first - left).mul_(columns.near[:, None])
    across.add_(part.index_select(1, columns.second - left).mul_(columns.far[:, None])).bitwise_right_shift_(4)
    down = across.index_select(0, rows.first - top).mul_(rows.near[:, None, None]).bitwise_right_shift_(16)
    below = across.index_select(0, rows.second - top).mul_(rows.far[:, None, None]).bitwise_right_shift_(16)
    return down.add_(below).add_(2).bitwise_right_shift_(2).to(torch.uint8).numpy()


def rows_under(native: int, resized: int, window: Box) -> tuple[int, int]:
    """The rows of the native image, from the first to behind the last, that a window of the resized one is made of."""
    rows = _taps(native, resized).cut(window.top, window.height)
    return int(rows.first[0]), int(rows.second[-1]) + 1


def resize_label(label: Pixels, size: Size, window: Box | None = None) -> Pixels:
    """A window of the label [H, W], resized by cv2's nearest rule (see `nearest`)."""
    window = window or whole(size)
    rows = nearest(label.shape[0], size[0])[window.top : window.top + window.height]
    columns = nearest(label.shape[1], size[1])[window.left : window.left + window.width]
    resized: Pixels = label[rows[:, None], columns]
    return resized


def nearest(native: int, resized: int) -> npt.NDArray[np.int64]:
    """The native index of each resized index along one axis: floor(index * native / resized).

    The factor is taken as cv2 takes it, as the inverse of the scale: where products are whole numbers, its last bit
    decides.
    """
    index: npt.NDArray[np.int64] = np.floor(np.arange(resized) * (1 / (resized / native))).astype(np.int64)
    return index.clip(max=native - 1)


@dataclass(frozen=True, slots=True)
class _Taps:
    """Two neighbours of each resized index along one axis, with their weights in 1/2048."""

    first: Tensor
    second: Tensor
    near: Tensor
    far: Tensor

    def cut(self, start: int, length: int) -> _Taps:
        part = slice(start, start + length)
        return _Taps(self.first[part], self.second[part], self.near[part], self.far[part])


@lru_cache(maxsize=64)
def _taps(native: int, resized: int) -> _Taps:
    """Those of rows: beyond the first and the last one, cv2 takes that row twice, and cuts each product by itself."""
    position = ((np.arange(resized) + 0.5) * (native / resized) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    fraction = position - first.astype(np.float32)
    one = np.float32(2**WEIGHT_BITS)
    return _Taps(
        torch.from_numpy(first.clip(0, native - 1)),
        torch.from_numpy((first + 1).clip(0, native - 1)),
        torch.from_numpy(np.rint((1 - fraction) * one).astype(np.int32)),
        torch.from_numpy(np.rint(fraction * one).astype(np.int32)),
    )


def _whole_at_ends(taps: _Taps) -> _Taps:
    """Those of columns: where both neighbours are one, it has the whole weight."""
    ends = taps.first == taps.second
    return replace(taps, near=taps.near.masked_fill(ends, 2**WEIGHT_BITS), far=taps.far.masked_fill(ends, 0))
