"""HRDA: LR context of the whole image at half its resolution, HR detail crop at full resolution (Hoyer et al. 2022).

Both go through one encoder and one head. A second head on the context features weighs the detail against the context,
class by class and position by position; outside the crop the context alone counts. In training the detail is one random
crop, shared by the batch; at inference it is a grid of windows over the whole image, averaged.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import HRDA
from trainables.geometry import Box, size_of
from trainables.losses import cross_entropy
from trainables.models.segmentor import Encoded, Head, Outputs, Pyramid, SegmentationLoss, Segmentor, laid_out, upsample
from trainables.models.sliding import average, windows
from trainables.randomness import Streams

CONTEXT_SCALE = 2  # the context is the image at half its resolution
BOX_STEP = 8  # detail crops start at multiples of this, in pixels


class HRDADecoder(nn.Module):
    """The head that context and detail share, and the attention head.

    Args:
        head: From the stages that it reads to logits.
        attention: From the same stages of the context to attention logits, one for each class.
    """

    def __init__(self, head: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.attention = attention

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile both heads; what depends on the box stays outside, so that a new box compiles nothing anew."""
        self.head.compile(*args, **kwargs)
        self.attention.compile(*args, **kwargs)


class HRDASegmentor(Segmentor):
    """Context and detail around a base network; `channels` are the base's, `strides` those of the context pyramid.

    `encode` returns (context pyramid, detail pyramid), of the same shapes where the detail crop is half the image.

    Args:
        config: Base network, detail crop and weights; 85,685,990 parameters by default (DAFormer MiT-B5, 19 classes).
        num_classes: K.
    """

    encoder: nn.Module
    decoder: HRDADecoder

    def __init__(self, config: HRDA, num_classes: int) -> None:
        base = config.base.build(num_classes)
        attention = config.base.attention(base, num_classes, config.attention_dim)
        strides = tuple(CONTEXT_SCALE * stride for stride in base.strides)
        super().__init__(num_classes, base.channels, strides, base.decoded_stages)
        self.detail_crop = config.detail_crop
        self.detail_weight = config.detail_weight
        self.logit_stride = base.strides[base.decoded_stages[0]]
        self.encoder = base.encoder
        self.decoder = HRDADecoder(base.decoder, attention)
        step = math.lcm(BOX_STEP, self.logit_stride)
        if any(side % step for side in config.detail_crop):
            raise ValueError(f"HRDA.detail_crop must be two multiples of {step}, got {config.detail_crop!r}.")

    def draw_box(self, streams: Streams, purpose: str, step: int, size: tuple[int, int]) -> Box:
        """A detail crop at multiples of 8 pixels.

        The reference implementation never draws the last place where the room for the crop is a multiple of 8 (0 to 504
        in a room of 512). Rows are item 0 of the stream, columns item 1, both in units of 8 pixels.

        Raises:
            ValueError: The crop is larger than the image.
        """
        places = []
        for item in (0, 1):
            room = size[item] - self.detail_crop[item]
            if room < 0:
                raise ValueError(
                    f"HRDA.detail_crop must fit into the training images of {size[0]} x {size[1]} pixels, got "
                    f"{self.detail_crop!r}; train on larger crops or make the detail crop smaller."
                )
            high = max(1, (room + 1) // BOX_STEP)
            places.append(BOX_STEP * int(streams.integers(purpose, step, (), 0, high, item=item)))
        return Box(places[0], places[1], *self.detail_crop)

    def head(self) -> Head:
        return cast("Head", self.decoder.head)

    def context(self, image: Tensor) -> Tensor:
        """The image at half its resolution.

        Raises:
            ValueError: Rows or columns that the two resolutions cannot share.
        """
        rows, columns = image.shape[-2:]
        step = CONTEXT_SCALE * self.logit_stride
        if rows % step or columns % step:
            raise ValueError(
                f"HRDA takes images whose rows and columns are multiples of {step}, got {rows} x {columns}; "
                "resize or crop them."
            )
        return laid_out(upsample(image, (rows // CONTEXT_SCALE, columns // CONTEXT_SCALE)), image)

    def encode(self, image: Tensor, box: Box | None = None) -> Encoded:
        """Features of the image at half its resolution, and of its detail crop.

        Args:
            image: Normalised image, [B, 3, H, W].
            box: The HR detail crop.

        Raises:
            ValueError: No box, or rows and columns that the two resolutions cannot share.
        """
        if box is None:
            raise ValueError("HRDA encodes a detail crop: give `box` (see `draw_box`), or use `predict`.")
        size = size_of(image)
        context: Pyramid = self.encoder(self.context(image))
        detail: Pyramid = self.encoder(laid_out(box.crop(image), image))
        return Encoded((context, detail), size, box)

    def decode(self, encoded: Encoded) -> Outputs:
        """Fused logits [B, K, H/s, W/s], s the base's logit stride, and the detail's own logits."""
        context, detail = encoded.pyramids
        context_logits = self._logits(self.decoder.head, context)
        detail_logits = self._logits(self.decoder.head, detail)
        seen = context if encoded.attention is None else encoded.attention
        attention = torch.sigmoid(self._logits(self.decoder.attention, seen))
        fused = self._fuse(context_logits, attention, detail_logits, encoded.box)
        return Outputs(fused, detail_logits, encoded.box)

    def loss(self, outputs: Outputs, label: Tensor, weight: Tensor | None = None) -> SegmentationLoss:
        """(1 - detail_weight) times the fused logits' cross-entropy, and detail_weight times the detail crop's own.

        Args:
            outputs: Of `decode`.
            label: trainIds [B, H, W], int64, 255 ignored.
            weight: Weight of each pixel [B, H, W], or None for 1.
        """
        main = super().loss(outputs, label, weight).main * (1 - self.detail_weight)
        if outputs.detail is None or outputs.box is None or self.detail_weight == 0:
            return SegmentationLoss(main)
        detail_label = outputs.box.crop(label)
        detail_weight = None if weight is None else outputs.box.crop(weight)
        logits = upsample(outputs.detail, (outputs.box.height, outputs.box.width))
        return SegmentationLoss(main, cross_entropy(logits, detail_label, detail_weight) * self.detail_weight)

    def predict(self, image: Tensor) -> Tensor:
        """Logits [B, K, H, W]: the context, and detail windows of half overlap over the whole image, averaged.

        All windows are one batch, as in the reference implementation: with BatchNorm in train mode (a teacher's) its
        statistics are those of all windows together. An image of sides that the two resolutions cannot share is
        continued at its border by a few pixels, which are cut off again.
        """
        given, image = image, self._continued(image)
        size = size_of(image)
        context: Pyramid = self.encoder(self.context(image))
        rows, columns = self.detail_crop
        boxes = windows(size, self.detail_crop, (rows // 2, columns // 2))
        detail: Pyramid = self.encoder(torch.cat([box.crop(image) for box in boxes]))
        context_logits = self._logits(self.decoder.head, context)
        parts = self._logits(self.decoder.head, detail).chunk(len(boxes))
        grid = (size[0] // self.logit_stride, size[1] // self.logit_stride)
        detail_logits = average(tuple(_scaled(box, self.logit_stride) for box in boxes), list(parts), grid)
        attention = torch.sigmoid(self._logits(self.decoder.attention, context))
        logits = upsample(self._fuse(context_logits, attention, detail_logits, None), size)
        return logits if image is given else Box(0, 0, *size_of(given)).crop(logits)

    def _continued(self, image: Tensor) -> Tensor:
        """The image with its last rows and columns repeated up to sides that `context` takes; itself if it has such."""
        rows, columns = (-side % (CONTEXT_SCALE * self.logit_stride) for side in size_of(image))
        if not rows and not columns:
            return image
        return laid_out(F.pad(image, (0, columns, 0, rows), mode="replicate"), image)

    def _logits(self, head: nn.Module, pyramid: Pyramid) -> Tensor:
        logits: Tensor = head(*(pyramid[stage] for stage in self.decoded_stages))
        return logits

    def _fuse(self, context: Tensor, attention: Tensor, detail: Tensor, box: Box | None) -> Tensor:
        """Attention-weighted sum at twice the context's resolution; a box of None is the whole image.

        A box's edges are divided by the stride and truncated, so that at stride 8 and an odd multiple of 8 pixels the
        attention lies half a context cell off the detail, as in the reference implementation.
        """
        if box is not None:
            coarse = _scaled(box, CONTEXT_SCALE * self.logit_stride)
            attention = _inserted(coarse.crop(attention), coarse, attention)
        size = (CONTEXT_SCALE * context.shape[-2], CONTEXT_SCALE * context.shape[-1])
        rest = upsample((1 - attention) * context, size)
        if box is not None:
            detail = _inserted(detail, _scaled(box, self.logit_stride), rest)
        return upsample(attention, size) * detail + rest


def _scaled(box: Box, stride: int) -> Box:
    """The box on a grid of that stride; edges are truncated."""
    top, left = box.top // stride, box.left // stride
    bottom, right = (box.top + box.height) // stride, (box.left + box.width) // stride
    return Box(top, left, bottom - top, right - left)


def _inserted(part: Tensor, box: Box, like: Tensor) -> Tensor:
    """Zeros like `like`, with the part put in at the box."""
    whole = torch.zeros_like(like)
    box.crop(whole).copy_(part)
    return whole
