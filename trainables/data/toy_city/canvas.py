"""What a scene of ToyCity is painted on: for every pixel an instance and a scale, seen by a pinhole camera.

Everything is on a flat ground. A thing whose foot is at ground row y has `scale = (y - horizon) / camera height` pixels
a metre, so a thing h metres tall is h * scale rows tall, and a point x metres right of the camera is at column
`vanishing + x * scale`.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainables.data.toy_city.styles import Materials, Range, Style, ToyClass

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Generator = np.random.Generator

SKY_SCALE = 1e6  # the sky is painted without fog
MIN_SCALE = 0.055  # pixels a metre a row of the image: nothing that must be seen is farther away
MATERIALS = {item.name: index for index, item in enumerate(fields(Materials))}


def uniform(random: Generator, span: Range) -> float:
    """A uniform draw from a range."""
    return span[0] + (span[1] - span[0]) * random.random()


class Canvas:
    """The instance and the scale of every pixel, the instances so far, and the camera.

    Args:
        style: The domain.
        size: (rows, columns).
        random: Draws of the scene.
    """

    def __init__(self, style: Style, size: tuple[int, int], random: Generator) -> None:
        self.style, self.size, self.random = style, size, random
        rows, columns = size
        camera = style.camera
        self.instances = np.zeros(size, np.int16)
        self.scales = np.full(size, SKY_SCALE, np.float32)
        self.classes: list[int] = []
        self.materials: list[int] = []
        self.shades: list[float] = []
        self.horizon = rows * uniform(random, camera.horizon)
        self.vanishing = columns * uniform(random, camera.sideways)
        self.height = uniform(random, camera.height)
        self.half_road = uniform(random, camera.road)
        self.sidewalks = {side: uniform(random, camera.sidewalk) for side in (-1, 1)}
        self.far = MIN_SCALE * rows
        self.near = (rows - self.horizon) / self.height  # the scale at the bottom row

    @cached_property
    def y(self) -> Floats:
        """Row centres [H, 1]."""
        return np.arange(self.size[0], dtype=np.float32)[:, None] + np.float32(0.5)

    @cached_property
    def x(self) -> Floats:
        """Column centres [W]."""
        return np.arange(self.size[1], dtype=np.float32) + np.float32(0.5)

    @cached_property
    def first_ground_row(self) -> int:
        """The first row whose centre lies under the horizon."""
        return int(self.horizon + 0.5)

    def metres(self, scale: Floats) -> Floats:
        """Distance along the street at a scale; the focal length is the image's number of rows."""
        return np.float32(self.size[0]) / scale

    def instance(self, material: str, label: ToyClass, shade: float = 1.0) -> int:
        """A new instance; its colour is drawn around the material's, times a shade."""
        self.classes.append(label)
        self.materials.append(MATERIALS[material])
        self.shades.append(shade)
        return len(self.classes) - 1

    def box(self, instance: int, scale: float, left: float, top: float, right: float, bottom: float) -> None:
        """Paint a rectangle, in pixels; what lies outside the image is cut off."""
        rows = slice(max(round(top), 0), max(round(bottom), 0))
        columns = slice(max(round(left), 0), max(round(right), 0))
        self.instances[rows, columns] = instance
        self.scales[rows, columns] = scale

    def ellipse(self, instance: int, scale: float, x: float, y: float, half_width: float, half_height: float) -> None:
        """Paint an ellipse around (x, y), in pixels."""
        top, bottom = max(int(y - half_height), 0), max(int(y + half_height) + 2, 0)
        left, right = max(int(x - half_width), 0), max(int(x + half_width) + 2, 0)
        inside = ((self.y[top:bottom] - y) / half_height) ** 2 + ((self.x[left:right] - x) / half_width) ** 2 <= 1
        self.instances[top:bottom, left:right][inside] = instance
        self.scales[top:bottom, left:right][inside] = scale

    def wall(
        self, instances: NDArray[np.int16] | int, side: int, x: float, bottom: Floats | float, top: Floats | float
    ) -> None:
        """Paint an upright surface along the street, x metres to a side, between two heights above the ground.

        Args:
            instances: For each column [W] of `wall_columns`, or one.
            side: -1 left, 1 right.
            x: Distance from the camera's axis, metres.
            bottom, top: Heights, metres, one or for each column.
        """
        columns, scale = self.wall_columns(side, x)
        foot = self.horizon + self.height * scale
        inside = (self.y >= foot - top * scale) & (self.y < foot - bottom * scale)
        np.copyto(self.instances[:, columns], instances, where=inside, casting="unsafe")
        np.copyto(self.scales[:, columns], scale, where=inside)

    def wall_columns(self, side: int, x: float) -> tuple[slice, Floats]:
        """The columns in which a wall x metres to a side is seen, and its scale in each."""
        if side < 0:
            columns = slice(0, max(int(self.vanishing), 0))
            return columns, np.maximum((self.vanishing - self.x[columns]) / np.float32(x), np.float32(1e-3))
        columns = slice(int(self.vanishing), self.size[1])
        return columns, np.maximum((self.x[columns] - self.vanishing) / np.float32(x), np.float32(1e-3))

    def labels(self) -> Bytes:
        """The class of every pixel, [H, W] uint8."""
        return np.asarray(self.classes, np.uint8)[self.instances]
