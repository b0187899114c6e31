"""What one training step passes on: batches, pseudo-labels, mixed images, and the view that auxiliary tasks have.

`Pass` draws what a network draws in one pass.

B batch, H and W rows and columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from trainables.geometry import size_of

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.geometry import Box
    from trainables.models.segmentor import Encoded, Outputs, Segmentor
    from trainables.randomness import Streams


@dataclass(frozen=True, slots=True)
class Batch:
    """Images as the network sees them, on the training device.

    Args:
        image: Normalised, [B, 3, H, W], float32.
        label: trainIds [B, H, W], int64, 255 ignored; None where the step must not see labels.
        valid: For each image the rectangle of the crop in which pseudo-labels count (margins of the whole image), or
            1 in these pixels and 0 elsewhere, [B, H, W], where only the device knows it; None where all of it does.
    """

    image: Tensor
    label: Tensor | None = None
    valid: tuple[Box, ...] | Tensor | None = None

    @property
    def ground_truth(self) -> Tensor:
        """The label, which a source batch always has.

        Raises:
            ValueError: The step must not see it.
        """
        if self.label is None:
            raise ValueError("Batch.label must be given for its ground truth, got None; take a batch of the source.")
        return self.label


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """The teacher's answer for the target batch.

    Args:
        label: argmax [B, H, W], int64.
        weight: DACS's q and margins [B, H, W], float32.
        confidence: Largest probability [B, H, W].
        share: q, the share of the whole batch's pixels that reach the threshold; a scalar on the device.
    """

    label: Tensor
    weight: Tensor
    confidence: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class Mixed:
    """Mixed images, source classes pasted onto target images for example.

    Args:
        image: [B, 3, H, W], normalised; after colour augmentation where the step passes it on.
        label: [B, H, W], int64.
        weight: [B, H, W], float32: 1 on pasted pixels, the pseudo-label's weight elsewhere.
        pasted: 1 where the source was pasted, [B, 1, H, W], bool.
        share: Multiplies their cross-entropy in L_uda.
        augmented: Whether the mixer has augmented the colours itself, so that the step does not.
        confidence: Probability of the labels [B, H, W], 1 on pasted pixels; None where it is that of this step's
            pseudo-labels elsewhere.
    """

    image: Tensor
    label: Tensor
    weight: Tensor
    pasted: Tensor
    share: float = 1.0
    augmented: bool = False
    confidence: Tensor | None = None


class SourceOfClass(Protocol):
    """Draws labelled source images that show a class, as a function of (seed, purpose, step)."""

    def __call__(self, purpose: str, class_id: int, count: int, more_than: int = 0) -> Batch:
        """As many images that show more pixels of a class than this; fewer or none where the source has no more."""


class TargetImages(Protocol):
    """Draws whole training images of the target, as a function of (seed, purpose, step)."""

    def __call__(self, purpose: str, step: int, count: int) -> tuple[Tensor, ...]:
        """As many images [1, 3, H, W], normalised, at the size that crops are cut from; sizes may differ."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a network over images: its dropout and HRDA's HR detail crop, functions of (seed, name, step).

    Args:
        name: `source`, `mixed`, `auxiliary target`, ...; passes of one name in a step see the same detail crop.
        step: The training step.
        streams: Every draw.
    """

    name: str
    step: int
    streams: Streams

    def begin(self, network: Segmentor, image: Tensor) -> Box | None:
        """Seed the dropout of a pass over images [B, 3, H, W], and draw the detail crop; None for other networks."""
        self.seed_dropout()
        return self.box(network, image)

    def seed_dropout(self, item: int = 0) -> None:
        """Seed torch's global generator for dropout and drop path; `item` tells apart what shares the pass's name.

        As `torch.manual_seed`, which without CUDA keeps a stack trace of every call.
        """
        seed = self.streams.torch_seed(f"dropout, {self.name} pass", self.step, item)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)

    def box(self, network: Segmentor, image: Tensor) -> Box | None:
        """HRDA's HR detail crop of images [B, 3, H, W]; None for other networks."""
        return network.draw_box(self.streams, f"detail crop, {self.name} pass", self.step, size_of(image))


@dataclass(frozen=True, slots=True)
class StepView:
    """What an auxiliary task sees of one training step.

    `source_encoded` with `source_outputs`, and `mixed_encoded` are there, with their graphs, only for tasks that share
    the pass (`AuxiliaryTask.shares`). `seen_source` is the source as the student sees it, which is `source` unless
    `SelfTraining.augment_source` is set. `mixed` are the mixer's batches, one or more.
    """

    step: int
    total_steps: int
    streams: Streams
    student: Segmentor
    teacher: Segmentor
    source: Batch
    seen_source: Batch
    target: Batch
    pseudo: PseudoLabel
    mixed: tuple[Mixed, ...]
    source_of_class: SourceOfClass
    target_images: TargetImages
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source_encoded: Encoded | None = None
    source_outputs: Outputs | None = None
    mixed_encoded: Encoded | None = None

    @property
    def shared(self) -> Encoded:
        """What the encoder saw in the pass that the task shares, with its graph.

        Raises:
            ValueError: The task shares none.
        """
        encoded = self.source_encoded if self.mixed_encoded is None else self.mixed_encoded
        if encoded is None:
            raise ValueError("AuxiliaryTask.shares must be Shares.SOURCE or Shares.MIXED for `view.shared`; set it.")
        return encoded

    def box(self, image: Tensor, name: str = "auxiliary target") -> Box | None:
        """HRDA's HR detail crop for a pass of this name over an image [B, 3, H, W]; None for other networks."""
        return Pass(name, self.step, self.streams).box(self.student, image)


def first_step(share: float, total_steps: int) -> int:
    """The first step, from 0, of what begins after a share of the run; the product's last bits do not count."""
    return math.ceil(round(share * total_steps, 6))
