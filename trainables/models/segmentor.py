"""The interface of every segmentation network: encode, decode, loss, predict.

B batch, K classes, C_i channels of stage i, H and W rows and columns of the image.

`encode` returns the pyramid of every network, so that an auxiliary task can put edited features back into `decode`.
HRDA's crop box is an argument of `encode` and travels in the encoded value; no module remembers its last call.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self, cast

import torch
from torch import Tensor, nn

from trainables.geometry import Box
from trainables.losses import cross_entropy
from trainables.models.frozen_norms import freeze_norms, hold_norms
from trainables.randomness import Streams

Pyramid = tuple[Tensor, ...]  # stages from fine to coarse, each [B, C_i, H_i, W_i]


class Encoder(nn.Module):
    """From an image to its pyramid.

    Attributes:
        channels: C_i of the stages, fine to coarse.
        strides: Stride s_i of each stage relative to the image.
        frozen: Whether BatchNorm is fixed (see `freeze`).
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    frozen: bool = False

    def freeze(self) -> None:
        """Fix BatchNorm: affine parameters do not learn, statistics do not move, whatever mode is switched to.

        So it is in a copy, too: the teacher's.
        """
        self.frozen = True
        freeze_norms(self)

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of everything but fixed BatchNorm, which stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            hold_norms(self)
        return self

    @abstractmethod
    def forward(self, image: Tensor) -> Pyramid:
        """[B, 3, H, W] -> [B, C_i, ceil(H / s_i), ceil(W / s_i)], a tensor for each stage."""


class Head(nn.Module):
    """From the stages that it reads to logits.

    Attributes:
        decoded_stages: Indices of these stages in the pyramid; the first one has the resolution of the logits.
        fused_channels: Of what `fuse` gives; None where the head does not come in two parts.
    """

    decoded_stages: tuple[int, ...]
    fused_channels: int | None = None

    @abstractmethod
    def forward(self, *stages: Tensor) -> Tensor:
        """[B, C_i, h_i, w_i] of the decoded stages -> [B, K, h, w]."""

    def fuse(self, *stages: Tensor) -> Tensor:
        """The map that the classifier reads, [B, fused_channels, h, w], before dropout."""
        raise NotImplementedError(f"{type(self).__name__} has no method fuse.")

    def classify(self, fused: Tensor) -> Tensor:
        """Logits [B, K, h, w] of that map, without dropout."""
        raise NotImplementedError(f"{type(self).__name__} has no method classify.")


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a network's encoder saw of an image.

    Args:
        pyramids: One pyramid; (LR context, HR detail) for HRDA.
        size: (rows, columns) of the encoded image.
        box: HRDA's HR detail crop in the image; None for other networks.
        attention: HRDA only: the context pyramid that the attention head sees, where it is not `pyramids[0]`.
    """

    pyramids: tuple[Pyramid, ...]
    size: tuple[int, int]
    box: Box | None = None
    attention: Pyramid | None = None

    def with_pyramids(self, pyramids: tuple[Pyramid, ...], attention: Pyramid | None = None) -> Encoded:
        """The same view with other features."""
        return replace(self, pyramids=pyramids, attention=attention)

    def detach(self) -> Encoded:
        """The same features without their graph."""
        return self.with_pyramids(tuple(tuple(stage.detach() for stage in pyramid) for pyramid in self.pyramids))


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a network's decoder gives.

    Args:
        logits: [B, K, h, w] at the decoder's resolution (fused, for HRDA).
        detail: HRDA's logits of the HR detail crop [B, K, h', w'], else None.
        box: The HR detail crop.
    """

    logits: Tensor
    detail: Tensor | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class SegmentationLoss:
    """The loss of one pass: `main` (HRDA: 0.9 of the fused term) and HRDA's `detail` (0.1), scalars."""

    main: Tensor
    detail: Tensor | None = None

    def total(self) -> Tensor:
        """The sum of the parts."""
        return self.main if self.detail is None else self.main + self.detail

    def times(self, share: float) -> SegmentationLoss:
        """Each part multiplied."""
        return SegmentationLoss(share * self.main, None if self.detail is None else share * self.detail)


