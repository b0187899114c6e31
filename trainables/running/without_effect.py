"""Settings that change nothing in the network that was built: their rows repeat the rows without them."""

from __future__ import annotations

from collections.abc import Iterator

from trainables.config import AttentionSource, Experiment, Mfm, MfmInput, Objective, SourceOnly
from trainables.models.frozen_norms import moving_norms
from trainables.models.segmentor import Segmentor


def without_effect(config: Experiment, student: Segmentor) -> Iterator[str]:
    """A sentence for each; what settings tell by themselves they refuse when they are made.

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
    if mfm.attention is AttentionSource.ORIGINAL and type(student).draw_box is Segmentor.draw_box:
        yield f"Mfm.attention has no effect on {network}, which sees an image at one resolution; leave it out."


def _moves_norms(mfm: Mfm, student: Segmentor) -> bool:
    """Whether the term passes images or features through BatchNorm that moves."""
    encodes = mfm.input is not MfmInput.MIXED_SHARED
    decodes = mfm.objective is Objective.PIXEL_CLASSIFICATION
    return bool((encodes and moving_norms(student.encoder)) or (decodes and moving_norms(student.decoder)))
