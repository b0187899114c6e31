"""Further ablations of the paper's second version, Masked Representation Modeling: the domain that the loss is taken
on, what it trains, the Rebuilder's learning rate, and other architectures.

The paper's first version prints the default's 55.9 alone. The second version's numbers are known second-hand only and
are not printed here as the paper's.

    python -m mfm_tune.run search_spaces/table_mrm.py --plan
    python -m mfm_tune.run search_spaces/table_mrm.py --only mrm-domain mrm-trains
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from mfm_tune.space import Axis, Study, Table
from trainables.config import (
    HRDA,
    DAFormer,
    DeepLabV2,
    DeepLabV3PlusHead,
    Experiment,
    ImageNetWeights,
    Initial,
    MfmInput,
    MiT,
    Network,
    ResNetV1c,
    Segmenter,
    SmallDeepLab,
)
from trainables.program import Segmentation
from trainables.recipes import (
    ABOUT,
    Scale,
    at_each_scale,
    dacs,
    dacs_mfm,
    daformer,
    mfm,
    mic,
    needs_of,
)

DEFAULT = 55.9
FIRST_RATE, SECOND_RATE = 6e-5, 2e-4  # of the Rebuilder, in the paper's first and second version
DOMAINS = {"target": MfmInput.TARGET, "source": MfmInput.SOURCE, "source and target": MfmInput.BOTH}
TRAINS = {"encoder and decoder": (False, False), "encoder": (False, True), "decoder": (True, False)}


@dataclass(frozen=True, kw_only=True)
class Backbones:
    """What stands for the published encoders and heads at a scale.

    Args:
        resnet50: Under DeepLab-V2's head; ResNet-101 is the scale's own network.
        v3plus: ResNet-101 under DeepLab-V3+'s head.
        mit_b2, mit_b3: Under DAFormer's head.
        resnet50_weights, mit_b2_weights, mit_b3_weights: What they start from; None: what the scale starts from.
    """

    resnet50: Network
    v3plus: Network
    mit_b2: DAFormer
    mit_b3: DAFormer
    resnet50_weights: Initial = None
    mit_b2_weights: Initial = None
    mit_b3_weights: Initial = None


PUBLISHED = Backbones(
    resnet50=DeepLabV2(layers=(3, 4, 6, 3)),
    v3plus=Segmenter(encoder=ResNetV1c(), head=DeepLabV3PlusHead()),
    mit_b2=DAFormer(encoder=MiT(depths=(3, 4, 6, 3))),
    mit_b3=DAFormer(encoder=MiT(depths=(3, 4, 18, 3))),
    resnet50_weights=ImageNetWeights.RESNET50_V1C,
    mit_b2_weights=ImageNetWeights.MIT_B2,
    mit_b3_weights=ImageNetWeights.MIT_B3,
)


def small(scale: Scale) -> Backbones:
    """Random encoders of the same families: a block less than what stands for ResNet-101 and MiT-B5, and narrower."""
    assert isinstance(scale.network, SmallDeepLab)
    assert scale.daformer is not None
    own = scale.daformer.network
    first, second, *_ = own.encoder.dims
    shallow = replace(own.encoder, depths=(1, 1, 1, 1))
    return Backbones(
        resnet50=replace(scale.network, dilations=scale.network.dilations[:1]),
        v3plus=Segmenter(
            encoder=ResNetV1c(layers=(1, 1, 1, 1), base_width=8, stem_width=8),
            head=DeepLabV3PlusHead(channels=32, fine_channels=8, rates=(1, 2, 4)),
        ),
        mit_b2=replace(own, encoder=replace(shallow, dims=(first, second, second, second), heads=(1, 2, 2, 2))),
        mit_b3=replace(own, encoder=shallow),
    )


def backbones(scale: Scale) -> Backbones:
    """The published architectures at the paper's scale, small ones at the others."""
    return PUBLISHED if scale.published else small(scale)


class Architecture(Enum):
    """Method and network."""

    RESNET50 = "DACS, DeepLab-V2 (ResNet-50)"
    RESNET101 = "DACS, DeepLab-V2 (ResNet-101)"
    V3PLUS = "DACS, DeepLab-V3+ (ResNet-101)"
    RESNET101_MIC = "MIC, DeepLab-V2 (ResNet-101)"
    MIT_B2 = "DAFormer, MiT-B2"
    MIT_B3 = "MIC, MiT-B3"


