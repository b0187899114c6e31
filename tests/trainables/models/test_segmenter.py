"""Any encoder under any head, and HRDA around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from mfm_tune.fields import Settings
from tests.trainables.models.tiny import TINY_DAFORMER, TINY_DLV2, TINY_MIT, built
from trainables.config import (
    HRDA,
    DAFormerHead,
    DeepLabV2Head,
    DeepLabV3PlusHead,
    EfficientNetLite,
    EfficientNetLite0,
    EncoderSettings,
    HeadSettings,
    SegFormer,
    SegFormerHead,
    Segmenter,
    SelfTraining,
    SmallDeepLab,
    SmallResNet,
    SummingHead,
)
from trainables.models.deeplabv3plus import DeepLabV3PlusHead as DeepLabV3PlusModule
from trainables.models.deeplabv3plus import ImagePoolingASPP
from trainables.models.segmentor import Encoder, Head, Pyramid
from trainables.models.small import SmallEncoder
from trainables.randomness import Streams

ENCODERS = {
    "small": SmallResNet(),
    "resnet": TINY_DLV2.parts.encoder,
    "mit": TINY_MIT,
    "efficientnet": EfficientNetLite0(pretrained=False),
}
HEADS = {
    "deeplabv2": DeepLabV2Head(),
    "deeplabv3plus": DeepLabV3PlusHead(channels=8, fine_channels=4, rates=(1, 2)),
    "deeplabv3plus, dense": DeepLabV3PlusHead(channels=8, fine_channels=4, rates=(1, 2), separable=False),
    "daformer": DAFormerHead(embed_dim=8, channels=8),
    "segformer": SegFormerHead(embed_dim=8),
    "summing": SummingHead(channels=8),
}


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_every_encoder_learns_under_every_head(encoder: str, head: str) -> None:
    """At a size that divides and at one that does not: logits at image size; gradients reach the stages that the head
    names and no other, and every parameter of the head."""
    segmentor = built(Segmenter(encoder=ENCODERS[encoder], head=HEADS[head]), classes=5).train()
    for size in ((64, 128), (97, 131)):
        image = torch.randn(2, 3, *size)
        (pyramid,) = segmentor.encode(image).pyramids
        assert [stage.shape[1] for stage in pyramid] == list(segmentor.channels)
        for index, stage in enumerate(pyramid):
            assert tuple(stage.shape[-2:]) == segmentor.stage_size(index, size)
            stage.retain_grad()
        outputs = segmentor.decode(segmentor.encode(image).with_pyramids((pyramid,)))
        assert outputs.logits.shape == (2, 5, *segmentor.stage_size(segmentor.decoded_stages[0], size))
        segmentor.loss(outputs, torch.randint(0, 5, (2, *size))).total().backward()
        read = {index for index, stage in enumerate(pyramid) if stage.grad is not None and bool(stage.grad.any())}
        assert read >= set(segmentor.decoded_stages)
        assert all(parameter.grad is not None for parameter in segmentor.decoder.parameters())
    with torch.no_grad():
        assert bool(segmentor.eval().predict(torch.randn(1, 3, 97, 131)).isfinite().all())


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_hrda_takes_every_encoder_under_every_head(encoder: str, head: str) -> None:
    """Its attention has the resolution of the head's logits: a loss of both views, and a prediction by windows."""
    base = Segmenter(encoder=ENCODERS[encoder], head=HEADS[head])
    segmentor = built(HRDA(base=base, detail_crop=(32, 64), attention_dim=8), classes=5).train()
    image = torch.randn(2, 3, 64, 128)
    outputs = segmentor(image, segmentor.draw_box(Streams(0), "detail crop, source pass", 0, (64, 128)))
    segmentor.loss(outputs, torch.randint(0, 5, (2, 64, 128))).total().backward()
    assert all(parameter.grad is not None for parameter in segmentor.decoder.parameters())
    with torch.no_grad():
        assert segmentor.eval().predict(image).shape == (2, 5, 64, 128)


@pytest.mark.parametrize(
    "network",
    [SmallDeepLab(), TINY_DLV2, TINY_DAFORMER, SegFormer(encoder=TINY_MIT), EfficientNetLite(pretrained=False)],
    ids=lambda network: type(network).__name__,
)
def test_a_network_with_a_name_is_its_encoder_under_its_head(network: SmallDeepLab) -> None:
    """The same tensors at the same initial draws, so that one can be compared with the other."""
    named, parts = (built(each, seed=3).state_dict() for each in (network, network.parts))
    assert list(named) == list(parts)
    assert all(torch.equal(named[name], parts[name]) for name in named)
    assert network.parts.without_weights() == network.without_weights().parts


# -- DeepLab-V3+ -----------------------------------------------------------------------------------------------------


