"""Colours of classes: label maps, and overlays of images with them."""

from __future__ import annotations

import numpy as np

from trainables.data.labels import TrainIds
from trainables.data.packing.resize import Pixels

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
    """Colours of class ids, [256, 3], uint8; black where nothing is known (255)."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    for index, name in enumerate(classes):
        colours[index] = COLOURS.get(name, (37 * index % 256, 91 * index % 256, 151 * index % 256))
    return colours


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