class Segmentor(nn.Module):
    """A segmentation network.

    A subclass sets `encoder` and `decoder` (every parameter belongs to one of them; the decoder learns with
    `head_factor` times the learning rate) and implements `encode` and `decode`.

    Args:
        num_classes: K.
        channels: C_i of the stages, fine to coarse.
        strides: Stride of each stage relative to the image.
        decoded_stages: Indices of the stages that the decoder reads; the Rebuilder rebuilds these.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(
        self, num_classes: int, channels: tuple[int, ...], strides: tuple[int, ...], decoded_stages: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.channels = channels
        self.strides = strides
        self.decoded_stages = decoded_stages

    def stage_size(self, stage: int, image_size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of a stage for a training image of this size (HRDA: of one of its two views)."""
        stride = self.strides[stage]
        return -(-image_size[0] // stride), -(-image_size[1] // stride)

    def head(self) -> Head:
        """What makes logits of the decoded stages (HRDA: of each of its two views)."""
        return cast("Head", self.decoder)

    def context(self, image: Tensor) -> Tensor:
        """The image as the encoder sees it for the first pyramid (HRDA: at half its resolution)."""
        return image

    @abstractmethod
    def encode(self, image: Tensor, box: Box | None = None) -> Encoded:
        """Features of an image.

        Args:
            image: Normalised image, [B, 3, H, W].
            box: HRDA's HR detail crop; other networks take None.
        """

    @abstractmethod
    def decode(self, encoded: Encoded) -> Outputs:
        """Logits from features, which may have been edited."""

    def forward(self, image: Tensor, box: Box | None = None) -> Outputs:
        """`decode(encode(image, box))`."""
        return self.decode(self.encode(image, box))

    def draw_box(self, streams: Streams, purpose: str, step: int, size: tuple[int, int]) -> Box | None:
        """HRDA's HR detail crop for one pass over images of this size; None for other networks."""
        return None

    def loss(self, outputs: Outputs, label: Tensor, weight: Tensor | None = None) -> SegmentationLoss:
        """Cross-entropy of upsampled logits, a mean over all pixels with ignored ones counting as 0.

        Args:
            outputs: Of `decode`.
            label: trainIds [B, H, W], int64, 255 ignored.
            weight: Weight of each pixel [B, H, W], or None for 1.
        """
        return SegmentationLoss(cross_entropy(upsample(outputs.logits, label.shape[-2:]), label, weight))

    def predict(self, image: Tensor) -> Tensor:
        """Logits [B, K, H, W] at image size, as at inference (HRDA: detail windows over the whole image)."""
        return upsample(self(image).logits, image.shape[-2:])


def typed(image: Tensor, network: nn.Module) -> Tensor:
    """An image in the dtype of a network's weights."""
    return image.to(next(network.parameters(), image).dtype)


def laid_out(part: Tensor, image: Tensor) -> Tensor:
    """What was made of an image, dense and in the image's memory format (NCHW where that is neither NCHW nor NHWC).

    An encoder that is compiled or recorded is so once for each memory format that it sees.

    Args:
        part: [B, C, h, w].
        image: [B, C, H, W].
    """
    last = image.is_contiguous(memory_format=torch.channels_last)
    return part.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def upsample(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear resize of [B, K, h, w] to (rows, columns), corners not aligned, as two products with fixed matrices.

    `F.interpolate` gives the same numbers to rounding; its gradient adds with atomics on CUDA, whose order, and with it
    the last bits, changes from run to run, and takes twice the time on a CPU. 16-bit values are resized in float32.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    with torch.autocast(logits.device.type, enabled=False):
        whole = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        rows = interpolation(logits.shape[-2], size[0], whole.dtype, whole.device)
        columns = interpolation(logits.shape[-1], size[1], whole.dtype, whole.device)
        return (rows @ (whole.contiguous() @ columns.T)).to(logits.dtype)


def interpolation(
    inputs: int, outputs: int, dtype: torch.dtype, device: torch.device, ratio: float | None = None
) -> Tensor:
    """The matrix [outputs, inputs] of linear interpolation at centres that are `ratio` inputs apart.

    Both grids begin at the same edge; without a ratio they end at the same one, too: inputs / outputs. Compiled code
    would look through the cache, so it makes the matrix in each pass, on the device: two small kernels.
    """
    make = _interpolation if torch.compiler.is_compiling() else _kept_interpolation
    return make(inputs, outputs, dtype, device, inputs / outputs if ratio is None else ratio)


def _interpolation(inputs: int, outputs: int, dtype: torch.dtype, device: torch.device, ratio: float) -> Tensor:
    centres = (torch.arange(outputs, dtype=torch.float64, device=device) + 0.5) * ratio - 0.5
    distance = centres.clamp(0, inputs - 1).unsqueeze(1) - torch.arange(inputs, dtype=torch.float64, device=device)
    return (1 - distance.abs()).clamp(min=0).to(dtype)


_kept_interpolation = lru_cache(maxsize=64)(_interpolation)
