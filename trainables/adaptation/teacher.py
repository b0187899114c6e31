"""Moving averages of modules: the EMA teacher, which labels target images, and copies of a task's own head."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar

import torch
from timm.layers import DropPath
from torch import nn

from trainables.models.frozen_norms import BATCH_NORMS
from trainables.models.segmentor import Segmentor

M = TypeVar("M", bound=nn.Module)
DROPPING = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(DropPath, nn.MultiheadAttention),  # the last one drops weights of its attention
)


class MovingAverage(nn.Module, Generic[M]):
    """An exponential moving average (EMA) of a module's parameters, in a copy that is called like the module.

    The copy has no gradients. In train mode it has batch statistics, as in the reference implementation, and neither
    dropout nor drop path. BatchNorm running statistics are never averaged; the copy's own move with the batches that it
    sees. A task that keeps one of a head of its own has it in the checkpoint, and not in the optimiser; it follows the
    head in `AuxiliaryTask.after_step`.

    Args:
        module: Copied.
        momentum: alpha.
    """

    network: M

    def __init__(self, module: M, momentum: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(module).requires_grad_(False)
        self.momentum = momentum
        self.train()

    def forward(self, *inputs: Any) -> Any:
        """What the copy gives."""
        return self.network(*inputs)

    def train(self, mode: bool = True) -> Self:
        """As of any module, with dropout and drop path off."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, DROPPING):
                module.eval()
        return self

    @torch.no_grad()
    def follow(self, module: M, step: int) -> None:
        """copy := a copy + (1 - a) module with a = min(1 - 1/(step + 1), alpha); step 0 copies."""
        a = min(1 - 1 / (step + 1), self.momentum)
        torch._foreach_lerp_(list(self.network.parameters()), list(module.parameters()), 1 - a)


Teacher = MovingAverage[Segmentor]  # the student's moving average, which labels target images


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within the context, BatchNorm layers normalise by the batch without moving their running statistics."""
    layers = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
