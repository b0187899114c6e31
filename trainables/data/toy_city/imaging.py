"""Textures and the camera of ToyCity: colours of a painted scene, and the imaging chain.

Sums, products, quotients and roots of floats are the same on every CPU; exponentials, sines and Fourier transforms
differ in their last bits. What comes of the latter is rounded to a grid (`settled`), so a scene has the same pixels on
every kind of x86-64 CPU.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trainables.data.toy_city.canvas import MATERIALS, Bytes, Canvas, Floats, Generator, uniform
from trainables.data.toy_city.styles import Material, Range, Style, Texture

TILE = 256  # rows and columns of a texture tile; it repeats
TILE_SEED = 20_250  # the patterns are the same for every scene
GRID = 4096  # steps a unit that results of transcendental functions are rounded to


def settled(values: NDArray[np.float64]) -> Floats:
    """Values rounded to 1/4096: float64's last bits, in which CPUs differ, are gone."""
    return np.asarray(np.rint(values * GRID) / GRID, np.float32)


@cache
def patterns() -> dict[str, Floats]:
    """The patterns by name, each [TILE, TILE], periodic, of mean 0 and deviation 1; `smooth` is for illumination."""
    random = np.random.Generator(np.random.SFC64(np.random.SeedSequence(TILE_SEED)))
    y, x = np.mgrid[:TILE, :TILE]
    raw = {
        "white": random.standard_normal((TILE, TILE)),
        "fine": _smooth(random, 0.8),
        "medium": _smooth(random, 1.8),
        "coarse": _smooth(random, 5.0),
        "windows": -1.0 * ((y % 8 >= 2) & (y % 8 < 6) & (x % 8 >= 2) & (x % 8 < 6)),
        "slats": 1.0 * (x % 4 < 2),
        "stripes": 1.0 * (y % 4 < 2),
        "paving": 1.0 * ((y // 4 + x // 4) % 2),
        "smooth": _smooth(random, 24.0),
    }
    return {name: settled((field - field.mean()) / field.std()) for name, field in raw.items()}


def _smooth(random: Generator, sigma: float) -> NDArray[np.float64]:
    """White noise under a periodic Gaussian blur."""
    frequency = np.fft.fftfreq(TILE)
    falloff = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    spectrum = np.fft.fft2(random.standard_normal((TILE, TILE))) * falloff[:, None] * falloff
    return np.asarray(np.fft.ifft2(spectrum).real)


@cache
def tiles(style: Style) -> Floats:
    """The texture of each material, [materials, TILE, TILE]."""
    names = [item.name for item in fields(Texture)]
    total = np.zeros((len(MATERIALS), TILE, TILE), np.float32)
    for material, index in MATERIALS.items():
        texture = getattr(style.materials, material).texture
        for name in names:
            total[index] += np.float32(getattr(texture, name)) * patterns()[name]
    return total


@cache
def paints(style: Style) -> Floats:
    """Red, green, blue, brightness and tint of each material, [5, materials]."""
    settings: list[Material] = [getattr(style.materials, material) for material in MATERIALS]
    return np.asarray([(*item.colour, item.brightness, item.tint) for item in settings], np.float32).T.copy()


def window(random: Generator, size: tuple[int, int]) -> NDArray[np.int64]:
    """Places [H, W] of a random window in a flattened tile."""
    top, left = random.integers(0, TILE, 2).tolist()
    rows, columns = (top + np.arange(size[0])) % TILE, (left + np.arange(size[1])) % TILE
    places: NDArray[np.int64] = rows[:, None] * TILE + columns
    return places


def photograph(canvas: Canvas) -> Bytes:
    """Colour every pixel by its instance and put the image through the imaging chain: [3, H, W] uint8."""
    random, imaging = canvas.random, canvas.style.imaging
    materials = np.asarray(canvas.materials)
    image = colours(canvas, materials).take(canvas.instances, axis=1)
    image += tiles(canvas.style).take(window(random, canvas.size) + (TILE * TILE * materials).take(canvas.instances))
    grey = (image[0] + image[1] + image[2]) / np.float32(3)
    image -= grey
    image *= np.float32(imaging.saturation)
    image += grey
    haze = plane_values(imaging.haze)
    image -= haze
    image *= settled(np.exp(-imaging.fog * canvas.metres(canvas.scales).astype(np.float64)))
    image += haze
    image *= exposure(random, imaging.illumination, imaging.gain, canvas.size)
    image += plane_values(imaging.cast)
    image = blur(image, np.float32(imaging.blur))
    image += np.float32(imaging.noise) * random.standard_normal(image.shape, np.float32)
    return response(uniform(random, imaging.gamma)).take(np.rint(image).clip(0, 255).astype(np.uint8))


def colours(canvas: Canvas, materials: NDArray[np.int64]) -> Floats:
    """Colours of all instances, [3, instances]."""
    settings = paints(canvas.style)[:, materials]
    draws = canvas.random.standard_normal((4, len(materials)), np.float32)
    drawn = settings[:3] + settings[3] * draws[0] + settings[4] * draws[1:]
    return np.asarray(np.asarray(canvas.shades, np.float32) * drawn).clip(4, 251)


def plane_values(colour: tuple[float, float, float]) -> Floats:
    """A colour to be added to planes, [3, 1, 1]."""
    return np.asarray(colour, np.float32)[:, None, None]


def exposure(random: Generator, illumination: float, gain: Range, size: tuple[int, int]) -> Floats:
    """A smooth factor over the image, [H, W]."""
    factor = 1 + np.float32(illumination) * patterns()["smooth"].take(window(random, size))
    return np.asarray(factor * np.float32(uniform(random, gain)))


def blur(image: Floats, weight: np.float32) -> Floats:
    """A three-tap blur of rows and columns; the border repeats."""
    for axis in (1, 2):
        padded = np.concatenate([image.take([0], axis), image, image.take([-1], axis)], axis)
        neighbours = padded[:, :-2] + padded[:, 2:] if axis == 1 else padded[:, :, :-2] + padded[:, :, 2:]
        image = image * (1 - 2 * weight) + neighbours * weight
    return image


def response(gamma: float) -> Bytes:
    """The camera's response: pixel value -> pixel value, [256]."""
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
