"""Contrast of pixels with the classes of both domains as an auxiliary task: SePiCo (Xie et al., TPAMI 2023).

Its recipe has two parts beside the loss, which are settings of self-training: `SelfTraining.augment_source` and
`SelfTraining.class_crop`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from mfm_tune.fields import AtLeast1, NotNegative, Positive, Settings, UnitInterval

if TYPE_CHECKING:
    from trainables.tasks.task import AuxiliaryTask, TaskSetting


class ClassModel(Enum):
    """What a class is to the loss."""

    DISTRIBUTION = "distribution"  # mean and diagonal variance of its features (DistCL)
    PROTOTYPE = "prototype"  # their mean (ProtoCL)
    BANK = "bank"  # means of the latest steps (BankCL)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassContrast(Settings):
    """Pull embeddings of source and target cells to their class, push them from the others.

    A source term on the source pass's graph, and a target term on a pass of its own, with the teacher's labels. At the
    released temperature the three models of a class are one loss to rounding, and its gradient at the encoder is about
    1/2000 of the cross-entropy's: what a run gains over DACS it most likely gains by its recipe, so compare it with
    `recipes.sepico_control`.

    Args:
        weight: Of each of the two terms.
        model: See the enum.
        temperature: Divides products of unit vectors.
        diversity: Weight of the regulariser, 1 as released. At the released temperature it does nothing, and as
            released, minimising it moves away from an even mix of classes.
        dim: Channels of the embedding.
        hidden: Of the projection's first layer; None is as many as it reads.
        min_share: Of a cell's pixels that its class must fill; other cells do not count.
        bank_steps: Steps whose means a bank holds.
        start: Share of the run before the terms begin; statistics are kept from the first step on.
        learning_rate_factor: The projection's learning rate over the encoder's.
    """

    weight: NotNegative = 1.0
    model: ClassModel = ClassModel.DISTRIBUTION
    temperature: Positive = 100.0
    diversity: NotNegative = 0.0
    dim: AtLeast1 = 512
    hidden: AtLeast1 | None = None
    min_share: UnitInterval = 0.75
    bank_steps: AtLeast1 = 200
    start: UnitInterval = 0.075
    learning_rate_factor: Positive = 10.0

    def as_released(self) -> ClassContrast:
        """The same with every habit of the released code."""
        return replace(self, diversity=1.0)

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.class_contrast`)."""
        from trainables.tasks.class_contrast import ClassContrastTask

        return ClassContrastTask(self, setting)
