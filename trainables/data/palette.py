"""Colours of classes: label maps, and overlays of images with them."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from itertools import count

import numpy as np

from trainables.data.labels import TrainIds
from trainables.data.packing.resize import Pixels

GOLDEN = 0.6180339887498949  # of a turn of hue

# Cityscapes' colours by class name, with the names of CamVid's and the embedded benchmark's classes beside them.
COLOURS: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "pavement": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "tree": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "pedestrian": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    "bicyclist": (119, 11, 32),
}


def palette(classes: tuple[str, ...]) -> Pixels:
    """Colours of class ids, [256, 3], uint8, no two of them alike; black where nothing is known (255).

    Names that Cityscapes, CamVid or the embedded benchmark know have their colours, others one that none has: hues at
    steps of the golden ratio, in three brightnesses.
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
