"""Colour jitter and blur as plainly as they can be said: pixel by pixel and tap by tap, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FLOAT32_PI = float(np.float32(math.pi))


def hsv(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Hue in sixths of a turn, saturation with kornia 0.5.8's epsilon, value."""
    most, least = max(red, green, blue), min(red, green, blue)
    if most == least:
        hue = 0.0
    elif most == red:
        hue = (green - blue) / (most - least)
    elif most == green:
        hue = 2 + (blue - red) / (most - least)
    else:
        hue = 4 + (red - green) / (most - least)
    return hue % 6, (most - least) / (most + 1e-6), most


def rgb(hue: float, saturation: float, value: float) -> list[float]:
    """By the six sectors of the textbook."""
    sector, rest = math.floor(hue) % 6, hue - math.floor(hue)
    low, falling, rising = (
        value * (1 - saturation),
        value * (1 - rest * saturation),
        value * (1 - (1 - rest) * saturation),
    )
    return [
        [value, rising, low],
        [falling, value, low],
        [low, value, rising],
        [low, falling, value],
        [rising, low, value],
        [value, low, falling],
    ][sector]


def clamp(x: float) -> float:
    return min(max(x, 0.0), 1.0)


def slow_jitter(pixel: list[float], factors: list[float], order: list[int]) -> list[float]:
    """One pixel in [0, 1] through brightness, contrast, saturation and hue in the given order."""
    for operation in order:
        factor = factors[operation]
        if operation == 0:
            pixel = [clamp(part + factor - 1) for part in pixel]
        elif operation == 1:
            pixel = [clamp(part * factor) for part in pixel]
        elif operation == 2:
            hue, saturation, value = hsv(*pixel)
            pixel = rgb(hue, clamp(saturation * factor), value)
        else:
            hue, saturation, value = hsv(*pixel)
            pixel = rgb((hue + 6 * factor * FLOAT32_PI / math.pi) % 6, saturation, value)
    return pixel


def slow_blur(image: Array, sigma: float, size: tuple[int, int]) -> Array:
    """The dense two-dimensional kernel of a tenth of the side, odd, over an image that is mirrored at its border."""
    sides = [math.ceil(0.1 * side) for side in size]
    radii = [(side if side % 2 else side - 1) // 2 for side in sides]
    rows, columns = (np.arange(-radius, radius + 1) for radius in radii)
    kernel = np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(image, ((0, 0), (radii[0], radii[0]), (radii[1], radii[1])), mode="reflect")
    blurred = np.zeros_like(image)
    for i, j in itertools.product(range(len(rows)), range(len(columns))):
        blurred += kernel[i, j] * padded[:, i : i + size[0], j : j + size[1]]
    return blurred
