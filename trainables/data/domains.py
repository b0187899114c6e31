"""What training needs of a pair of domains: batches of source and target, and labelled validation images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainables.config import Experiment, Margins, RareClassSampling, SelfTraining, SourceHoldout
from trainables.experiment.data import Means
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.randomness import Streams
from trainables.step_data import Batch


@dataclass(frozen=True, slots=True)
class Opening:
    """What a pair of domains is opened with.

    Args:
        data: Name in `--data` -> path of a store or folder.
        device: Where batches end up.
        sampling: Rare-class sampling of the source; None draws images uniformly.
        margins: Where pseudo-labels of the target do not count; domains use those of the whole image.
        holdout: Of the source; None trains on all of it.
        mean, std: Normalisation that the network takes (pixel values, RGB). ToyCity has its own.
    """

    data: Mapping[str, str]
    device: torch.device
    sampling: RareClassSampling | None = None
    margins: Margins | None = None
    holdout: SourceHoldout | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class GivenPaths(dict[str, str]):
    """The paths of `--data` by name; one that was not given is one sentence."""

    def __missing__(self, name: str) -> str:
        raise ValueError(f"The pair needs the data set '{name}', which has no path; add --data {name}=PATH.")


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
    means: Means  # over some of the evaluated classes
    mean: tuple[float, float, float]  # pixel values, RGB
    std: tuple[float, float, float]

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source images for a training step."""

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source images for a step of source pre-training.

        They have a stream of their own and are drawn without rare-class sampling: all configs share it.
        """

    def source_of_class(
        self, streams: Streams, purpose: str, step: int, class_id: int, count: int, more_than: int = 0
    ) -> Batch:
        """Labelled source images that show a class, never held-out ones.

        Args:
            purpose: Key of the stream that they are drawn from.
            class_id: Index in `classes`.
            count: How many; a batch of 0 images comes back where no source image shows the class.
            more_than: Images with more pixels of the class than this. Crops of one are drawn again until one shows so
                many, and then those of another image; fewer than `count` come back where no image is left.

        Raises:
            ValueError: There is no class of this id.
        """

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target images for a training step (`label` is None)."""

    def target_images(self, streams: Streams, purpose: str, step: int, count: int) -> tuple[Tensor, ...]:
        """Whole training images of the target, drawn uniformly from the stream of a purpose.

        Returns:
            As many images [1, 3, H, W], normalised, at the size that crops are cut from; sizes may differ.
        """

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target images with their labels, for the oracle only.

        Raises:
            ValueError: The target has no training labels.
        """

    def labelled_sample(self, streams: Streams, count: int) -> Batch | None:
        """Target images of step 0 with their labels, asked for once; None where its training images have no labels."""

    def validation(self) -> Iterator[Example]:
        """Labelled target validation images, always in the same order."""

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows, always in the same order; none without a holdout."""

    def merge(self, scores: Tensor) -> Tensor:
        """Predicted class of each pixel in the evaluated classes: [B, K, H, W] logits or probabilities -> [B, H, W]."""


def open_domains(config: Experiment, data: Mapping[str, str], device: torch.device) -> Domains:
    """The source and target of a trial.

    Args:
        config: Which pair; rare-class sampling, ignore borders of pseudo-labels and the holdout shape batches, too.
        data: Name in `--data` -> path.
        device: Where batches end up.

    Raises:
        ValueError: A data set has no path, or its folder or store cannot be used.
    """
    return config.data.open(
        Opening(
            GivenPaths(data),
            device,
            config.rare_class_sampling,
            config.adaptation.margins if isinstance(config.adaptation, SelfTraining) else None,
            config.source_holdout,
            config.network.mean,
            config.network.std,
        )
    )


def check_class(class_id: int, classes: tuple[str, ...]) -> None:
    """See that there is a class of this id.

    Raises:
        ValueError: There is none.
    """
    if not 0 <= class_id < len(classes):
        raise ValueError(f"source_of_class needs a class_id from 0 to {len(classes) - 1}, got {class_id}.")


def item_of_class(class_id: int, item: int = 0) -> int:
    """Where in a stream the draws of an image of a class are: classes of one step are drawn independently."""
    return (class_id << 32) + item
