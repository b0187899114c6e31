"""Pseudo-labels: the teacher's classes of the target, and their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.config import Margins
from trainables.geometry import Box
from trainables.models.segmentor import Segmentor
from trainables.step_data import Batch, PseudoLabel


@torch.no_grad()
def pseudo_label(teacher: Segmentor, target: Batch, threshold: float, margins: Margins | None) -> PseudoLabel:
    """Label the target batch at full resolution; every pixel keeps its label.

    The weight of a pixel is q, the share of the whole batch's pixels whose largest probability reaches the threshold,
    and 0 in the margins (reference implementation; `target.valid` is the crop-aware form).
    """
    return label_logits(teacher.predict(target.image), threshold, margins, target.valid)


def label_logits(
    logits: Tensor, threshold: float, margins: Margins | None = None, valid: tuple[Box, ...] | Tensor | None = None
) -> PseudoLabel:
    """Pseudo-labels of logits [B, K, H, W]."""
    largest, label = logits.max(dim=1)
    powers = (logits - largest.unsqueeze(1)).exp_()
    precise = torch.promote_types(logits.dtype, torch.float32)  # bf16 has no number between 0.965 and 0.969
    confidence = powers.sum(dim=1, dtype=precise).reciprocal()  # the softmax of the largest
    share = (confidence >= threshold).double().mean()
    weight = share.float().expand(label.shape).clone()
    if margins is not None and margins.of_size is None:
        weight = weight * inside((_within(margins, weight),), weight)
    if valid is not None:
        weight = weight * inside(valid, weight)
    return PseudoLabel(label=label, weight=weight, confidence=confidence, share=share)


def inside(boxes: Sequence[Box] | Tensor, image: Tensor) -> Tensor:
    """1 in the boxes of images [..., H, W] and 0 elsewhere, [boxes, H, W], or as it is given."""
    if isinstance(boxes, Tensor):
        return boxes.to(image.dtype)
    mask = image.new_zeros((len(boxes), *image.shape[-2:]))
    for one, box in zip(mask, boxes, strict=True):
        one[box.top : box.top + max(box.height, 0), box.left : box.left + max(box.width, 0)] = 1
    return mask


def _within(margins: Margins, weight: Tensor) -> Box:
    rows, columns = weight.shape[-2:]
    return Box(margins.top, margins.left, rows - margins.top - margins.bottom, columns - margins.left - margins.right)
