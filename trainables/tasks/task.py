"""The interface of an auxiliary task: what it may look at in a step, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainables.adaptation.teacher import MovingAverage
from trainables.step_data import StepView

if TYPE_CHECKING:
    from trainables.config import SelfTraining
    from trainables.models.segmentor import Segmentor
    from trainables.randomness import Streams

__all__ = ["AuxiliaryTask", "MovingAverage", "Shares", "StepView", "TaskSetting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSetting:
    """What a task is built into.

    Args:
        student: At its initial weights; `channels`, `strides` and `num_classes` give the shapes of features and logits.
        adaptation: The self-training that the task is added to.
        streams: Every draw.
        image_size: (rows, columns) of a training image.
        imagenet_encoder: The encoder at its ImageNet weights, or the student's own where its initial weights are these
            or stand in their place; copy it before you keep it.
    """

    student: Segmentor
    adaptation: SelfTraining
    streams: Streams
    image_size: tuple[int, int]
    imagenet_encoder: nn.Module


class Shares(Enum):
    """Whose graph a task's first term is taken on, before that graph is freed; further terms have their own."""

    NONE = "none"
    SOURCE = "source"  # the source pass's: `view.source_encoded`
    MIXED = "mixed"  # the pass of the first mixed images: `view.mixed_encoded`


class AuxiliaryTask(nn.Module):
    """One or more terms of the training loss beside L_sup and L_uda.

    Give the loss by `loss`, or several terms by `losses`. Parameters are trained with the student's and thrown away
    afterwards. They and the buffers (what a task remembers) are in the checkpoint, never in the exported model. A
    parameter without `requires_grad` is not in the optimiser: that of an EMA copy of a head, say
    (`trainables.adaptation.teacher.MovingAverage`). A buffer may begin empty and take the shape of what it holds later.

    Attributes:
        name: Key in the logs (`loss/<name>`), unlike that of any other term.
        weight: Multiplies each term: that of the settings, unless the task sets another one when it is made. A task
            whose settings have weight 0 is not built.
        start_step: First step at which the terms are evaluated.
        learning_rate: None takes the encoder's. The schedule scales it.
        learning_rate_factor: Multiplies the learning rate; 10 is usual for heads.
        weight_decay: On matrices; vectors (norms, biases, tokens) have none.
        shares: Whose graph the first term is taken on.
        notice: A sentence to the user, where the settings can be meant and should not pass unseen.
    """

    name: str
    weight: float
    start_step: int = 0
    learning_rate: float | None = None
    learning_rate_factor: float = 1.0
    weight_decay: float = 0.01
    shares: Shares = Shares.NONE
    notice: str = ""

    def loss(self, view: StepView) -> Tensor:
        """The unweighted loss of this step, a scalar with a graph."""
        raise NotImplementedError(f"{type(self).__name__} needs a method loss(view), or losses(view).")

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        """Name and unweighted loss of each term of this step; none at all is allowed.

        Each term is propagated back before the next one is asked for, so that one graph is in memory at a time, and is
        logged as `loss/<task> <name>`; their sum is `loss/<task>`. An empty name is the sum alone.
        """
        yield "", self.loss(view)

    def after_step(self, view: StepView) -> None:
        """What is done after the optimiser's step, without gradients; an EMA copy of a head follows here.

        The teacher follows the student at the beginning of a step. A copy that keeps pace with it follows with the
        momentum of the next step, `view.step + 1`.
        """

    def encoders(self) -> tuple[nn.Module, ...]:
        """Whole encoders of its own, whose passes may be compiled or recorded as those of the student are."""
        return ()
