"""A head that sums the stages at the resolution of the finest and ends in DeepLab-V2's dilated convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import Norm
from trainables.experiment.heads import GROUP_CHANNELS
from trainables.models.deeplabv2 import DeepLabV2Head
from trainables.models.segmentor import Head, upsample


class SummingHead(Head):
    """A linear map of every decoded stage, summed at the resolution of the first; then the DeepLab-V2 head.

    Args:
        stages: Channels of the stages that it reads, fine to coarse.
        decoded_stages: Their indices in the pyramid.
        channels: Channels of the sum.
        num_classes: K.
        rates: Dilations of the head.
        norm: Of the sum.
    """

    def __init__(
        self,
        stages: tuple[int, ...],
        decoded_stages: tuple[int, ...],
        channels: int,
        num_classes: int,
        rates: tuple[int, ...],
        norm: Norm = Norm.BATCH,
    ) -> None:
        super().__init__()
        self.decoded_stages = decoded_stages
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, channels, 1, bias=False) for inputs in stages)
        groups = channels // GROUP_CHANNELS
        self.norm = nn.GroupNorm(groups, channels) if norm is Norm.GROUP else nn.BatchNorm2d(channels)
        self.head = DeepLabV2Head(channels, num_classes, rates)
        self.fused_channels = channels

    def forward(self, *stages: Tensor) -> Tensor:
        """[B, C_i, h_i, w_i] of the decoded stages -> [B, K, h_1, w_1]."""
        return self.classify(self.fuse(*stages))

    def fuse(self, *stages: Tensor) -> Tensor:
        mapped = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        size = mapped[0].shape[-2:]
        total = mapped[0]
        for coarse in mapped[1:]:
            total = total + upsample(coarse, size)
        return F.relu(self.norm(total))

    def classify(self, fused: Tensor) -> Tensor:
        logits: Tensor = self.head(fused)
        return logits
