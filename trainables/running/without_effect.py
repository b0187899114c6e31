"""Settings that change nothing in the network that was built: their rows repeat the rows without them."""

from __future__ import annotations

from collections.abc import Iterator

from trainables.config import (
    AttentionSource,
    Experiment,
    LabelWeight,
    LossRegion,
    Mfm,
    MfmInput,
    Objective,
    SourceOnly,
)
from trainables.models.frozen_norms import moving_norms
from trainables.models.segmentor import Segmentor


def without_effect(config: Experiment, student: Segmentor) -> Iterator[str]:
    """A sentence for each.

    Args:
        config: What is trained.
        student: Built from it, in training mode.
    """
    network = type(config.network).__name__
    adaptation, mfm = config.adaptation, config.mfm
    if isinstance(adaptation, SourceOnly) and adaptation.adapt_statistics is not None and not moving_norms(student):
        yield f"SourceOnly.adapt_statistics has no effect on {network}, in which no BatchNorm moves; leave it out."
    if mfm is None or mfm.weight == 0:
        return
    if mfm.freeze_statistics and not _moves_norms(mfm, student):
        yield f"Mfm.freeze_statistics has no effect on {network}, in which the term moves no BatchNorm; leave it out."
    for name in unread(mfm):
        yield (
            f"Mfm.{name} has no effect with the objective '{mfm.objective.value}' and the input '{mfm.input.value}'; "
            "leave it out."
        )
    classifies, at_once = mfm.objective is Objective.PIXEL_CLASSIFICATION, type(student).draw_box is Segmentor.draw_box
    if mfm.attention is AttentionSource.ORIGINAL and classifies and at_once:
        yield f"Mfm.attention has no effect on {network}, which sees an image at one resolution; leave it out."


def unread(mfm: Mfm) -> Iterator[str]:
    """The fields that the term does not read, but for their defaults: those of pixel classification where it
    reconstructs, and the weight of pseudo-labels where labels are true."""
    reconstructs = mfm.objective is not Objective.PIXEL_CLASSIFICATION
    if mfm.label_weight is not LabelWeight.CONFIDENCE and (reconstructs or mfm.input is MfmInput.SOURCE):
        yield "label_weight"
    if reconstructs and mfm.region is not LossRegion.ALL:
        yield "region"
    if reconstructs and mfm.attention is not AttentionSource.REBUILT:
        yield "attention"


def _moves_norms(mfm: Mfm, student: Segmentor) -> bool:
    """Whether the term passes images or features through BatchNorm that moves."""
    encodes = mfm.input is not MfmInput.MIXED_SHARED
    decodes = mfm.objective is Objective.PIXEL_CLASSIFICATION
    return bool((encodes and moving_norms(student.encoder)) or (decodes and moving_norms(student.decoder)))
