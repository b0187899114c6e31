"""The interface of an auxiliary task: what it may look at in a step, and what it gives back."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from trainables.step_data import StepView


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
