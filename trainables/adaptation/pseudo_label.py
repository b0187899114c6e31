"""Pseudo-labels: the teacher's classes of the target, and their weights."""

from __future__ import annotations

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
    logits: Tensor, threshold: float, margins: Margins | None = None, valid: tuple[Box, ...] | None = None
) -> PseudoLabel:
    """Pseudo-labels of logits [B, K, H, W]."""
    largest, label = logits.max(dim=1)
    powers = (logits - largest.unsqueeze(1)).exp_()
    precise = torch.promote_types(logits.dtype, torch.float32)  # bf16 has no number between 0.965 and 0.969
    confidence = powers.sum(dim=1, dtype=precise).reciprocal()  # the softmax of the largest
    share = (confidence >= threshold).double().mean()
    weight = share.float().expand(label.shape).clone()
    if margins is not None and margins.of_size is None:
        weight = weight * _inside(margins, weight)
    if valid is not None:
        weight = weight * torch.stack([_mask(box, weight[0]) for box in valid])
    return PseudoLabel(label=label, weight=weight, confidence=confidence, share=share)


def _inside(margins: Margins, weight: Tensor) -> Tensor:
    rows, columns = weight.shape[-2:]
    box = Box(margins.top, margins.left, rows - margins.top - margins.bottom, columns - margins.left - margins.right)
    return _mask(box, weight[0])


def _mask(box: Box, like: Tensor) -> Tensor:
    inside = torch.zeros_like(like)
    inside[box.top : box.top + max(box.height, 0), box.left : box.left + max(box.width, 0)] = 1
    return inside
