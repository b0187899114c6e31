"""From settings to auxiliary tasks at their initial weights."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
from torch import nn

from trainables.tasks.task import AuxiliaryTask, TaskSetting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainables.config import Auxiliary

TAKEN = ("source", "mixed")  # names in the logs that the step itself uses


def build_tasks(auxiliary: Iterable[Auxiliary], setting: TaskSetting) -> nn.ModuleList:
    """The tasks in the order of their settings; one with weight 0 is not built, so it costs and changes nothing.

    Each task's initial weights come from a stream of its own, so that one task never moves another's.

    Args:
        auxiliary: `Experiment.auxiliary`.
        setting: What the tasks are built into.

    Raises:
        ValueError: A `build` returns no AuxiliaryTask, or a task's name is taken.
    """
    tasks = nn.ModuleList()
    for one in auxiliary:
        if one.weight == 0:
            continue
        kind = type(one)
        stream = getattr(kind, "initial_stream", "task init")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.streams.torch_seed(stream, 0, zlib.crc32(kind.__name__.encode())))
            task = one.build(setting)
        _check(task, kind.__name__, [*TAKEN, *(str(other.name) for other in tasks)])
        if not hasattr(task, "weight"):
            task.weight = one.weight
        tasks.append(task)
    return tasks


def _check(task: object, settings: str, taken: list[str]) -> None:
    if not isinstance(task, AuxiliaryTask):
        raise ValueError(
            f"{settings}.build must return an AuxiliaryTask, got {type(task).__name__}; "
            "derive the task from trainables.tasks.task.AuxiliaryTask."
        )
    name = getattr(task, "name", None)
    if not isinstance(name, str):
        raise ValueError(f"{type(task).__name__}.name must be a string, got {name!r}; it names the loss in the logs.")
    if name in taken:
        raise ValueError(
            f"{type(task).__name__}.name must be a name that no other term of the loss has, got '{name}'; "
            f"taken are {', '.join(taken)}."
        )
