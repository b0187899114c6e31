"""ToyCity: the embedded pair of domains. Pools of scenes are drawn once a process; a batch is indices and flips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config import Margins, RareClassSampling, SourceHoldout, ToyCity
from trainables.data.classes import TOY_CITY_CLASSES
from trainables.data.crops import Crop, valid_box
from trainables.data.domains import Example, check_class, item_of_class
from trainables.data.holdout import divide
from trainables.data.labels import pixels_by_class
from trainables.data.sampling import RareClasses
from trainables.data.toy_city.scenes import generator, render
from trainables.data.toy_city.styles import Style, source_style, target_style
from trainables.geometry import Box
from trainables.randomness import Streams
from trainables.step_data import Batch

MEAN = (115.0, 115.0, 110.0)  # pixel values, RGB: near the middle of all styles, the same for every config
STD = (55.0, 55.0, 55.0)
INDICES, FLIPS = 0, 1  # items of a stream that draws both
POOLS_KEPT = 12  # in a worker that goes from config to config; the default pools take 11 MB each


class Pool(IntEnum):
    """Which images: each pool has scenes of its own."""

    SOURCE = 0
    TARGET = 1
    VALIDATION = 2


@dataclass(frozen=True, slots=True)
class Images:
    """A pool on the training device: `image` [N, 3, H, W] and `label` [N, H, W], both uint8."""

    image: Tensor
    label: Tensor


@lru_cache(maxsize=POOLS_KEPT)
def draw_pool(style: Style, size: tuple[int, int], count: int, scene_seed: int, pool: Pool) -> Images:
    """Draw a pool, once a process; image i depends on the seed, the pool and i, and not on the count."""
    scenes = [render(style, size, generator(scene_seed, pool, index)) for index in range(count)]
    image = np.stack([image for image, _ in scenes])
    label = np.stack([label for _, label in scenes])
    return Images(torch.from_numpy(image), torch.from_numpy(label))


class ToyCityDomains:
    """The two domains of a `ToyCity` config (see `trainables.data.domains.Domains`).

    An image is its own crop: rare-class sampling chooses images and has no crops to draw again.

    Args:
        config: Which scenes.
        device: Where batches are made; the pools are kept there as bytes.
        sampling: Rare-class sampling of the source; None draws images uniformly.
        margins: Where pseudo-labels do not count; used here where they are measured on the whole image.
        holdout: Of the source.
    """

    classes: tuple[str, ...] = TOY_CITY_CLASSES
    scored: tuple[str, ...] = TOY_CITY_CLASSES
    mean = MEAN
    std = STD

    def __init__(
        self,
        config: ToyCity,
        device: torch.device,
        sampling: RareClassSampling | None = None,
        margins: Margins | None = None,
        holdout: SourceHoldout | None = None,
    ) -> None:
        source, target = source_style(config.source), target_style(config.shift)
        size, seed = config.image_size, config.scene_seed
        whole = draw_pool(source, size, config.source_images, seed, Pool.SOURCE)
        division = divide(config.source_images, holdout)
        self._source = _on(device, whole if holdout is None else _part(whole, division.training))
        self._held_out = _on(device, _part(whole, division.held_out))
        self._target = _on(device, draw_pool(target, size, config.target_images, seed, Pool.TARGET))
        self._validation = _on(device, draw_pool(target, size, config.validation_images, seed, Pool.VALIDATION))
        self.means = config.further_means({})
        self._rare = None if sampling is None else RareClasses(_pixels(self._source), sampling)
        self._by_class: npt.NDArray[np.int64] | None = None  # pixels, once they are asked for
        self._size, self._margins = size, margins
        self._mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(STD, device=device).view(1, 3, 1, 1)

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source images for a training step."""
        if self._rare is None:
            indices = streams.integers("source", step, (batch_size,), 0, len(self._source.image))
        else:
            draws = [self._rare.draw(streams.numpy("source", step, item)) for item in range(batch_size)]
            indices = torch.tensor([draw.index for draw in draws])
        flips = streams.integers("source crop", step, (batch_size,), 0, 2)
        return self._batch(self._source, indices, flips, labelled=True)

    def source_of_class(
        self, streams: Streams, purpose: str, step: int, class_id: int, count: int, more_than: int = 0
    ) -> Batch:
        """Labelled source images that show a class (see `Domains`)."""
        check_class(class_id, self.classes)
        if self._by_class is None:
            self._by_class = _pixels(self._source)
        showing = torch.from_numpy(np.flatnonzero(self._by_class[:, class_id] > more_than))
        shape = (count if len(showing) else 0,)
        drawn = streams.integers(purpose, step, shape, 0, max(1, len(showing)), item_of_class(class_id, INDICES))
        flips = streams.integers(purpose, step, shape, 0, 2, item_of_class(class_id, FLIPS))
        return self._batch(self._source, showing[drawn], flips, labelled=True)

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source images for a step of source pre-training (a stream of its own)."""
        indices = streams.integers("warm start", step, (batch_size,), 0, len(self._source.image), INDICES)
        flips = streams.integers("warm start", step, (batch_size,), 0, 2, FLIPS)
        return self._batch(self._source, indices, flips, labelled=True)

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target images for a training step (`label` is None)."""
        return self._target_batch(streams, step, batch_size, labelled=False)

    def target_images(self, streams: Streams, purpose: str, step: int, count: int) -> tuple[Tensor, ...]:
        """Whole target images (see `Domains`)."""
        indices = streams.integers(purpose, step, (count,), 0, len(self._target.image))
        images = self._batch(self._target, indices, torch.zeros(count), labelled=False).image
        return tuple(image.unsqueeze(0) for image in images)

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target images with their labels, for the oracle only."""
        return self._target_batch(streams, step, batch_size, labelled=True)

    def labelled_sample(self, streams: Streams, count: int) -> Batch:
        """Target images of step 0 with their labels."""
        return self._target_batch(streams, 0, count, labelled=True)

    def validation(self) -> Iterator[Example]:
        """Labelled target validation images, always in the same order."""
        return self._examples(self._validation)

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows."""
        return self._examples(self._held_out)

    def merge(self, scores: Tensor) -> Tensor:
        """Predicted class of each pixel: [B, K, H, W] logits or probabilities -> [B, H, W]."""
        return scores.max(dim=1).indices  # an eighth of the time of argmax on a CPU

    def _examples(self, pool: Images) -> Iterator[Example]:
        for image, label in zip(pool.image, pool.label, strict=True):
            yield Example(self._normalised(image.unsqueeze(0)), label.long())

    def _target_batch(self, streams: Streams, step: int, batch_size: int, *, labelled: bool) -> Batch:
        indices = streams.integers("target", step, (batch_size,), 0, len(self._target.image))
        flips = streams.integers("target crop", step, (batch_size,), 0, 2)
        batch = self._batch(self._target, indices, flips, labelled=labelled)
        return Batch(batch.image, batch.label, self._valid(flips))

    def _valid(self, flips: Tensor) -> tuple[Box, ...] | None:
        if self._margins is None or self._margins.of_size is None:
            return None
        margins, of_size, whole = self._margins, self._margins.of_size, Box(0, 0, *self._size)
        return tuple(valid_box(margins, of_size, self._size, Crop(whole, bool(flip))) for flip in flips)

    def _batch(self, pool: Images, indices: Tensor, flips: Tensor, *, labelled: bool) -> Batch:
        device = pool.image.device
        chosen = indices.to(device, non_blocking=True)
        flipped = flips.bool().to(device, non_blocking=True).view(-1, 1, 1)
        image = pool.image[chosen]
        image = self._normalised(torch.where(flipped.unsqueeze(1), image.flip(-1), image))
        if not labelled:
            return Batch(image)
        label = pool.label[chosen]
        return Batch(image, torch.where(flipped, label.flip(-1), label).long())

    def _normalised(self, image: Tensor) -> Tensor:
        return image.float().sub_(self._mean).div_(self._std)


def _pixels(pool: Images) -> npt.NDArray[np.int64]:
    """Pixels of each class by image, [N, K + 1] as a store keeps them."""
    return np.stack([pixels_by_class(label) for label in pool.label.cpu().numpy()])


def _part(pool: Images, indices: npt.NDArray[np.int64]) -> Images:
    chosen = torch.from_numpy(indices)
    return Images(pool.image[chosen], pool.label[chosen])


def _on(device: torch.device, pool: Images) -> Images:
    return Images(pool.image.to(device), pool.label.to(device))
