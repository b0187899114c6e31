"""Masked Feature Modeling with encoders of today, under two recipes: that of DACS, and VFM-UDA for foundation models.

The paper stops at MiT-B5. Does a gain remain where the encoder already knows the target's world? Each row with MFM is
compared with the same encoder and recipe without it. At the paper's scale the encoders start from their published
weights (ImageNet-22k, DINOv2), which lie in the hub's cache or are fetched by `--download`; at the others they are
timm's smallest of the same families.

    python -m mfm_tune.run search_spaces/encoders.py --plan
    python -m mfm_tune.run search_spaces/encoders.py --only encoders-dacs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from mfm_tune.space import Axis, Study, Table
from trainables.config import (
    AdamW,
    DAFormerHead,
    Data,
    Experiment,
    FeatureDistance,
    ImageNetWeights,
    Margins,
    MaskedConsistency,
    Pretrained,
    RareClassSampling,
    Segmenter,
    SelfTraining,
    Timm,
)
from trainables.program import Segmentation
from trainables.recipes import Scale, at_each_scale, dacs, hrda, mfm


class Family(Enum):
    """What an encoder is, and what it was trained on."""

    CONVNEXT = "ConvNeXt"
    DINOV2 = "DINOv2 ViT"


Row = tuple[Family, bool]  # and whether MFM is added
PUBLISHED = {
    Family.CONVNEXT: Timm("convnext_base.fb_in22k"),
    Family.DINOV2: Timm("vit_base_patch14_dinov2.lvd142m", patch=16),  # whole strides of crops of 512 and 1024
}
SMALL = {Family.CONVNEXT: Timm("test_convnext"), Family.DINOV2: Timm("test_vit", patch=8)}
VFM_UDA_TEMPERATURE, VFM_UDA_BATCH = 0.05, 4  # of rare classes; times DACS's batch
MOMENTUM = 0.999  # of the teacher
VFM_RATE = 1.41e-5  # 5e-5 times the root of 8 images for the decoder, a tenth of it for the encoder
SMALL_SHARE = 0.25  # no thing of the embedded benchmark fills 3/4 of a cell at stride 32
RANDOM = (
    "The encoders are timm's smallest of their families at random weights, with source pre-training in the place of "
    "foundation weights: what is compared is MFM on such features, not what they know."
)


def encoder_of(scale: Scale, family: Family) -> Timm:
    """The published encoder at the paper's scale, a small random one at the others."""
    return (PUBLISHED if scale.published else SMALL)[family]


def with_encoder(scale: Scale, family: Family, data: Data, optimizer: AdamW) -> Scale:
    """The scale with the encoder under DAFormer's head; H' = W' = 16 are the positions of its last stage."""
    own = scale.daformer
    assert own is not None
    like = own.network
    head = DAFormerHead(embed_dim=like.embed_dim, channels=like.channels, rates=like.rates, dropout=like.dropout)
    rows, columns = data.training_size
    return replace(
        scale,
        network=Segmenter(encoder=encoder_of(scale, family), head=head),
        initial=Pretrained() if scale.published else own.initial,
        optimizer=optimizer,
        native_grid=(rows // 8, columns // 8),
    )


def dacs_row(scale: Scale, row: Row) -> Experiment:
    """DACS's recipe with the optimiser of a Mix Transformer."""
    assert scale.daformer is not None
    on = with_encoder(scale, row[0], scale.data, scale.daformer.optimizer)
    return dacs(on, *([mfm(on)] if row[1] else []))


def vfm_uda(scale: Scale, *auxiliary: object, share: float = 0.75) -> Experiment:
    """VFM-UDA (Englert et al., CVPRW 2024) on the scale's own network: MIC's step at one resolution, without HRDA.

    HRDA's crops, source CE, ClassMix and masked images; rare classes at T = 0.05; no pseudo-labels in 3 % of the image
    at the top and the sides and 25 % at the bottom; four times the batch (8 + 8). Not as published: blocks of the image
    are masked instead of tokens (as VFM-UDA++ does), one teacher pass labels (there the mean with the mirror image's),
    plain images are not augmented and pasted pixels without a class weigh 1 (there 0), the source's cross-entropy is a
    mean over all pixels (there over labelled ones), the rate warms up as DAFormer's does, and the feature distance,
    DAFormer's to the encoder's initial weights, is that of a configuration beside its main one.

    Args:
        share: Of a cell, which one thing class must fill to count for the feature distance.
    """
    own = scale.daformer
    assert own is not None
    size = own.hrda_data.evaluation_size
    side, bottom = round(0.03 * size[1]), round(0.25 * size[0])
    margins = Margins(top=round(0.03 * size[0]), bottom=bottom, left=side, right=side, of_size=size)
    return replace(
        hrda(scale),
        network=scale.network,
        initial=scale.initial,
        adaptation=SelfTraining(threshold=scale.threshold, momentum=MOMENTUM, margins=margins),
        auxiliary=(
            FeatureDistance(classes=own.things, min_ratio=share),
            MaskedConsistency(block=own.mask_block),
            *auxiliary,
        ),
        rare_class_sampling=RareClassSampling(
            temperature=VFM_UDA_TEMPERATURE, min_pixels=own.rare_pixels, min_crop_ratio=2.0
        ),
        optimizer=scale.optimizer,
        batch_size=VFM_UDA_BATCH * scale.batch_size,
    )


def vfm_row(scale: Scale, row: Row) -> Experiment:
    """VFM-UDA's recipe; the rates of the small encoders, which know nothing yet, are DAFormer's at their scale."""
    own = scale.daformer
    assert own is not None
    rates = AdamW(learning_rate=VFM_RATE) if scale.published else own.optimizer
    on = with_encoder(scale, row[0], own.hrda_data, replace(rates, decay_norms=True))
    return vfm_uda(on, *([mfm(on)] if row[1] else []), share=0.75 if scale.published else SMALL_SHARE)


def table(scale: Scale, name: str, title: str, make: Callable[[Scale, Row], Experiment]) -> Table:
    """Every encoder with and without MFM under one recipe."""
    axis: Axis[Row] = Axis(
        name=name,
        levels=tuple(((family, added), None) for family in Family for added in (False, True)),
        make=lambda row: make(scale, row),
        label=lambda row: f"{row[0].value}{' w/ MFM' if row[1] else ''}",
        trained=lambda row: encoder_of(scale, row[0]).name,
        against=lambda row: make(scale, (row[0], False)) if row[1] else None,
    )
    return Table(name=name, title=title, axis=axis, note="Each row with MFM is compared with the row above it.")


def study(scale: Scale) -> Study:
    """Both recipes at one scale."""
    weights = {each.value for each in ImageNetWeights}
    return Study(
        name="encoders",
        title="MFM with encoders of today",
        profile=scale.name,
        program=Segmentation(),
        tables=(
            table(scale, "encoders-dacs", "DACS's recipe", dacs_row),
            table(scale, "encoders-vfm-uda", "VFM-UDA's recipe: masked images, feature distance", vfm_row),
        ),
        needs=tuple(name for name in scale.needs if name not in weights),
        comparable=(*scale.comparable, *([] if scale.published else [RANDOM])),
        notes=scale.notes,
    )


STUDIES = at_each_scale(study)
