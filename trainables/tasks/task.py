"""The interface of an auxiliary task: what it may look at in a step, and what it gives back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainables.step_data import StepView

if TYPE_CHECKING:
    from trainables.config import SelfTraining
    from trainables.models.segmentor import Segmentor
    from trainables.randomness import Streams


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


class AuxiliaryTask(nn.Module):
    """A term of the training loss beside L_sup and L_uda.

    Its parameters are trained with the student's and thrown away afterwards; they are in the checkpoint, never in the
    exported model, and have no EMA copy.

    Attributes:
        name: Key in the logs (`loss/<name>`).
        weight: Multiplies the loss; a task with weight 0 is not built.
        start_step: First step at which the term is evaluated.
        learning_rate: None takes the encoder's.
        weight_decay: On matrices; vectors (norms, biases, tokens) have none.
        shares_source: The loss is taken on the source pass's own graph (`source_encoded`), before it is freed.
    """

    name: str
    weight: float = 1.0
    start_step: int = 0
    learning_rate: float | None = None
    weight_decay: float = 0.01
    shares_source: bool = False

    @abstractmethod
    def loss(self, view: StepView) -> Tensor:
        """The unweighted loss of this step, a scalar with a graph."""

    def encoders(self) -> tuple[nn.Module, ...]:
        """Whole encoders of its own, whose passes may be compiled or recorded as those of the student are."""
        return ()
