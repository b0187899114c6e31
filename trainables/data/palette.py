"""Colours of classes: label maps, and overlays of images with them."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from itertools import count

import numpy as np

from trainables.data.labels import TrainIds
from trainables.data.packing.resize import Pixels

GOLDEN = 0.6180339887498949  # of a turn of hue

# Cityscapes' colours by class name, moved apart as little as it takes for any two of them, and black, to differ for
# people without red or green cones too; with the names of CamVid's and the embedded benchmark's classes beside them.
COLOURS: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (250, 58, 250),
    "pavement": (250, 58, 250),
    "building": (57, 57, 60),
    "wall": (77, 109, 188),
    "fence": (194, 155, 136),
    "pole": (155, 155, 168),
    "traffic light": (247, 171, 41),
    "light": (247, 171, 41),
    "traffic sign": (242, 238, 2),
    "sign": (242, 238, 2),
    "vegetation": (144, 175, 73),
    "tree": (144, 175, 73),
    "terrain": (152, 251, 152),
    "sky": (93, 144, 189),
    "person": (202, 19, 53),
    "pedestrian": (202, 19, 53),
    "rider": (253, 6, 0),
    "car": (0, 0, 142),
    "truck": (1, 1, 71),
    "bus": (2, 39, 72),
    "train": (82, 111, 107),
    "motorcycle": (0, 0, 230),
    "bicycle": (102, 1, 12),
    "bicyclist": (102, 1, 12),
}


def palette(classes: tuple[str, ...]) -> Pixels:
    """Colours of class ids, [256, 3], uint8, no two of them alike; black where nothing is known (255).

    Names that Cityscapes, CamVid or the embedded benchmark know have those of `COLOURS`, others one that none has: hues
    at steps of the golden ratio, in three brightnesses.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    taken = {COLOURS[name] for name in classes if name in COLOURS} | {(0, 0, 0)}
    others = (colour for number in count() if (colour := _bright(number)) not in taken)
    seen: set[tuple[int, int, int]] = set()
    for index, name in enumerate(classes):
        own = COLOURS.get(name)
        colours[index] = next(others) if own is None or own in seen else own
        seen.add(tuple(colours[index].tolist()))
    return colours


def _bright(number: int) -> tuple[int, int, int]:
    """A saturated colour for each number; neighbours are far apart."""
    red, green, blue = hsv_to_rgb(number * GOLDEN % 1, 0.75, (0.95, 0.75, 0.55)[number % 3])
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(image: Pixels, label: TrainIds, classes: tuple[str, ...], strength: float = 0.5) -> Pixels:
    """Lay class colours over an image.

    Args:
        image: RGB [H, W, 3].
        label: Class ids [H, W]; 255 is black.
        classes: Their names.
        strength: Share of the colours; the rest is the image.
    """
    mixed = (1 - strength) * image + strength * palette(classes)[label]
    return mixed.round().astype(np.uint8)
