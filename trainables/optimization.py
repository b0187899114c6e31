"""Parameter groups, optimiser and learning-rate schedule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainables.config import SGD, AdamW, Schedule
from trainables.models.frozen_norms import BATCH_NORMS
from trainables.models.segmentor import Segmentor
from trainables.tasks.task import AuxiliaryTask

Group = dict[str, Any]
NORMS = (*BATCH_NORMS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def learning_rate_factor(schedule: Schedule, step: int) -> float:
    """Share of the base learning rate at a step (from 0): polynomial decay to 0 times a linear warm-up.

    mmcv's `poly` policy with `linear` warm-up: (1 - t/T)^power * [1 - (1 - t/W)(1 - ratio)] while t < W.
    """
    decay = (1 - step / schedule.steps) ** schedule.power
    if step >= schedule.warmup_steps:
        return float(decay)
    return float(decay * (1 - (1 - step / schedule.warmup_steps) * (1 - schedule.warmup_ratio)))


def parameter_groups(student: Segmentor, tasks: Iterable[AuxiliaryTask], settings: AdamW | SGD) -> list[Group]:
    """Groups of parameters; `base` is the learning rate that the schedule scales, the encoder's own first.

    Encoder: see `encoder_groups`. Decoder: `head_factor` times the learning rate, weight decay on everything, its norms
    included. Tasks: their own learning rate and factor, weight decay on matrices only.
    """
    decay, base = settings.weight_decay, settings.learning_rate
    decoder = [p for p in student.decoder.parameters() if p.requires_grad]
    groups = encoder_groups(student.encoder, settings)
    groups.append({"params": decoder, "base": base * settings.head_factor, "weight_decay": decay})
    for task in tasks:
        own = task.learning_rate_factor * (base if task.learning_rate is None else task.learning_rate)
        trained = [p for p in task.parameters() if p.requires_grad]
        matrices = [p for p in trained if sum(size > 1 for size in p.shape) > 1]
        vectors = [p for p in trained if sum(size > 1 for size in p.shape) <= 1]
        groups += [
            {"params": matrices, "base": own, "weight_decay": task.weight_decay},
            {"params": vectors, "base": own, "weight_decay": 0.0},
        ]
    return [group for group in groups if group["params"]]


def encoder_groups(encoder: nn.Module, settings: AdamW | SGD) -> list[Group]:
    """Groups by share of the learning rate and by weight decay, the largest share first.

    An encoder that knows layers gives `trained_parameters`: parameter, share, whether it decays. Of others the scales
    and shifts of norms do not decay, other biases do. (The reference implementation goes by "norm" in a parameter's
    name, which ResNet's norms do not have, so that they decay: `decay_norms=True`, as SGD does.)
    """
    whole = isinstance(settings, SGD) or settings.decay_norms
    parts: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for parameter, share, decays in _encoder_parameters(encoder):
        parts[share, whole or decays].append(parameter)
    return [
        {"params": parts[key], "base": settings.learning_rate * key[0], "weight_decay": settings.weight_decay * key[1]}
        for key in sorted(parts, reverse=True)
    ]


def _encoder_parameters(encoder: nn.Module) -> Iterable[tuple[nn.Parameter, float, bool]]:
    """Every parameter that learns, its share of the encoder's learning rate, and whether weights decay on it."""
    own: Any = getattr(encoder, "trained_parameters", None)
    if own is not None:
        given: Iterable[tuple[nn.Parameter, float, bool]] = own()
        return given
    layers = [module for module in encoder.modules() if isinstance(module, NORMS)]
    norms = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    return [(p, 1.0, id(p) not in norms) for p in encoder.parameters() if p.requires_grad]


def build_optimizer(groups: list[Group], settings: AdamW | SGD) -> torch.optim.Optimizer:
    """The fused optimiser of these groups."""
    for group in groups:
        group["lr"] = group["base"]
    match settings:
        case AdamW():
            return torch.optim.AdamW(groups, betas=settings.betas, eps=1e-8, fused=True)
        case SGD():
            return torch.optim.SGD(groups, momentum=settings.momentum, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    """Set every group's learning rate for a step."""
    factor = learning_rate_factor(schedule, step)
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor


def clip_gradients(modules: Iterable[nn.Module], limit: float | None) -> None:
    """Scale all gradients down to a 2-norm of at most `limit`; None leaves them."""
    if limit is not None:
        torch.nn.utils.clip_grad_norm_([p for module in modules for p in module.parameters()], limit, foreach=True)
