"""What training needs of a pair of domains: batches of source and target, and labelled validation images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from trainables.randomness import Streams
from trainables.step_data import Batch


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image to evaluate.

    Args:
        image: Normalised, [1, 3, H, W], at the size that the network sees.
        label: trainIds [h, w], int64, at the label's own size.
    """

    image: Tensor
    label: Tensor


class Domains(Protocol):
    """A source and a target domain, for one trial.

    A batch is a function of (seed, step): the same streams and step give the same batch.
    """

    classes: tuple[str, ...]  # names of the network's output classes
    scored: tuple[str, ...]  # names of the evaluated classes (merged ones, on CamVid)
    means: Mapping[str, tuple[int, ...]]  # metric (`miou16`) -> indices of the evaluated classes in its mean
    mean: tuple[float, float, float]  # pixel values, RGB
    std: tuple[float, float, float]

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source images for a training step."""

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source images for a step of source pre-training.

        They have a stream of their own and are drawn without rare-class sampling: all configs share it.
        """

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target images for a training step (`label` is None)."""

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target images with their labels, for the oracle only.

        Raises:
            ValueError: The target has no training labels.
        """

    def validation(self) -> Iterator[Example]:
        """Labelled target validation images, always in the same order."""

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows, always in the same order; none without a holdout."""

    def merge(self, scores: Tensor) -> Tensor:
        """Predicted class of each pixel in the evaluated classes: [B, K, H, W] logits or probabilities -> [B, H, W]."""
