"""Activation checkpointing: blocks keep their inputs, and are taken again in the backward pass (Chen et al. 2016).

Losses, gradients and BatchNorm's running statistics are those of plain passes, bit for bit on a CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(encoder: nn.Module) -> None:
    """From now on, every block of an encoder keeps its input alone between its forward and its backward pass."""
    for block in blocks_of(encoder):
        block.forward = CheckpointedForward(block)


def blocks_of(encoder: nn.Module) -> list[nn.Module]:
    """The blocks that an encoder repeats: elements of its innermost lists of modules of one class, with parts of their
    own. What is chosen moves memory and time, and no number.
    """
    found = [
        block
        for part in encoder.modules()
        if isinstance(part, nn.Sequential | nn.ModuleList) and _repeats(part)
        for block in part
        if not any(isinstance(each, nn.Sequential | nn.ModuleList) and _repeats(each) for each in block.modules())
    ]
    return list(dict.fromkeys(found))


def _repeats(part: nn.Sequential | nn.ModuleList) -> bool:
    """Whether a list holds modules of one class, none of them a bare layer."""
    return len(part) > 0 and len({type(each) for each in part}) == 1 and all(any(each.children()) for each in part)


class CheckpointedForward:
    """Takes the place of a block's `forward`; passes without gradients go through as they are.

    Args:
        block: Deterministic but for torch's own random numbers, which are drawn again alike.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._forward = block.forward

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*inputs, **options)
        return checkpoint(self._forward, *inputs, use_reentrant=False, context_fn=self._contexts, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The plain `forward` of a copied block: a teacher has no backward pass."""
        return MethodType(type(self._block).forward, copy.deepcopy(self._block, memo))

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), still_statistics(self._block)


@contextmanager
def still_statistics(module: nn.Module) -> Iterator[None]:
    """Within the context, layers normalise by the batch, and neither running statistics nor their counters move."""
    layers: list[Any] = [layer for layer in module.modules() if hasattr(layer, "running_var")]
    before = [(layer.momentum, getattr(layer, "num_batches_tracked", None)) for layer in layers]
    for layer, (_, count) in zip(layers, before, strict=True):
        layer.momentum = 0.0
        if count is not None:
            layer.num_batches_tracked = None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum = momentum
            if count is not None:
                layer.num_batches_tracked = count
