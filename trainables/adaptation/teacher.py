"""The EMA teacher: a copy of the student that follows it and labels target images."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import DropPath
from torch import nn

from trainables.models.frozen_norms import BATCH_NORMS
from trainables.models.segmentor import Segmentor


class Teacher:
    """An exponential moving average of the student's parameters.

    BatchNorm running statistics are never averaged: the teacher labels with batch statistics (train mode) and its own
    running statistics move with the target batches it sees, as in the reference implementation. Dropout and drop
    path are off.

    Args:
        student: Copied; `network` has no gradients.
        momentum: alpha.
    """

    def __init__(self, student: Segmentor, momentum: float) -> None:
        self.network: Segmentor = copy.deepcopy(student).requires_grad_(False)
        self.momentum = momentum
        self.labelling_mode()

    def labelling_mode(self) -> None:
        """Batch statistics on, dropout and drop path off."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d | DropPath):
                module.eval()

    @torch.no_grad()
    def follow(self, student: Segmentor, step: int) -> None:
        """teacher := a teacher + (1 - a) student with a = min(1 - 1/(step + 1), alpha); step 0 copies."""
        a = min(1 - 1 / (step + 1), self.momentum)
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - a)


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
