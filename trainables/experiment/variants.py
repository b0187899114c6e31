"""Scales made of others: with the second source, or with BatchNorm; and their parts that not every scale has."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from trainables.config import Data, Norm, PackedPair, SmallDeepLab, SourceDataset, SourceStyle, ToyCity
from trainables.experiment.scales import (
    SYNTHIA_RARE,
    TOY_RARE_OF_BOTH,
    DAFormerScale,
    PiPaScale,
    Scale,
    SePiCoScale,
)

P = TypeVar("P")


def from_synthia(scale: Scale) -> Scale:
    """The scale with the second source: SYNTHIA in GTA's place, or ToyCity's second style.

    SYNTHIA's images of 760 x 1280 keep their size, or are doubled for HRDA.
    """
    own = scale.daformer
    return replace(
        scale,
        data=_from_synthia(scale.data),
        daformer=None if own is None else _second(own),
        rare_patches=TOY_RARE_OF_BOTH if isinstance(scale.data, ToyCity) else SYNTHIA_RARE,
        needs=tuple(SourceDataset.SYNTHIA.value if name == SourceDataset.GTA.value else name for name in scale.needs),
    )


def _second(own: DAFormerScale) -> DAFormerScale:
    pipa, sepico = own.pipa, own.sepico
    return replace(
        own,
        hrda_data=_from_synthia(own.hrda_data),
        pipa=None if pipa is None else replace(pipa, data=_from_synthia(pipa.data)),
        sepico=None if sepico is None else replace(sepico, data=_from_synthia(sepico.data)),
    )


def _from_synthia(data: Data) -> Data:
    match data:
        case ToyCity():
            return replace(data, source=SourceStyle.DIORAMA)
        case PackedPair(source_size=(_, columns)):
            return replace(data, source=SourceDataset.SYNTHIA, source_size=(columns * 760 // 1280, columns))
        case _:
            raise ValueError(
                f"Scale.data must be ToyCity or PackedPair for SYNTHIA as the source, got {type(data).__name__}."
            )


def daformer_scale(scale: Scale) -> DAFormerScale:
    """The networks and sizes that stand for those of DAFormer, HRDA and MIC at a scale.

    Raises:
        ValueError: The scale has none.
    """
    if scale.daformer is None:
        raise ValueError(
            f"Scale.daformer must be given for DAFormer, HRDA and MIC, got None in scale '{scale.name}'; say there "
            "which networks and sizes stand for theirs."
        )
    return scale.daformer


def pipa_scale(scale: Scale) -> PiPaScale:
    """PiPa's setting at a scale.

    Raises:
        ValueError: The scale has none.
    """
    return _given(daformer_scale(scale).pipa, "pipa", "PiPa", scale)


def sepico_scale(scale: Scale) -> SePiCoScale:
    """SePiCo's setting at a scale.

    Raises:
        ValueError: The scale has none.
    """
    return _given(daformer_scale(scale).sepico, "sepico", "SePiCo", scale)


def _given(part: P | None, field: str, method: str, scale: Scale) -> P:
    if part is None:
        raise ValueError(
            f"DAFormerScale.{field} must be given for {method}, got None in scale '{scale.name}'; give its images and "
            "terms."
        )
    return part


def with_batch_norm(scale: Scale) -> Scale:
    """The embedded benchmark's BatchNorm variant, where the statistics explain most of the gap between the domains.

    Raises:
        ValueError: The scale's network has no such variant.
    """
    if not isinstance(scale.network, SmallDeepLab):
        raise ValueError(
            f"Scale.network must be a SmallDeepLab for the BatchNorm variant, got {type(scale.network).__name__}, "
            "whose norms are what they are."
        )
    return replace(scale, network=replace(scale.network, norm=Norm.BATCH))
