"""The head of DAFormer: embeddings of all stages, fused by a depthwise-separable ASPP (Hoyer et al. 2022)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from trainables.experiment.heads import DAFormerHead as Settings
from trainables.models.segmentor import Head, upsample

CLASSIFIER_STD = 0.01


class ConvNormReLU(nn.Sequential):
    """Convolution without bias (Kaiming normal, fan-out), BatchNorm, ReLU; rows and columns are kept.

    A depthwise convolution's fan-out counts all channels, as torch computes it and the reference implementation has it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1) -> None:
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(outputs), relu=nn.ReLU(inplace=True)))


def separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """A depthwise 3x3 convolution and a pointwise one, each with BatchNorm and ReLU."""
    depthwise = ConvNormReLU(inputs, inputs, 3, dilation=dilation, groups=inputs)
    pointwise = ConvNormReLU(inputs, outputs, 1)
    return nn.Sequential(OrderedDict(depthwise_conv=depthwise, pointwise_conv=pointwise))


class SeparableASPP(nn.Module):
    """Parallel convolutions at several rates, concatenated and fused: 1x1 at rate 1, depthwise-separable 3x3 otherwise.

    Args:
        inputs: Channels of the features.
        channels: Channels of every branch and of the output.
        rates: Dilations.
    """

    def __init__(self, inputs: int, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(self._branch(inputs, channels, rate) for rate in rates)
        self.bottleneck = ConvNormReLU(len(rates) * channels, channels, 3)

    @staticmethod
    def _branch(inputs: int, channels: int, rate: int) -> nn.Module:
        if rate == 1:
            return ConvNormReLU(inputs, channels, 1)
        return separable(inputs, channels, rate)

    def forward(self, features: Tensor) -> Tensor:
        fused: Tensor = self.bottleneck(torch.cat([branch(features) for branch in self.branches], dim=1))
        return fused


class Embedding(nn.Module):
    """A linear map of the channels at every position, resized to a grid.

    Args:
        inputs: Channels of the stage.
        outputs: Channels of the embedding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, stage: Tensor, size: tuple[int, int]) -> Tensor:
        """[B, C, h, w] -> [B, E, rows, columns]."""
        return upsample(self.linear(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), size)


class EmbeddingHead(Head):
    """Embeds every stage at the resolution of the first, concatenates, fuses, drops out channels and classifies.

    Args:
        stages: Channels of the stages that it reads.
        decoded_stages: Their indices in the pyramid.
        embed_dim: Channels of each embedding.
        fusion: Module from len(stages) * embed_dim channels to `channels`.
        channels: Channels before the classifier.
        num_classes: K.
        dropout: Probability with which a channel is dropped before the classifier.
    """

    def __init__(
        self,
        stages: tuple[int, ...],
        decoded_stages: tuple[int, ...],
        embed_dim: int,
        fusion: nn.Module,
        channels: int,
        num_classes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.decoded_stages = decoded_stages
        self.embeddings = nn.ModuleList(Embedding(inputs, embed_dim) for inputs in stages)
        self.fusion = fusion
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.fused_channels = channels

    def forward(self, *stages: Tensor) -> Tensor:
        """[B, C_i, h_i, w_i] of all stages -> [B, K, h_1, w_1]."""
        return self.classify(self.dropout(self.fuse(*stages)))

    def fuse(self, *stages: Tensor) -> Tensor:
        size = (stages[0].shape[-2], stages[0].shape[-1])
        embedded = [embed(stage, size) for embed, stage in zip(self.embeddings, stages, strict=True)]
        fused: Tensor = self.fusion(torch.cat(embedded, dim=1))
        return fused

    def classify(self, fused: Tensor) -> Tensor:
        logits: Tensor = self.classifier(fused)
        return logits


def small_classifier(classifier: nn.Conv2d) -> None:
    """Draw a classifier from N(0, 0.01), without bias at the start."""
    nn.init.normal_(classifier.weight, std=CLASSIFIER_STD)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)


class DAFormerHead(EmbeddingHead):
    """Embeddings of all stages under a separable ASPP; 3,712,275 parameters over a MiT by default with 19 classes.

    Args:
        config: Widths, rates and dropout.
        stages: Channels of the stages that it reads.
        decoded_stages: Their indices in the pyramid.
        num_classes: K.
    """

    def __init__(
        self, config: Settings, stages: tuple[int, ...], decoded_stages: tuple[int, ...], num_classes: int
    ) -> None:
        dim = config.embed_dim
        fusion = SeparableASPP(len(stages) * dim, config.channels, config.rates)
        super().__init__(stages, decoded_stages, dim, fusion, config.channels, num_classes, config.dropout)
        small_classifier(self.classifier)


class AttentionHead(EmbeddingHead):
    """HRDA's attention over a DAFormer: embeddings of all stages, fused by a 1x1 convolution.

    Args:
        stages: Channels of the stages that it reads.
        dim: Channels of the embeddings and of their fusion.
        num_classes: K.
        dropout: Probability with which a channel is dropped before the classifier.
    """

    def __init__(self, stages: tuple[int, ...], dim: int, num_classes: int, dropout: float) -> None:
        fusion = ConvNormReLU(len(stages) * dim, dim, 1)
        super().__init__(stages, tuple(range(len(stages))), dim, fusion, dim, num_classes, dropout)
        small_classifier(self.classifier)
