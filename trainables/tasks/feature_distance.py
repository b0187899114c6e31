"""DAFormer's feature distance: on thing classes, stay near the features of the ImageNet encoder (Hoyer et al. 2022)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from trainables.config import FeatureDistance
from trainables.geometry import IGNORE
from trainables.losses import masked_mean
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask, Shares


class FeatureDistanceTask(AuxiliaryTask):
    """weight * the mean distance between the student's last stage and that of a frozen encoder, on thing cells.

    The loss is taken on the source pass's own features; HRDA's are those of the context.

    Args:
        config: Weight, ratio and classes.
        imagenet_encoder: Frozen here; it runs in eval mode with its own statistics.
        stride: Pixels of the image to a cell of the last stage.
        num_classes: K.

    Raises:
        ValueError: None of the classes is one of the data's.
    """

    name = "feature_distance"
    shares = Shares.SOURCE

    def __init__(self, config: FeatureDistance, imagenet_encoder: nn.Module, stride: int, num_classes: int) -> None:
        super().__init__()
        if min(config.classes) >= num_classes:
            raise ValueError(
                f"FeatureDistance.classes must name one of the data's classes, 0 to {num_classes - 1}, got "
                f"{config.classes!r}; give the ids of its thing classes, or leave the feature distance out."
            )
        self.min_ratio = config.min_ratio
        self.stride = stride
        self.imagenet_encoder = imagenet_encoder.requires_grad_(False).eval()
        self.register_buffer("things", torch.zeros(IGNORE + 1, dtype=torch.bool), persistent=False)
        self.get_buffer("things")[list(config.classes)] = True

    def train(self, mode: bool = True) -> Self:
        """The frozen encoder stays in eval mode."""
        super().train(mode)
        self.imagenet_encoder.eval()
        return self

    def encoders(self) -> tuple[nn.Module, ...]:
        """The frozen encoder."""
        return (self.imagenet_encoder,)

    def loss(self, view: StepView) -> Tensor:
        """The mean distance over the thing cells of the source batch; 0 where there is none."""
        features = view.shared.pyramids[0][-1]
        with torch.no_grad():
            reference = self.imagenet_encoder(view.student.context(view.seen_source.image))[-1]
            cells = self.get_buffer("things")[dominant_class(view.source.ground_truth, self.stride, self.min_ratio)]
        return feature_distance(features, reference, cells)


def feature_distance(features: Tensor, reference: Tensor, cells: Tensor) -> Tensor:
    """The mean over some cells of the 2-norm, over channels, of features - reference.

    Where no cell counts the loss is 0 (NaN in the reference implementation), and the gradient is 0 in both.

    Args:
        features: [B, C, h, w].
        reference: [B, C, h, w].
        cells: Which cells count, [B, h, w], bool; may be cut short at the right and bottom, where cells are partial.

    Returns:
        A scalar.
    """
    rows, columns = cells.shape[-2:]
    difference = (features - reference)[..., :rows, :columns]
    precise = torch.promote_types(difference.dtype, torch.float32)
    distance = torch.linalg.vector_norm(difference.to(precise), dim=1)
    return masked_mean(distance, cells)


def dominant_class(label: Tensor, stride: int, min_ratio: float) -> Tensor:
    """For every cell the class that fills most of it, or 255 where that is less than a share of it, or 255 itself.

    Args:
        label: trainIds [B, H, W], int64, 255 ignored.
        stride: Pixels to a cell, each way; a rest at the right and bottom is left out.
        min_ratio: The share that a class must fill.

    Returns:
        [B, H // stride, W // stride], int64.
    """
    batch, rows, columns = label.shape[0], label.shape[1] // stride, label.shape[2] // stride
    whole = label[:, : rows * stride, : columns * stride]
    pixels = whole.reshape(batch, rows, stride, columns, stride).transpose(2, 3).flatten(3)
    counts = torch.zeros(batch, rows, columns, IGNORE + 1, dtype=torch.int32, device=label.device)
    counts.scatter_add_(3, pixels, torch.ones_like(pixels, dtype=torch.int32))
    most, winner = counts.max(dim=3)
    return winner.masked_fill(most < min_ratio * stride * stride, IGNORE)
