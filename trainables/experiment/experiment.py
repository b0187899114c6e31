"""One complete training run."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from mfm_tune.fields import (
    AtLeast1,
    Settings,
    takes,
)
from trainables.experiment.adaptation import Adaptation, SelfTraining
from trainables.experiment.data import Data, RareClassSampling, SourceHoldout
from trainables.experiment.kinds import AnyNetwork
from trainables.experiment.networks import Initial
from trainables.experiment.tasks import Mfm
from trainables.experiment.training import SGD, AdamW, Evaluation, Execution, Schedule
from trainables.experiment.weights import Pretrained, published_encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment(Settings):
    """One complete training run, but for its seed.

    Args:
        data: Source and target, sizes and crops.
        network: Encoder and head, shipped or one's own.
        initial: What training starts from: drawn weights, published ones, or a pre-training on the source.
        adaptation: Source-only, self-training (DACS and what is built on it), or the target-supervised oracle.
        auxiliary: Settings of auxiliary tasks, MFM among them, in the order in which their losses are added.
        rare_class_sampling: Draws source images that show rare classes more often (DAFormer); None: all alike.
        optimizer: With learning rates of encoder and head.
        schedule: Steps, warm-up, decay.
        batch_size: Source images of a step, and as many target images.
        evaluation: How often, on which sizes, by sliding windows or not.
        execution: Precision, CUDA graphs, compilation, checkpoints of activations: how a step is carried out.
        source_holdout: Share of the source that is not trained on, for criteria without target labels.

    Raises:
        ValueError: A field is out of its range, or two do not go together.
    """

    data: Data
    network: AnyNetwork
    initial: Initial
    adaptation: Adaptation
    auxiliary: tuple[Any, ...] = ()
    rare_class_sampling: RareClassSampling | None = None
    optimizer: AdamW | SGD = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    batch_size: AtLeast1 = 2
    evaluation: Evaluation = field(default_factory=Evaluation)
    execution: Execution = field(default_factory=Execution)
    source_holdout: SourceHoldout | None = field(default=None, metadata={"identity": "when set"})

    def _check_together(self) -> None:
        if isinstance(self.initial, Pretrained):
            published_encoder(self.network)  # which refuses a network without one
        _check_crops(self)
        kinds = [type(task) for task in self.auxiliary]
        for kind, task in zip(kinds, self.auxiliary, strict=True):
            if not (is_dataclass(task) and hasattr(task, "weight")):
                raise ValueError(
                    "Experiment.auxiliary must hold settings of auxiliary tasks (frozen dataclasses with a weight), "
                    f"got {task!r}."
                )
            _check_build(task)
            if kinds.count(kind) > 1:
                raise ValueError(f"Experiment.auxiliary holds {kind.__name__} twice; give each task once.")
        if self.auxiliary and not isinstance(self.adaptation, SelfTraining):
            raise ValueError(
                f"Experiment.auxiliary must be empty with {type(self.adaptation).__name__}, got "
                f"{kinds[0].__name__}; auxiliary tasks learn from a teacher's pseudo-labels, so use SelfTraining."
            )

    @property
    def mfm(self) -> Mfm | None:
        """The settings of MFM, or None."""
        return next((task for task in self.auxiliary if isinstance(task, Mfm)), None)


def _check_crops(config: Experiment) -> None:
    """See that source and target end in the same size, as mixing wants them."""
    crop = config.adaptation.class_crop if isinstance(config.adaptation, SelfTraining) else None
    size = config.data.training_size
    if crop is not None and crop.size != size:
        raise ValueError(
            f"SelfTraining.class_crop.size must be that of the source's training images, {size[0]}x{size[1]} pixels, "
            f"got {crop.size[0]}x{crop.size[1]}."
        )
    if crop is None and getattr(config.data, "target_crop", None) not in (None, size):
        raise ValueError(
            "PackedPair.target_crop differs from crop_size, and nothing crops target images once more; set "
            "SelfTraining.class_crop, or leave target_crop out."
        )


def _check_build(task: object) -> None:
    """See that settings of a task build it themselves: a `build` that is inherited makes the parent's task."""
    kind = type(task)
    own = vars(kind).get("build")
    if not callable(own):
        raise ValueError(
            f"Experiment.auxiliary holds a {kind.__name__}, which has no method build(setting) of its own; "
            "give it one that returns an AuxiliaryTask."
        )
    if not takes(task.build, ["setting"]):  # type: ignore[attr-defined]
        raise ValueError(
            f"Experiment.auxiliary holds a {kind.__name__}, whose method is build{inspect.signature(own)}; "
            "define it as build(self, setting), with the student, the streams and more in a TaskSetting."
        )
