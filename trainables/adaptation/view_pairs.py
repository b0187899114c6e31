"""Two overlapping crops of a target image, each with a flip and colours of its own, for patch contrast.

Placed as in Lai et al., "Semi-supervised Semantic Segmentation with Directional Context-aware Consistency" (CVPR 2021):
crops differ by whole cells of the features, so that cells of their overlap show the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.adaptation.augmentation import blurred, hsv_to_rgb, normalisation, rgb_to_hsv
from trainables.geometry import Box, size_of
from trainables.randomness import Streams

CELL = 8  # pixels, by whose multiples two crops differ, at least
LEAST_IOU = 0.1
TRIES = 50
FLIP, BLUR, JITTER, GREY = 0.5, 0.5, 0.8, 0.2  # probabilities
BLUR_RADIUS = 2  # a kernel of 5 x 5, however small the crop
BLUR_SIGMA = 1.1  # pixels: what OpenCV takes for that kernel
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.4, 0.1  # reach of the factors about 1, and of the hue in turns
LUMA = (0.2989, 0.587, 0.114)

Corner = tuple[int, int]  # top, left


@dataclass(frozen=True, slots=True)
class Pair:
    """How pairs are cut.

    Args:
        window: (rows, columns) of a crop.
        long_side: Range of the longer side that the image is resized to; never so little that a crop does not fit.
        cell: Side of a cell of the features, pixels.
    """

    window: tuple[int, int]
    long_side: tuple[float, float]
    cell: int = CELL


@dataclass(frozen=True, slots=True)
class View:
    """One crop of a pair.

    Args:
        image: Normalised, [1, 3, rows, columns].
        overlap: Where the other crop shows the same, in pixels of the crop before its flip.
        flipped: Whether it is mirrored left to right.
    """

    image: Tensor
    overlap: Box
    flipped: bool


def view_pair(
    image: Tensor,
    pair: Pair,
    streams: Streams,
    step: int,
    item: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tuple[View, View]:
    """Two views of a whole image.

    Args:
        image: Normalised, [1, 3, H, W].
        pair: How they are cut.
        item: The image's place in the batch.
        mean, std: Normalisation (pixel values, RGB).
    """
    window, (low, high) = pair.window, pair.long_side
    side = int(streams.integers("view scale", step, (), round(low), round(high) + 1, item))
    size = resized_size(size_of(image), side, window)
    places = streams.uniform("view windows", step, (1 + TRIES, 2), item=item)
    room = torch.tensor([whole - part for whole, part in zip(size, window, strict=True)])
    corners = [(int(top), int(left)) for top, left in (places * (room + 1)).floor().clamp(max=room).tolist()]
    first, second = corners[0], place_second(corners[0], corners[1:], window, pair.cell)
    centre, spread = normalisation(image, mean, std)
    whole = ((image * spread + centre) / 255).contiguous()
    whole = F.interpolate(whole, size=size, mode="bicubic", antialias=True).clamp_(0, 1)
    flips = streams.uniform("view flips", step, (2,), item=item) < FLIP
    views = []
    for index, (own, other) in enumerate(((first, second), (second, first))):
        crop = Box(*own, *window).crop(whole)
        crop = recoloured(crop.flip(-1) if flips[index] else crop, streams, step, 2 * item + index)
        views.append(View((crop * 255 - centre) / spread, overlap(own, other, window), bool(flips[index])))
    return views[0], views[1]


def resized_size(size: tuple[int, int], long_side: int, window: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of an image whose longer side becomes `long_side`, or as much more as a crop needs.

    Rounded, halves up.
    """
    scale = max(Fraction(long_side, max(size)), *map(Fraction, window, size))
    rows, columns = (math.floor(whole * scale + Fraction(1, 2)) for whole in size)
    return rows, columns


def place_second(first: Corner, tries: Iterable[Corner], window: tuple[int, int], cell: int) -> Corner:
    """The first of some corners whose crop, moved by less than a cell, overlaps enough; the first crop's where none is.

    It is moved up and left to a distance of whole cells, or by a cell the other way where that leaves the image.
    """
    for corner in tries:
        top, left = (_moved(own, other, cell) for own, other in zip(corner, first, strict=True))
        if intersection_over_union(first, (top, left), window) >= LEAST_IOU:
            return top, left
    return first


def _moved(own: int, other: int, cell: int) -> int:
    place = other + (own - other) // cell * cell
    return place if place >= 0 else place + cell


def intersection_over_union(first: Corner, second: Corner, window: tuple[int, int]) -> float:
    """Of two crops of one size."""
    rows, columns = (max(0, side - abs(one - other)) for side, one, other in zip(window, first, second, strict=True))
    return rows * columns / (2 * window[0] * window[1] - rows * columns)


def overlap(own: Corner, other: Corner, window: tuple[int, int]) -> Box:
    """Where a crop shows what the other one does, in its own pixels."""
    top, left = (max(0, theirs - ours) for ours, theirs in zip(own, other, strict=True))
    rows, columns = (max(0, side - abs(theirs - ours)) for side, ours, theirs in zip(window, own, other, strict=True))
    return Box(top, left, rows, columns)


def recoloured(image: Tensor, streams: Streams, step: int, item: int) -> Tensor:
    """Blur, colour jitter and grey, each or not, of one image [1, 3, rows, columns] in [0, 1]."""
    blur, jittered, grey = streams.uniform("view gates", step, (3,), item=item).tolist()
    if blur < BLUR:
        image = blurred(image, torch.tensor([BLUR_SIGMA]), (BLUR_RADIUS, BLUR_RADIUS))
    if jittered < JITTER:
        reach = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION, HUE], dtype=torch.float64)
        centre = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
        factors = centre + reach * streams.uniform("view jitter", step, (4,), -1.0, 1.0, item)
        order = streams.permutation("view jitter order", step, 4, item)
        image = jittered_colours(image, factors.tolist(), order.tolist())
    return luma(image).expand_as(image) if grey < GREY else image


def jittered_colours(image: Tensor, factors: list[float], order: list[int]) -> Tensor:
    """torchvision's colour jitter in [0, 1]: brightness, contrast, saturation and hue (0 to 3) in some order.

    The first three blend with black, with the mean grey and with the grey of each pixel; hues are turned.
    """
    for operation in order:
        factor = factors[operation]
        if operation == 0:
            image = (factor * image).clamp(0, 1)
        elif operation == 1:
            mean = luma(image).mean(dim=(1, 2, 3), keepdim=True)
            image = (factor * image + (1 - factor) * mean).clamp(0, 1)
        elif operation == 2:
            image = (factor * image + (1 - factor) * luma(image)).clamp(0, 1)
        else:
            hue, saturation, value = rgb_to_hsv(image)
            image = hsv_to_rgb((hue + factor) % 1, saturation, value)
    return image


def luma(image: Tensor) -> Tensor:
    """Grey of [B, 3, H, W], [B, 1, H, W]."""
    red, green, blue = image.split(1, dim=1)
    grey: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return grey
