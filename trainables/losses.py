"""Pixel losses. B batch, K classes, H and W rows and columns."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trainables.geometry import IGNORE

PATCH_EPSILON = 1e-6  # of the normalisation of pixels patch by patch (MAE)


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted cross-entropy, the mean over ALL pixels: ignored ones count as 0 in the sum and 1 in the number.

    The DAFormer family normalises so (unlike torch's default, which divides by the valid pixels).

    Args:
        logits: [B, K, H, W].
        label: trainIds [B, H, W], int64, 255 ignored.
        weight: [B, H, W], or None for 1.

    Returns:
        A scalar.
    """
    if weight is None:
        return F.cross_entropy(logits, label, ignore_index=IGNORE, reduction="sum") / label.numel()
    each = F.cross_entropy(logits, label, ignore_index=IGNORE, reduction="none")
    return (each * weight).mean()


def masked_mean(values: Tensor, masked: Tensor) -> Tensor:
    """The mean of values where `masked` is 1, of the same shape; 0 where nothing is masked."""
    masked = masked.to(values.dtype)
    mean: Tensor = (values * masked).sum() / masked.sum().clamp(min=1)
    return mean