def architecture(scale: Scale, which: Architecture, *auxiliary: object) -> Experiment:
    """The method on the network, with auxiliary tasks."""
    own = backbones(scale)
    match which:
        case Architecture.RESNET50:
            return dacs(_on(scale, own.resnet50, own.resnet50_weights), *auxiliary)
        case Architecture.RESNET101:
            return dacs(scale, *auxiliary)
        case Architecture.V3PLUS:
            return dacs(_on(scale, own.v3plus, None), *auxiliary)
        case Architecture.RESNET101_MIC:
            config = mic(scale, *auxiliary)
            assert isinstance(config.network, HRDA)
            network = replace(config.network, base=scale.network)
            return replace(config, network=network, initial=scale.initial, optimizer=scale.optimizer)
        case Architecture.MIT_B2:
            return daformer(_with_mit(scale, own.mit_b2, own.mit_b2_weights), *auxiliary)
        case Architecture.MIT_B3:
            return mic(_with_mit(scale, own.mit_b3, own.mit_b3_weights), *auxiliary)


def _on(scale: Scale, network: Network, weights: Initial) -> Scale:
    return replace(scale, network=network, initial=scale.initial if weights is None else weights)


def _with_mit(scale: Scale, network: DAFormer, weights: Initial) -> Scale:
    own = scale.daformer
    assert own is not None
    initial = own.initial if weights is None else weights
    return replace(scale, daformer=replace(own, network=network, initial=initial))


def domain_table(scale: Scale) -> Table:
    """Which images MFM is taken on; the source's have true labels."""
    axis = Axis(
        name="domain",
        levels=tuple((name, DEFAULT if name == "target" else None) for name in DOMAINS),
        make=lambda name: dacs(scale, replace(mfm(scale), input=DOMAINS[name])),
    )
    note = "Source and target are two terms of weight λ each, with masks of their own, and two passes more than DACS."
    return Table(name="mrm-domain", title="Domain of the loss", axis=axis, note=note)


def trains_table(scale: Scale) -> Table:
    """Which part of the network the term trains; the Rebuilder always learns."""

    def trained(name: str) -> Experiment:
        encoder, decoder = TRAINS[name]
        return dacs(scale, replace(mfm(scale), detach_encoder=encoder, detach_decoder=decoder))

    levels = tuple((name, DEFAULT if name == "encoder and decoder" else None) for name in TRAINS)
    return Table(name="mrm-trains", title="What MFM trains", axis=Axis(name="trains", levels=levels, make=trained))


def rate_table(scale: Scale) -> Table:
    """The Rebuilder's learning rate, in units of the default's at the scale."""

    def rate(printed: float) -> float | None:
        own = scale.rebuilder_learning_rate
        if printed == FIRST_RATE:
            return own
        return (scale.optimizer.learning_rate if own is None else own) * printed / FIRST_RATE

    axis = Axis(
        name="rebuilder-rate",
        levels=((FIRST_RATE, DEFAULT), (SECOND_RATE, None)),
        make=lambda printed: dacs(scale, mfm(replace(scale, rebuilder_learning_rate=rate(printed)))),
        label=lambda printed: f"{printed:.0e}",
        trained=lambda printed: f"{rate(printed) or scale.optimizer.learning_rate:.1e}",
    )
    return Table(name="mrm-rate", title="The Rebuilder's learning rate", axis=axis)


def architecture_table(scale: Scale) -> Table:
    """Other networks under DACS, DAFormer and MIC, each with and without MFM."""
    axis: Axis[tuple[Architecture, bool]] = Axis(
        name="architecture",
        levels=tuple(((which, added), None) for which in Architecture for added in (False, True)),
        make=lambda row: architecture(scale, row[0], *([mfm(scale)] if row[1] else [])),
        label=lambda row: f"{row[0].value}{' w/ MFM' if row[1] else ''}",
        against=lambda row: architecture(scale, row[0]) if row[1] else None,
    )
    return Table(
        name="mrm-architectures",
        title="Architectures",
        axis=axis,
        note="Each row with MFM is compared with the row above it. MIC is that on HRDA.",
    )


def study(scale: Scale) -> Study:
    """MRM's ablations at one scale."""
    architectures = architecture_table(scale)
    return Study(
        name="table_mrm",
        title="MRM's further ablations: domain, trained part, rate, architectures",
        profile=scale.name,
        program=Segmentation(),
        tables=(domain_table(scale), trains_table(scale), rate_table(scale), architectures),
        references={"DACS": dacs(scale), "MFM": dacs_mfm(scale)},
        about=ABOUT,
        needs=needs_of(scale, map(architectures.axis.make, dict(architectures.axis.levels))),
        comparable=scale.comparable,
        notes=scale.notes,
    )


STUDIES = at_each_scale(study)