def test_the_aspp_is_its_branches_beside_the_mean_over_the_image() -> None:
    """Each by itself, as published: 1x1, dilated 3x3 and the pooled features at every position, then a projection."""
    torch.manual_seed(0)
    aspp = ImagePoolingASPP(6, 4, (1, 2), separably=False).double().eval()
    features = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    one, dilated = (branch.conv.weight for branch in aspp.branches)
    scale = (1 + 1e-5) ** -0.5  # of a BatchNorm at its start
    expected = [
        torch.einsum("oi,bihw->bohw", one[:, :, 0, 0], features) * scale,
        _slow_dilated(features, dilated, 2) * scale,
        (torch.einsum("oi,bi->bo", aspp.pooled.weight[:, :, 0, 0], features.mean(dim=(2, 3))) + aspp.pooled.bias)[
            ..., None, None
        ].expand(2, 4, 9, 7),
    ]
    joined = torch.cat([part.clamp(min=0) for part in expected], dim=1)
    weight = aspp.projection.conv.weight[:, :, 0, 0]
    assert torch.allclose(aspp(features), (torch.einsum("oi,bihw->bohw", weight, joined) * scale).clamp(min=0))


def _slow_dilated(features: Tensor, weight: Tensor, rate: int) -> Tensor:
    """A 3x3 convolution as nine shifted products."""
    rows, columns = features.shape[-2:]
    padded = nn.functional.pad(features, (rate, rate, rate, rate))
    parts = [
        torch.einsum("oi,bihw->bohw", weight[:, :, y, x], padded[..., y * rate :, x * rate :][..., :rows, :columns])
        for y in range(3)
        for x in range(3)
    ]
    return torch.stack(parts).sum(dim=0)


def test_deeplab_v3_plus_trains_on_a_single_image() -> None:
    """BatchNorm after the pooling would have one value a channel, which torch refuses."""
    segmentor = built(Segmenter(encoder=SmallResNet(), head=HEADS["deeplabv3plus"])).train()
    assert segmentor(torch.randn(1, 3, 32, 32)).logits.isfinite().all()


def test_deeplab_v3_plus_reads_the_stage_at_stride_4_and_the_last() -> None:
    """The low-level features of the paper, with few channels; separable convolutions need fewer weights."""
    segmentor = built(Segmenter(encoder=EfficientNetLite0(pretrained=False), head=DeepLabV3PlusHead()))
    assert segmentor.decoded_stages == (1, 4)
    assert isinstance(segmentor.decoder, DeepLabV3PlusModule)
    assert segmentor.decoder.reduction.conv.weight.shape == (48, 24, 1, 1)
    dense = built(Segmenter(encoder=EfficientNetLite0(pretrained=False), head=DeepLabV3PlusHead(separable=False)))
    count, more = (sum(p.numel() for p in each.decoder.parameters()) for each in (segmentor, dense))
    assert count < 0.3 * more


# -- of one's own, and refused -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneStage(EncoderSettings):
    """The last stage of the small encoder alone."""

    def build(self) -> Encoder:
        return OneStageEncoder(SmallResNet())


class OneStageEncoder(SmallEncoder):
    """At stride 4."""

    def __init__(self, config: SmallResNet) -> None:
        super().__init__(config)
        self.channels, self.strides = self.channels[-1:], self.strides[-1:]

    def forward(self, image: Tensor) -> Pyramid:
        return super().forward(image)[-1:]


