"""The interface of an auxiliary task: what it may look at in a step, and what it gives back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from trainables.data.domains import Batch
from trainables.models.segmentor import Encoded, Segmentor
from trainables.randomness import Streams


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """The teacher's answer for the target batch.

    Args:
        label: argmax [B, H, W], int64.
        weight: DACS's q and margins [B, H, W], float32.
        confidence: Largest probability [B, H, W].
        share: q, the share of the whole batch's pixels that reach the threshold; a scalar on the device.
    """

    label: Tensor
    weight: Tensor
    confidence: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class Mixed:
    """Source classes pasted onto target images.

    Args:
        image: [B, 3, H, W], normalised, after colour augmentation.
        label: [B, H, W], int64.
        weight: [B, H, W], float32: 1 on pasted pixels, the pseudo-label's weight elsewhere.
        pasted: 1 where the source was pasted, [B, 1, H, W], bool.
    """

    image: Tensor
    label: Tensor
    weight: Tensor
    pasted: Tensor


@dataclass(frozen=True, slots=True)
class StepView:
    """What an auxiliary task sees of one training step.

    `source_encoded` is kept, with its graph, only for tasks that share the source pass.
    """

    step: int
    streams: Streams
    student: Segmentor
    teacher: Segmentor
    source: Batch
    target: Batch
    pseudo: PseudoLabel
    mixed: Mixed
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source_encoded: Encoded | None = None


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
