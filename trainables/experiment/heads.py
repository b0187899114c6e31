"""Heads, each for any encoder.

A head reads the stages from stride 4 on: a finer one costs more than all others, and no head here was published for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mfm_tune.fields import AtLeast1, BelowOne
from trainables.experiment.encoders import Norm
from trainables.experiment.kinds import HeadSettings

if TYPE_CHECKING:
    from torch import nn

    from trainables.models.segmentor import Head

Sizes = tuple[int, ...]  # a number for each stage, fine to coarse

FINEST = 4  # stride of the finest stage that a head reads
GROUP_CHANNELS = 8  # of a group of GroupNorm


def read_stages(strides: Sizes) -> Sizes:
    """Indices of the stages at stride 4 and coarser; of all stages where none is."""
    coarse = tuple(index for index, stride in enumerate(strides) if stride >= FINEST)
    return coarse or tuple(range(len(strides)))


def _at(channels: Sizes, stages: Sizes) -> Sizes:
    return tuple(channels[stage] for stage in stages)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLabV2Head(HeadSettings):
    """Dilated 3x3 convolutions over the last stage, summed (Chen et al. 2017).

    Args:
        rates: Their dilations; the DAFormer family's by default.
    """

    rates: tuple[AtLeast1, ...] = (6, 12)

    def build(self, channels: Sizes, strides: Sizes, num_classes: int) -> Head:
        from trainables.models import deeplabv2

        return deeplabv2.DeepLabV2Head(channels[-1], num_classes, self.rates, stage=len(channels) - 1)

    def attention(self, channels: Sizes, num_classes: int, dim: int) -> nn.Module:
        from trainables.models import deeplabv2

        return deeplabv2.DeepLabV2Head(channels[-1], num_classes, self.rates)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLabV3PlusHead(HeadSettings):
    """An ASPP with image-level features over the last stage, joined with the finest (Chen et al. 2018).

    Args:
        channels: Of the ASPP's branches and of the joined features.
        fine_channels: That the finest stage is reduced to.
        rates: Dilations of the ASPP, 1 for a 1x1 convolution; the default belongs to features at stride 8, half of the
            others to stride 16.
        separable: Depthwise-separable 3x3 convolutions.
        dropout: Probability with which a channel is dropped before the classifier.
    """

    channels: AtLeast1 = 256
    fine_channels: AtLeast1 = 48
    rates: tuple[AtLeast1, ...] = (1, 12, 24, 36)
    separable: bool = True
    dropout: BelowOne = 0.1

    def build(self, channels: Sizes, strides: Sizes, num_classes: int) -> Head:
        from trainables.models import deeplabv3plus

        fine, last = read_stages(strides)[0], len(channels) - 1
        if fine == last:
            raise ValueError(
                f"DeepLabV3PlusHead joins two stages of an encoder, got one with strides {strides!r}, of which only "
                f"the last is {FINEST} or more; give it another encoder, or that encoder another head."
            )
        return deeplabv3plus.DeepLabV3PlusHead(self, channels[fine], channels[last], (fine, last), num_classes)

    def attention(self, channels: Sizes, num_classes: int, dim: int) -> nn.Module:
        from trainables.models.daformer import AttentionHead

        return AttentionHead(channels, dim, num_classes, self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class DAFormerHead(HeadSettings):
    """Embeddings of all stages, fused by a depthwise-separable ASPP (Hoyer et al. 2022).

    Args:
        embed_dim: Channels of each embedding.
        channels: Channels of the ASPP.
        rates: Its dilations, 1 for a 1x1 convolution.
        dropout: Probability with which a channel is dropped before the classifier.
    """

    embed_dim: AtLeast1 = 256
    channels: AtLeast1 = 256
    rates: tuple[AtLeast1, ...] = (1, 6, 12, 18)
    dropout: BelowOne = 0.1

    def build(self, channels: Sizes, strides: Sizes, num_classes: int) -> Head:
        from trainables.models import daformer

        read = read_stages(strides)
        return daformer.DAFormerHead(self, _at(channels, read), read, num_classes)

    def attention(self, channels: Sizes, num_classes: int, dim: int) -> nn.Module:
        from trainables.models.daformer import AttentionHead

        return AttentionHead(channels, dim, num_classes, self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegFormerHead(HeadSettings):
    """Embeddings of all stages, fused by a 1x1 convolution (Xie et al. 2021).

    Args:
        embed_dim: Channels of the embeddings and of their fusion.
        dropout: Probability with which a channel is dropped before the classifier.
    """

    embed_dim: AtLeast1 = 768
    dropout: BelowOne = 0.1

    def build(self, channels: Sizes, strides: Sizes, num_classes: int) -> Head:
        from trainables.models import segformer

        read = read_stages(strides)
        return segformer.SegFormerHead(self, _at(channels, read), read, num_classes)

    def attention(self, channels: Sizes, num_classes: int, dim: int) -> nn.Module:
        from trainables.models.daformer import AttentionHead

        return AttentionHead(channels, dim, num_classes, self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class SummingHead(HeadSettings):
    """Linear maps of all stages, summed at the resolution of the finest, under the DeepLab-V2 head.

    Args:
        channels: Of the sum.
        rates: Dilations of the head's 3x3 convolutions.
        norm: Of the sum: `GROUP` has no statistics that could pass between the domains.
    """

    channels: AtLeast1 = 64
    rates: tuple[AtLeast1, ...] = (1, 2, 4, 6)
    norm: Norm = field(default=Norm.BATCH, metadata={"identity": "when set"})

    def _check_together(self) -> None:
        if self.norm is Norm.FROZEN:
            raise ValueError(
                "SummingHead.norm must be Norm.GROUP or Norm.BATCH, got Norm.FROZEN; a head is trained from random "
                "weights, which have no statistics to keep."
            )
        if self.norm is Norm.GROUP and self.channels % GROUP_CHANNELS:
            raise ValueError(
                f"SummingHead.channels must be a multiple of {GROUP_CHANNELS} under Norm.GROUP, whose groups have so "
                f"many channels, got {self.channels}."
            )

    def build(self, channels: Sizes, strides: Sizes, num_classes: int) -> Head:
        from trainables.models import summing

        read = read_stages(strides)
        return summing.SummingHead(_at(channels, read), read, self.channels, num_classes, self.rates, self.norm)

    def attention(self, channels: Sizes, num_classes: int, dim: int) -> nn.Module:
        from trainables.models import summing

        return summing.SummingHead(channels, tuple(range(len(channels))), dim, num_classes, self.rates, self.norm)
