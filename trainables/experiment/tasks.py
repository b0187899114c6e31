"""Auxiliary tasks: terms of the loss beside the source and the mixed term."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    BelowOne,
    IntRange,
    NotNegative,
    Number,
    Positive,
    Settings,
    Size,
    UnitInterval,
)

if TYPE_CHECKING:
    from trainables.tasks.task import AuxiliaryTask, TaskSetting


class Auxiliary(Protocol):
    """Settings of an auxiliary task: a frozen dataclass with a weight and a `build` of its own.

    `build` imports what it makes late, so that declaring a config needs no torch (docs/own-task.md).
    """

    @property
    def weight(self) -> float:
        """Multiplies the task's loss; a task with weight 0 is not built."""

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task at its initial weights, drawn from torch's global generator, which the caller has seeded."""


Task = Auxiliary


class Objective(Enum):
    """What MFM learns from rebuilt features (Table 2(e))."""

    PIXEL_CLASSIFICATION = "pixel cls."
    PIXEL_RECONSTRUCTION = "pixel rec. (w/ norm)"
    FEATURE_TEACHER = "feature rec. (w/ teacher)"
    FEATURE_STUDENT = "feature rec. (w/o teacher)"


class MaskDraw(Enum):
    """How a keep-mask is drawn: each cell alone (the authors' module), or an exact count an image (MAE, the text)."""

    BERNOULLI = "bernoulli"
    EXACT = "exact"


class Projector(Enum):
    """Multi-scale projector: one branch a stage (the authors' module), or a chain (the paper's Figure 3(b))."""

    PARALLEL = "parallel"
    CHAIN = "chain"


class Position(Enum):
    """Positional embedding of the tokens."""

    SINCOS = "sincos"
    LEARNED = "learned"


class Downscale(Enum):
    """How features are resized to the grid."""

    BILINEAR = "bilinear"
    AREA = "area"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilder(Settings):
    """The module that rebuilds masked features (Figures 2 and 3; readings 7 to 11).

    Args:
        dim: Width C' of the tokens; projector widths are dim/2 and dim/4.
        blocks: Transformer blocks.
        heads: Attention heads; divides dim.
        projector, position, downscale: See the enums.
        learning_rate: None takes the encoder's (reading 15).
        weight_decay: On matrices; norms, biases and the mask token have none.
    """

    dim: Annotated[int, IntRange(4, step=4)] = 512
    blocks: AtLeast0 = 2
    heads: AtLeast1 = 16
    projector: Projector = Projector.PARALLEL
    position: Position = Position.SINCOS
    downscale: Downscale = Downscale.BILINEAR
    learning_rate: Positive | None = None
    weight_decay: NotNegative = 0.01

    def _check_together(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"Rebuilder.dim must be a multiple of heads, got {self.dim} with {self.heads} heads.")


class MfmInput(Enum):
    """Which image MFM encodes (reading 1); source images have their labels in the place of pseudo-labels."""

    TARGET = "target"
    MIXED = "mixed"
    MIXED_SHARED = "mixed, shared pass"  # features of the mixed pass itself: no second encoder pass
    TARGET_AUGMENTED = "target augmented"
    SOURCE = "source"
    BOTH = "source and target"  # a term each, with a mask each


class LabelWeight(Enum):
    """Weight of the pseudo-labels in MFM's cross-entropy (reading 3)."""

    CONFIDENCE = "q"  # DACS's q and margins
    NONE = "none"
    PIXEL = "pixel"  # 1 where the teacher's probability reaches the threshold


class LossRegion(Enum):
    """Where MFM's loss is taken (reading 4)."""

    ALL = "all"
    MASKED = "masked"


