"""A pseudo-label pass over the target whose features are edited between encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from trainables.models.segmentor import Encoded, Segmentor
from trainables.step_data import StepView


def edited_target_loss(view: StepView, edit: Callable[[Tensor], Tensor]) -> Tensor:
    """CE(D(edit(E(x_t))), pseudo-label) with the pseudo-labels' weights, a scalar with a graph.

    HRDA's loss is the sum of its fused and its detail term, and its attention sees the edited context.

    Args:
        view: The step.
        edit: From the features of one stage [B, C, h, w] to other features of that shape; called for each stage that
            the decoder reads, fine to coarse, HRDA's context before its detail.
    """
    student, image = view.student, view.target.image
    encoded = student.encode(image, view.box(image))
    outputs = student.decode(with_edited_stages(student, encoded, edit))
    return student.loss(outputs, view.pseudo.label, view.pseudo.weight).total()


def with_edited_stages(student: Segmentor, encoded: Encoded, edit: Callable[[Tensor], Tensor]) -> Encoded:
    """The encoded value with each stage that the decoder reads replaced by `edit` of it."""
    read = student.decoded_stages
    return encoded.with_pyramids(
        tuple(
            tuple(edit(stage) if index in read else stage for index, stage in enumerate(pyramid))
            for pyramid in encoded.pyramids
        )
    )