@dataclass(frozen=True)
class Linear(HeadSettings):
    """A linear map of the last stage, with no attention for HRDA."""

    def build(self, channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> Head:
        head = LinearHead()
        head.decoded_stages = (len(channels) - 1,)
        head.map = nn.Conv2d(channels[-1], num_classes, 1)
        return head


class LinearHead(Head):
    """[B, C, h, w] -> [B, K, h, w]."""

    def forward(self, *stages: Tensor) -> Tensor:
        logits: Tensor = self.map(*stages)
        return logits


def test_an_encoder_and_a_head_of_ones_own_make_a_network() -> None:
    """With one stage, and a head that nobody knows."""
    for head in (Linear(), DeepLabV2Head(), DAFormerHead(embed_dim=8, channels=8), SummingHead()):
        segmentor = built(Segmenter(encoder=OneStage(), head=head), classes=3)
        assert segmentor.predict(torch.randn(1, 3, 32, 48)).shape == (1, 3, 32, 48)


def test_what_cannot_be_put_together_is_one_sentence() -> None:
    """At the latest where it is built."""
    with pytest.raises(
        ValueError, match=r"^HRDA\.base must give an attention head, got OneStage under Linear, which gi"
    ):
        HRDA(base=Segmenter(encoder=OneStage(), head=Linear()))
    with pytest.raises(ValueError, match=r"^HRDA\.base must give an attention head, got HRDA, which gives none; "):
        HRDA(base=HRDA())
    with pytest.raises(ValueError, match=r"^DeepLabV3PlusHead joins two stages .+ strides \(4,\), of which only"):
        Segmenter(encoder=OneStage(), head=DeepLabV3PlusHead()).build(3)
    with pytest.raises(ValueError, match=r"^HRDA\.detail_crop must be two multiples of 8, got \(20, 32\)\.$"):
        HRDA(base=Segmenter(encoder=OneStage(), head=SummingHead()), detail_crop=(20, 32)).build(3)
    with pytest.raises(ValueError, match=r"^Segmenter\.head must be settings of a head .+, got OneStage\(\)\.$"):
        Segmenter(encoder=OneStage(), head=OneStage())  # type: ignore[arg-type]


@dataclass(frozen=True)
class Shapeless(HeadSettings):
    """A head that is told nothing of its encoder."""

    def build(self) -> Head:  # type: ignore[override]
        return LinearHead()


@dataclass(frozen=True)
class Counted(EncoderSettings):
    """An encoder that wants what only networks are given."""

    def build(self, num_classes: int) -> Encoder:  # type: ignore[override]
        return SmallEncoder(SmallResNet())


@dataclass(frozen=True)
class Seeded(Settings):
    """A mixer that wants what it is not given."""

    def build(self, seed: int) -> None: ...


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Segmenter(encoder=OneStage(), head=Shapeless()),
            r"^Segmenter\.head must .+, got Shapeless\(\), whose method is build\(self\).+; define it as "
            r"build\(self, channels, strides, num_classes\)\.$",
        ),
        (
            lambda: Segmenter(encoder=Counted(), head=Linear()),
            r"^Segmenter\.encoder must .+, whose method is build\(self, num_classes.+; define it as build\(self\)\.$",
        ),
        (
            lambda: SelfTraining(mixer=Seeded()),
            r"^SelfTraining\.mixer must .+, whose method is build\(self, seed.+; define it as build\(self\)\.$",
        ),
    ],
)
def test_a_build_that_takes_something_else_is_refused_when_the_config_is_made(
    make: Callable[[], object], sentence: str
) -> None:
    """Not first in a worker."""
    with pytest.raises(ValueError, match=sentence):
        make()


def test_trials_are_timed_by_encoder_and_head() -> None:
    """Networks of other cost are of other cost classes; those that ledgers have keep theirs."""
    network = Segmenter(encoder=SmallResNet(), head=DeepLabV2Head())
    assert network.label == "SmallResNet under DeepLabV2Head"
    assert HRDA(base=network).label == "HRDA of SmallResNet under DeepLabV2Head"
    assert (HRDA().label, HRDA(base=TINY_DLV2).label, SmallDeepLab().label) == ("HRDA", "HRDA", "SmallDeepLab")


def test_mean_and_std_are_those_of_the_encoder() -> None:
    """Through the network and HRDA: images are normalised as the encoder's weights were trained."""

    @dataclass(frozen=True)
    class Grey(EncoderSettings):
        """Other constants than ImageNet's."""

        def build(self) -> Encoder:
            return SmallEncoder(SmallResNet())

        @property
        def mean(self) -> tuple[float, float, float]:
            return (1.0, 2.0, 3.0)

    network = Segmenter(encoder=Grey(), head=DeepLabV2Head())
    assert HRDA(base=network).mean == network.mean == (1.0, 2.0, 3.0)
    assert HRDA(base=network).std == replace(network, encoder=SmallResNet()).std == (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class OwnEncoder(EncoderSettings):
    """Settings of one's own that return what they are given."""

    made: object

    def build(self) -> Encoder:
        return self.made  # type: ignore[return-value]


@dataclass(frozen=True)
class OwnHead(HeadSettings):
    """The same of a head."""

    made: object

    def build(self, channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> Head:
        return self.made  # type: ignore[return-value]


def having(module: nn.Module, **attributes: object) -> nn.Module:
    """The module with these attributes."""
    vars(module).update(attributes)
    return module


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (nn.Identity(), r"^OwnEncoder\.build must return an Encoder, got Identity; derive it from"),
        (Encoder(), r"^Encoder must have tuples channels and strides, .+, got None and None; set them"),
        (having(Encoder(), channels=(8, 8), strides=(4,)), r"^Encoder must have .+ got \(8, 8\) and \(4,\); set them"),
    ],
)
def test_an_encoder_of_ones_own_that_lacks_something_is_one_sentence(made: nn.Module, sentence: str) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match=sentence):
        built(Segmenter(encoder=OwnEncoder(made), head=DeepLabV2Head()))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (nn.Identity(), r"^OwnHead\.build must return a Head, got Identity; derive it from"),
        (Head(), r"^Head\.decoded_stages must be a tuple of the stages that it reads, of 0 to 2, got None; set it"),
        (having(Head(), decoded_stages=(3,)), r"^Head\.decoded_stages must be .+ of 0 to 2, got \(3,\); set it"),
    ],
)
def test_a_head_of_ones_own_that_lacks_something_is_one_sentence(made: nn.Module, sentence: str) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match=sentence):
        built(Segmenter(encoder=SmallResNet(), head=OwnHead(made)))
