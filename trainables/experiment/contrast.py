"""Contrast within and between images as auxiliary tasks: the two terms of PiPa (Chen et al., ACM MM 2023).

Defaults are the method as its paper means it; what the released code does otherwise is a switch beside them, and
`as_released` sets all of these (docs/readings.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from mfm_tune.fields import AtLeast1, IntRange, NotNegative, Positive, Range, Settings, Size, UnitInterval

if TYPE_CHECKING:
    from trainables.tasks.task import AuxiliaryTask, TaskSetting


class IgnoredPixels(Enum):
    """What pixels without a class are to pixel contrast."""

    SKIP = "skip"
    CLASS = "class"  # one class more, with anchors of its own


class Split(Enum):
    """Whose prediction parts the anchors of a class into hard and easy ones."""

    SEGMENTOR = "segmentor"
    UNTRAINED = "untrained helper"  # a head of its own that no loss ever trains


class DetailLabel(Enum):
    """HRDA only: the labels of the features, which are those of the detail crop."""

    CROPPED = "cropped"
    WHOLE = "whole"  # those of the whole image, shrunk: another place than the features show


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelContrast(Settings):
    """Pull embeddings of source pixels of one class together, push those of other classes away.

    Args:
        weight: alpha, 0.1 as released.
        temperature: Divides cosine similarities.
        base_temperature: The loss is multiplied by temperature / base_temperature.
        samples: At most so many anchors in a batch.
        views: At most so many anchors of a class in an image; a class with no more cells than that has none.
        dim: Channels of the embedding.
        learning_rate_factor: The projection's learning rate over the encoder's.
        ignored: See the enum.
        split: See the enum.
        detail_label: See the enum.
    """

    weight: NotNegative = 0.1
    temperature: Positive = 0.1
    base_temperature: Positive = 0.07
    samples: AtLeast1 = 1024
    views: Annotated[int, IntRange(2)] = 100
    dim: AtLeast1 = 256
    learning_rate_factor: Positive = 10.0
    ignored: IgnoredPixels = IgnoredPixels.SKIP
    split: Split = Split.SEGMENTOR
    detail_label: DetailLabel = DetailLabel.CROPPED

    def as_released(self) -> PixelContrast:
        """The same with every habit of the released code."""
        return replace(self, ignored=IgnoredPixels.CLASS, split=Split.UNTRAINED, detail_label=DetailLabel.WHOLE)

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.pixel_contrast`)."""
        from trainables.tasks.pixel_contrast import PixelContrastTask

        return PixelContrastTask(self, setting.student)


class PatchNetwork(Enum):
    """Whose features patch contrast compares."""

    STUDENT = "student"
    TEACHER = "teacher"  # without a gradient: the loss trains its own projection and nothing else


class PatchFeatures(Enum):
    """Which map of that network."""

    DECODER = "decoder"  # what its classifier reads (HRDA: of the context), pooled to the stride of the pairs
    LOGITS = "logits"  # pooled to stride 2 and cut as if they had the pairs' stride: two places that do not match


class PatchLabels(Enum):
    """Whose classes and confidences choose negatives and directions."""

    NETWORK = "network"  # of the network that gives the features, without dropout
    TEACHER = "teacher"  # a pass more
    UNTRAINED = "untrained classifier"  # one that no loss ever trains


class PairImages(Enum):
    """Which target images pairs are cut from."""

    ALL = "all"
    FIXED = "fixed"  # one batch of them for the whole run


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchContrast(Settings):
    """Let two overlapping crops of a target image agree where they overlap, against a bank of other cells.

    Args:
        weight: beta: 0.1 as released on DAFormer, 0.01 on HRDA.
        temperature: Divides cosine similarities.
        confidence: A cell learns from the other crop only where that one is surer than this, and than itself.
        window: (rows, columns) of a crop, whole cells of the features that are compared: multiples of 8 or more.
        long_side: Least and greatest longer side that the whole image is resized to before it is cropped, in pixels.
        dim: Channels of the projection.
        bank_cells: Cells of each crop that enter the bank in a step (over the batch).
        bank_steps: Steps that stay in the bank, the current one included.
        start: Share of the run before the term begins.
        network, features, labels, images: See the enums.
    """

    weight: NotNegative = 0.1
    temperature: Positive = 0.1
    confidence: UnitInterval = 0.9
    window: Annotated[tuple[int, int], Size(8)] = (720, 720)
    long_side: Annotated[tuple[float, float], Range(open_low=True)] = (1638, 4096)
    dim: AtLeast1 = 128
    bank_cells: AtLeast1 = 1600
    bank_steps: AtLeast1 = 3
    start: UnitInterval = 1 / 6
    network: PatchNetwork = PatchNetwork.STUDENT
    features: PatchFeatures = PatchFeatures.DECODER
    labels: PatchLabels = PatchLabels.NETWORK
    images: PairImages = PairImages.ALL

    def as_released(self) -> PatchContrast:
        """The same with the habits of the released code on DAFormer; on HRDA its features are logits, too."""
        return replace(self, network=PatchNetwork.TEACHER, labels=PatchLabels.UNTRAINED, images=PairImages.FIXED)

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.patch_contrast`)."""
        from trainables.tasks.patch_contrast import PatchContrastTask

        return PatchContrastTask(self, setting.student)
