"""Training at the `smoke` scale for tests of auxiliary tasks: whole trials, and one step's view to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables import tensor_file
from trainables.config import HRDA, DAFormer, Experiment, MiT, SelfTraining, ToyCity
from trainables.data.domains import open_domains
from trainables.randomness import Streams
from trainables.recipes import SMOKE, dacs
from trainables.running.initial import begin, in_layout
from trainables.running.trial import FINAL, Report, Trial
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask, TaskSetting
from trainables.training import State, self_training_step

CPU = torch.device("cpu")
FEW = ToyCity(image_size=(32, 64), source_images=8, target_images=8, validation_images=4)
SMALL_HRDA = HRDA(
    base=DAFormer(
        encoder=MiT(dims=(4, 8, 10, 16), depths=(1, 1, 1, 1), drop_path=0.0), embed_dim=8, channels=8, dropout=0.0
    ),
    detail_crop=(32, 32),
    attention_dim=8,
)


def smoke(*auxiliary: object, steps: int = 3, threshold: float = 0.0) -> Experiment:
    """DACS with tasks at the smoke scale for some steps, from random weights, evaluated once.

    Every pseudo-label counts (threshold 0): a random teacher is sure of nothing.
    """
    config = dacs(SMOKE, *auxiliary)
    return replace(
        config,
        data=FEW,
        initial=None,
        adaptation=SelfTraining(threshold=threshold),
        schedule=replace(config.schedule, steps=steps),
        evaluation=replace(config.evaluation, interval=steps),
    )


def with_hrda(config: Experiment) -> Experiment:
    """The same with a tiny HRDA on images of 64 x 64."""
    return replace(config, network=SMALL_HRDA, data=replace(FEW, image_size=(64, 64)))


def train(config: Experiment, folder: Path, *, shared: Path | None = None) -> tuple[Report, dict[str, Tensor]]:
    """One whole trial: its last report, and the final student (empty where there is none)."""
    trial = Trial(config, seed=0, folder=str(folder / "trial"), shared=str(shared or folder / "shared"), data={})
    report = trial.advance()
    while report["outcome"] is None:
        report = trial.advance()
    trial.close()
    final = folder / "trial" / FINAL
    return report, tensor_file.load(final)[0] if final.exists() else {}


def started(config: Experiment, streams: Streams | None = None) -> State:
    """The state after step 0, whose view is in `state.last`; gradients are cleared."""
    state = stepped(config, streams)
    state.optimizer.zero_grad(set_to_none=True)
    return state


def stepped(config: Experiment, streams: Streams | None = None) -> State:
    """The state after step 0, with the gradients of that step."""
    streams = streams or Streams(0)
    domains = open_domains(config, {}, CPU)
    state = begin(config, streams, domains, Path("/nonexistent"), {}, CPU)
    assert isinstance(config.adaptation, SelfTraining)
    source = in_layout(domains.source(streams, 0, config.batch_size), config)
    target = in_layout(domains.target(streams, 0, config.batch_size), config)
    self_training_step(state, config.adaptation, source, target)
    return state


def view_and_task(config: Experiment, streams: Streams | None = None) -> tuple[StepView, AuxiliaryTask]:
    """A step's view and the config's only task."""
    state = started(config, streams)
    (task,) = state.tasks
    assert isinstance(task, AuxiliaryTask)
    assert state.last is not None
    return state.last, task


def reached(module: nn.Module) -> set[str]:
    """Names of the parameters with a gradient that is not 0 everywhere."""
    return {name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.count_nonzero())}


def names(module: nn.Module) -> set[str]:
    """Names of all parameters."""
    return {name for name, _ in module.named_parameters()}


class NotANumber(AuxiliaryTask):
    """A task whose loss is NaN at one step."""

    name = "nan"

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def loss(self, view: StepView) -> Tensor:
        weight = next(view.student.parameters()).flatten()[0]
        return weight * (float("nan") if view.step == self.at else 0.0)


@dataclass(frozen=True)
class Own:
    """Settings of a task of one's own."""

    make: Callable[[TaskSetting], object] = field(metadata={"identity": False})
    weight: float = 1.0

    def build(self, setting: TaskSetting) -> object:
        """The task."""
        return self.make(setting)