class AttentionSource(Enum):
    """Which features HRDA's attention sees in the MFM pass (reading 23)."""

    REBUILT = "rebuilt"
    ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mfm(Settings):
    """Masked Feature Modeling: mask encoder features, rebuild them, and learn from the result (Eq. 4 to 7).

    Args:
        weight: lambda of Eq. 5; at 0 the term is not evaluated.
        ratio: Share of masked cells; 0 masks nothing (an extra pseudo-label pass).
        grid: (rows, columns) of the mask, H' and W'.
        rebuilder: None fills masked features with zeros (Table 2(c), "Masking").
        objective: Table 2(e).
        draw: How the mask is drawn (reading 5).
        input: Which image is encoded (reading 1).
        detach_encoder: Stop the gradient at the features, so that the term trains the decoder alone (reading 2).
        detach_decoder: Leave the decoder's parameters out, so that the term trains the encoder alone. The Rebuilder
            learns in either case.
        label_weight: Weight of pseudo-labels (reading 3).
        region: Pixels that count (reading 4).
        freeze_statistics: BatchNorm normalises by the batch but does not move its running statistics (reading 18).
        attention: HRDA only (reading 23).
        start_step: First step with the term (reading 17).
    """

    weight: NotNegative = 1.0
    ratio: BelowOne = 0.4
    grid: Annotated[tuple[int, int], Size()] = (16, 16)
    rebuilder: Rebuilder | None = field(default_factory=Rebuilder)
    objective: Objective = Objective.PIXEL_CLASSIFICATION
    draw: MaskDraw = MaskDraw.BERNOULLI
    input: MfmInput = MfmInput.TARGET
    detach_encoder: bool = False
    label_weight: LabelWeight = LabelWeight.CONFIDENCE
    region: LossRegion = LossRegion.ALL
    freeze_statistics: bool = False
    attention: AttentionSource = AttentionSource.REBUILT
    start_step: AtLeast0 = 0
    detach_decoder: bool = field(default=False, metadata={"identity": "when set"})

    initial_stream: ClassVar[str] = "rebuilder init"  # what its initial weights are drawn from

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.mfm`)."""
        from trainables.tasks.mfm import MfmTask

        return MfmTask(self, setting.adaptation, setting.student, setting.image_size)

    def _check_together(self) -> None:
        if self.rebuilder is None and self.objective is not Objective.PIXEL_CLASSIFICATION:
            raise ValueError(
                f"Mfm.objective must be 'pixel cls.' where rebuilder is None, got '{self.objective.value}'; "
                "give a Rebuilder, which the reconstruction objectives train."
            )
        if self.detach_decoder and self.objective is not Objective.PIXEL_CLASSIFICATION:
            raise ValueError(
                f"Mfm.detach_decoder must be False with the objective '{self.objective.value}', which never reaches "
                "the decoder."
            )
        if self.detach_decoder and self.detach_encoder:
            raise ValueError(
                "Mfm.detach_encoder and Mfm.detach_decoder must not both be True, or the term trains no part of the "
                "network; set one of the two."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDistance(Settings):
    """DAFormer's thing-class feature distance to the ImageNet encoder.

    Where the network starts from random weights, source pre-training takes the place of ImageNet weights, here too.

    Args:
        weight: 0.005 in the paper.
        min_ratio: A feature cell counts where one thing class fills at least this share of it.
        classes: trainIds of the thing classes.
    """

    weight: NotNegative = 0.005
    min_ratio: Annotated[float, Number(0, 1, open_low=True)] = 0.75
    classes: tuple[Annotated[int, IntRange(0, 254)], ...] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.feature_distance`)."""
        from trainables.tasks.feature_distance import FeatureDistanceTask

        student = setting.student
        encoder = copy.deepcopy(setting.imagenet_encoder)
        return FeatureDistanceTask(self, encoder, student.strides[-1], student.num_classes)


class MaskedView(Enum):
    """Which image masked image consistency sees (the reference's `separatetrg`, `separatetrgaug`, `separate`)."""

    TARGET = "target"
    TARGET_AUGMENTED = "target augmented"
    SOURCE_AND_TARGET = "source and target"


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedConsistency(Settings):
    """MIC: predict pseudo-labels from an image with masked blocks (Hoyer et al. 2023)."""

    weight: NotNegative = 1.0
    ratio: UnitInterval = 0.7
    block: AtLeast1 = 32  # pixels; 64 for 1024 x 1024
    view: MaskedView = MaskedView.TARGET_AUGMENTED

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.masked_consistency`)."""
        from trainables.tasks.masked_consistency import MaskedConsistencyTask

        return MaskedConsistencyTask(self, setting.adaptation)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDropout(Settings):
    """Dropout2d on the features of a target pass with pseudo-labels: whole channels are zeroed."""

    weight: NotNegative = 1.0
    probability: BelowOne = 0.4

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.feature_dropout`)."""
        from trainables.tasks.feature_dropout import FeatureDropoutTask

        return FeatureDropoutTask(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DropBlock(Settings):
    """DropBlock on the features of a target pass with pseudo-labels (Ghiasi et al. 2018)."""

    weight: NotNegative = 1.0
    probability: BelowOne = 0.4  # 1 - keep_prob
    block: AtLeast1 = 3  # feature cells

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.dropblock`)."""
        from trainables.tasks.dropblock import DropBlockTask

        return DropBlockTask(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedImageModelling(Settings):
    """Masked image modelling as a task: predict normalised pixels of masked patches (the paper's Figure 1(b))."""

    weight: NotNegative = 1.0
    ratio: BelowOne = 0.6
    patch: AtLeast1 = 32  # pixels of what the encoder sees

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        """The task (`trainables.tasks.masked_image`)."""
        from trainables.tasks.masked_image import MaskedImageTask

        return MaskedImageTask(self, setting.student, setting.image_size)
