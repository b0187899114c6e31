"""From settings to auxiliary tasks."""

from __future__ import annotations

import copy
import zlib
from typing import Any, get_args

import torch
from torch import nn

from trainables.config import (
    DropBlock,
    FeatureDistance,
    FeatureDropout,
    MaskedConsistency,
    MaskedImageModelling,
    Mfm,
    SelfTraining,
    Task,
)
from trainables.models.segmentor import Segmentor
from trainables.randomness import Streams
from trainables.tasks.feature_distance import FeatureDistanceTask
from trainables.tasks.masked_consistency import MaskedConsistencyTask
from trainables.tasks.mfm import MfmTask
from trainables.tasks.task import AuxiliaryTask


def build_tasks(
    settings: tuple[object, ...],
    adaptation: SelfTraining,
    student: Segmentor,
    streams: Streams,
    image_size: tuple[int, int],
    imagenet_encoder: nn.Module | None = None,
) -> nn.ModuleList:
    """The tasks in the order of their settings; one with weight 0 is not built, so it costs and changes nothing.

    Each task's initial weights come from a stream of its own, so that one task never moves another's.

    Args:
        settings: `Experiment.auxiliary`.
        student: At its initial weights.
        image_size: (rows, columns) of a training image.
        imagenet_encoder: What the feature distance keeps a copy of; None takes the student's encoder.
    """
    anchor = student.encoder if imagenet_encoder is None else imagenet_encoder
    tasks = nn.ModuleList()
    for one in settings:
        if getattr(one, "weight", 1.0) == 0:
            continue
        purpose = "rebuilder init" if isinstance(one, Mfm) else "task init"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(streams.torch_seed(purpose, 0, zlib.crc32(type(one).__name__.encode())))
            if type(one) in get_args(Task):
                tasks.append(_build(one, adaptation, student, image_size, anchor))  # type: ignore[arg-type]  # one of Task's
            else:
                tasks.append(_own_task(one, student, streams))
    return tasks


def _build(
    settings: Task,
    adaptation: SelfTraining,
    student: Segmentor,
    image_size: tuple[int, int],
    imagenet_encoder: nn.Module,
) -> AuxiliaryTask:
    match settings:
        case Mfm():
            return MfmTask(settings, adaptation, student, image_size)
        case FeatureDistance():
            return FeatureDistanceTask(settings, copy.deepcopy(imagenet_encoder), student.strides[-1])
        case MaskedConsistency():
            return MaskedConsistencyTask(settings, adaptation)
        case FeatureDropout():
            from trainables.tasks.feature_dropout import FeatureDropoutTask

            return FeatureDropoutTask(settings)
        case DropBlock():
            from trainables.tasks.dropblock import DropBlockTask

            return DropBlockTask(settings)
        case MaskedImageModelling():
            from trainables.tasks.masked_image import MaskedImageTask

            return MaskedImageTask(settings, student, image_size)


def _own_task(settings: Any, student: Segmentor, streams: Streams) -> AuxiliaryTask:
    """The task that settings of one's own build; that they can, `Experiment` has seen to."""
    task = settings.build(student, streams)
    if not isinstance(task, AuxiliaryTask):
        raise ValueError(
            f"{type(settings).__name__}.build must return an AuxiliaryTask, got {type(task).__name__}; "
            "derive the task from trainables.tasks.task.AuxiliaryTask."
        )
    return task
