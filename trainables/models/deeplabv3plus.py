"""The head of DeepLab-V3+: an ASPP over the last stage, joined with a fine stage (Chen et al., ECCV 2018).

The image-level features of the ASPP have no BatchNorm here: in batches of two images, as adaptation trains with, each
channel's statistics would be those of two numbers, and of a single image there are none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.experiment.heads import DeepLabV3PlusHead as Settings
from trainables.models.daformer import ConvNormReLU, separable, small_classifier
from trainables.models.segmentor import Head, upsample


class ImagePoolingASPP(nn.Module):
    """Parallel convolutions at several rates and the mean over the image, concatenated and projected.

    Args:
        inputs: Channels of the features.
        channels: Channels of every branch and of the output.
        rates: Dilations: at 1 the convolution is 1x1, otherwise 3x3.
        separably: Whether the 3x3 convolutions are depthwise separable.
    """

    def __init__(self, inputs: int, channels: int, rates: tuple[int, ...], separably: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_convolution(inputs, channels, rate, separably) for rate in rates)
        self.pooled = nn.Conv2d(inputs, channels, 1)
        self.projection = ConvNormReLU((len(rates) + 1) * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, channels, h, w]."""
        image = F.relu(self.pooled(features.mean(dim=(2, 3), keepdim=True)))
        image = image.expand(-1, -1, *features.shape[-2:])
        joined: Tensor = self.projection(torch.cat([*(branch(features) for branch in self.branches), image], dim=1))
        return joined


class DeepLabV3PlusHead(Head):
    """The ASPP's output at the resolution of the fine stage, beside that stage's few channels; two 3x3 convolutions.

    Args:
        config: Widths, rates, and whether convolutions are separable.
        fine, last: Channels of the two stages.
        decoded_stages: Their indices in the pyramid.
        num_classes: K.
    """

    def __init__(
        self, config: Settings, fine: int, last: int, decoded_stages: tuple[int, int], num_classes: int
    ) -> None:
        super().__init__()
        self.decoded_stages = decoded_stages
        width = config.channels
        self.aspp = ImagePoolingASPP(last, width, config.rates, config.separable)
        self.reduction = ConvNormReLU(fine, config.fine_channels, 1)
        make = separable if config.separable else _dense
        self.fusion = nn.Sequential(make(width + config.fine_channels, width), make(width, width))
        self.dropout = nn.Dropout2d(config.dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        small_classifier(self.classifier)
        self.fused_channels = width

    def forward(self, *stages: Tensor) -> Tensor:
        """[B, C, h, w] of the fine and [B, C', h', w'] of the last stage -> [B, K, h, w]."""
        return self.classify(self.dropout(self.fuse(*stages)))

    def fuse(self, *stages: Tensor) -> Tensor:
        fine, last = stages
        context = upsample(self.aspp(last), fine.shape[-2:])
        fused: Tensor = self.fusion(torch.cat([context, self.reduction(fine)], dim=1))
        return fused

    def classify(self, fused: Tensor) -> Tensor:
        logits: Tensor = self.classifier(fused)
        return logits


def _dense(inputs: int, outputs: int) -> nn.Module:
    return ConvNormReLU(inputs, outputs, 3)


def _convolution(inputs: int, outputs: int, rate: int, separably: bool) -> nn.Module:
    """A branch of the ASPP."""
    if rate == 1:
        return ConvNormReLU(inputs, outputs, 1)
    return separable(inputs, outputs, rate) if separably else ConvNormReLU(inputs, outputs, 3, dilation=rate)
