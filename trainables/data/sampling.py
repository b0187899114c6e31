"""Which image is drawn: uniformly, or by rare class (DAFormer), from the pixel counts that the store keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainables.config import RareClassSampling

Counts = npt.NDArray[np.int32] | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A class that a crop must show.

    Args:
        train_id: The class.
        more_than: The crop must hold more pixels of it than this.
    """

    train_id: int
    more_than: float


@dataclass(frozen=True, slots=True)
class Draw:
    """A drawn image, and what its crop must show (None: nothing in particular)."""

    index: int
    wanted: Wanted | None = None


class Sampler(Protocol):
    """Draws images."""

    def draw(self, generator: np.random.Generator) -> Draw:
        """One image."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every image with the same chance, with replacement.

    The reference permutes all pairs of source and target images, 74 million for GTA and Cityscapes: over a training of
    80,000 draws that is the same thing.
    """

    images: int

    def draw(self, generator: np.random.Generator) -> Draw:
        return Draw(int(generator.integers(self.images)))


@dataclass(frozen=True, slots=True)
class Among:
    """One of some images, each with the same chance."""

    indices: npt.NDArray[np.int64]

    def draw(self, generator: np.random.Generator) -> Draw:
        return Draw(int(self.indices[generator.integers(len(self.indices))]))


@dataclass(frozen=True, slots=True)
class EqualParts:
    """A part with equal chance, then one of its images: a small part is seen as often as a large one."""

    parts: tuple[npt.NDArray[np.int64], ...]

    def draw(self, generator: np.random.Generator) -> Draw:
        part = self.parts[int(generator.integers(len(self.parts)))]
        return Draw(int(part[generator.integers(len(part))]))


class RareClasses:
    """A class by P(c) = softmax((1 - f_c) / T), then an image that shows enough of it, uniformly (Hoyer et al. 2022).

    f_c is the share of the class in the labelled pixels of the source, over the classes that occur. A class that no
    image shows with more than `min_pixels` pixels is left out (the reference implementation stops there).

    Args:
        pixels: Pixels of each trainId by image, 255 in the last place: [N, K + 1].
        settings: T, and the pixel counts that image and crop must exceed.

    Raises:
        ValueError: No image shows any class with more than `min_pixels` pixels.
    """

    def __init__(self, pixels: Counts, settings: RareClassSampling) -> None:
        by_class = pixels[:, :-1].astype(np.int64)
        totals = by_class.sum(axis=0)
        self.images = {
            train_id: np.flatnonzero(pixels > settings.min_pixels) for train_id, pixels in enumerate(by_class.T)
        }
        self.classes = np.array([train_id for train_id in self.images if len(self.images[train_id])])
        if not len(self.classes):
            raise ValueError(
                f"RareClassSampling.min_pixels must be below the pixels of a class in some source image, got "
                f"{settings.min_pixels}, but the largest count is {int(by_class.max(initial=0))}."
            )
        self.frequency = totals / max(int(totals.sum()), 1)
        self.probabilities = _softmax((1 - self.frequency[self.classes]) / settings.temperature)
        self._settings = settings

    def draw(self, generator: np.random.Generator) -> Draw:
        train_id = int(generator.choice(self.classes, p=self.probabilities))
        index = int(generator.choice(self.images[train_id]))
        ratio = self._settings.min_crop_ratio
        return Draw(index, Wanted(train_id, self._settings.min_pixels * ratio) if ratio else None)


def _softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(values - values.max())
    probabilities: npt.NDArray[np.float64] = powers / powers.sum()
    return probabilities
