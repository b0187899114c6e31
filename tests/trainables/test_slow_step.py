"""Whole iterations against a slow, obvious reference in float64: every loss, weight, moment and running statistic.

The recorded sequences are one case each of seven settings. Here other batches, crops, margins, views, weights, groups
of parameters and warm-ups are trained, with MFM, which no published sequence holds. The reference (`slow_step`) is
written from the published order of an iteration: one plain sum of all terms and one call of autograd, averages, mixes,
masks and AdamW written out. It shares with the shipped step the networks (tested on their own), the Rebuilder
(likewise) and the draws.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.models.tiny import TINY_DAFORMER
from tests.trainables.slow_step import MEAN, SIDE, STD, SlowStep
from trainables.config import (
    HRDA,
    AdamW,
    AttentionSource,
    Blur,
    ColourJitter,
    DeepLabV2,
    Execution,
    Experiment,
    FeatureDistance,
    Margins,
    MaskDraw,
    MaskedConsistency,
    MaskedView,
    Mfm,
    PackedPair,
    Precision,
    Projector,
    Schedule,
    SelfTraining,
)
from trainables.config import Rebuilder as RebuilderConfig
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.models.segmentor import Segmentor
from trainables.randomness import Streams
from trainables.running.initial import assemble, new_student
from trainables.step_data import Batch
from trainables.tasks.mfm import MfmTask
from trainables.training import State, self_training_step

RESNET = DeepLabV2(layers=(1, 1, 2, 1), base_width=2, stem_width=4)
REBUILDER = RebuilderConfig(dim=16, heads=4, blocks=1)
BASE = Experiment(
    data=PackedPair(crop_size=(SIDE, SIDE)),
    network=TINY_DAFORMER,
    initial=None,
    adaptation=SelfTraining(),
    optimizer=AdamW(learning_rate=2e-3),
    schedule=Schedule(steps=6, warmup_steps=2),
    execution=Execution(precision=Precision.FLOAT64, channels_last=False),
)
CONFIGS = {
    "DeepLab-V2, three images, source and target masked, MFM with exact masks": replace(
        BASE,
        network=RESNET,
        batch_size=3,
        adaptation=SelfTraining(momentum=0.6, jitter=ColourJitter(probability=1.0)),
        auxiliary=(
            MaskedConsistency(weight=2.0, ratio=0.4, block=24, view=MaskedView.SOURCE_AND_TARGET),
            Mfm(weight=0.5, grid=(4, 4), rebuilder=REBUILDER, draw=MaskDraw.EXACT),
        ),
        optimizer=AdamW(learning_rate=1e-3, head_factor=3.0, decay_norms=True, betas=(0.8, 0.99)),
        schedule=Schedule(steps=4, warmup_steps=3, power=0.9),
    ),
    "DAFormer, one image, margins on all sides, target masked, MFM as a chain": replace(
        BASE,
        batch_size=1,
        adaptation=SelfTraining(
            momentum=0.999, jitter=None, blur=Blur(probability=1.0),
            margins=Margins(top=5, bottom=9, left=3, right=7),
        ),
        auxiliary=(
            FeatureDistance(weight=0.3, min_ratio=0.6, classes=(2, 13)),
            MaskedConsistency(weight=0.5, ratio=0.7, block=16, view=MaskedView.TARGET),
            Mfm(ratio=0.6, grid=(8, 8), rebuilder=replace(REBUILDER, projector=Projector.CHAIN, learning_rate=5e-4)),
        ),
        optimizer=AdamW(learning_rate=1e-3, weight_decay=0.1),
    ),
    "HRDA on DeepLab-V2, valid rectangles, augmented target masked, MFM": replace(
        BASE,
        network=HRDA(base=RESNET, detail_crop=(32, 32)),
        adaptation=SelfTraining(momentum=0.9, jitter=ColourJitter(probability=1.0), blur=None),
        auxiliary=(
            FeatureDistance(classes=(2, 13)),
            MaskedConsistency(weight=0.5, ratio=0.5, block=8),
            Mfm(weight=2.0, grid=(2, 4), rebuilder=REBUILDER),
        ),
        optimizer=AdamW(learning_rate=1e-3, decay_norms=True),
    ),
    "HRDA on DAFormer, MFM with the original attention, without a Rebuilder's own rate": replace(
        BASE,
        network=HRDA(base=TINY_DAFORMER, detail_crop=(32, 32), detail_weight=0.3, attention_dim=4),
        auxiliary=(
            MaskedConsistency(ratio=0.7, block=16),
            Mfm(grid=(4, 4), rebuilder=REBUILDER, attention=AttentionSource.ORIGINAL),
        ),
    ),
}  # fmt: skip


def drawn_batches(t: int, batch: int, valid: bool) -> tuple[Batch, Batch]:
    """Random images of small patches; each source image is mostly one thing, with ignored pixels and other classes."""
    generator = np.random.default_rng(100 + t)
    images = []
    for _ in range(2):
        coarse = generator.integers(256, size=(batch, 3, SIDE // 4, SIDE // 4)).repeat(4, 2).repeat(4, 3)
        images.append((torch.from_numpy(coarse.astype(np.float64)) - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))
    label = np.full((batch, SIDE, SIDE), 13)
    label[-1] = 2 if t % 2 else 13
    rest = generator.choice([0, 2, 8, 10, 255], (batch, SIDE // 8, SIDE // 8)).repeat(8, 1).repeat(8, 2)
    label = np.where(generator.uniform(size=(batch, SIDE // 8, SIDE // 8)).repeat(8, 1).repeat(8, 2) < 0.2, rest, label)
    boxes = tuple(Box(3 + one, 2, 40, 50 - 7 * one) for one in range(batch)) if valid else None
    return Batch(images[0], torch.from_numpy(label)), Batch(images[1], valid=boxes)


def begin(config: Experiment) -> State:
    """The shipped state, with a threshold at which the teacher is sure of half of the first step's pixels."""
    streams = Streams(11)
    student = new_student(config, streams, 19, torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in student.named_parameters():
        if "norm" in name or "bn" in name or "bias" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    domains: Any = SimpleNamespace(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    adaptation = config.adaptation
    assert isinstance(adaptation, SelfTraining)
    _, target = drawn_batches(0, config.batch_size, valid=False)
    with torch.no_grad():
        sure = copy.deepcopy(student).predict(target.image).softmax(dim=1).amax(dim=1).flatten().sort().values
    middle = len(sure) // 2
    threshold = float(sure[middle - 1 : middle + 1].mean())  # between two pixels, on neither
    config = replace(config, adaptation=replace(adaptation, threshold=threshold))
    state = assemble(config, streams, student, domains)
    encoder = next((task.imagenet_encoder for task in state.tasks if hasattr(task, "imagenet_encoder")), None)
    if encoder is not None:  # an encoder of its own, so that the distance is not 0 at the start
        for parameter in encoder.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return state


@pytest.mark.parametrize(
    "name", [name if name.startswith("DAFormer") else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_iterations_are_those_of_the_slow_reference(name: str) -> None:
    """Three iterations: losses to 1e-9, weights, averages, moments and running statistics to 1e-8."""
    state = begin(CONFIGS[name])
    config = state.config
    slow = SlowStep(config, state)
    for task in state.tasks:
        if hasattr(task, "imagenet_encoder"):
            slow.imagenet = copy.deepcopy(task.imagenet_encoder).eval()
    assert isinstance(config.adaptation, SelfTraining)
    for t in range(3):
        source, target = drawn_batches(t, config.batch_size, valid="valid" in name)
        wanted = slow.step(t, source, target)
        found = {
            key: float(value) for key, value in self_training_step(state, config.adaptation, source, target).items()
        }
        assert found == pytest.approx(wanted, rel=1e-9), t
        assert t > 0 or found["pseudo_label_share"] == 0.5
        assert_same(slow.student, state.student)
        assert state.teacher is not None
        assert_same(slow.teacher, state.teacher.network)
        assert slow.rebuilder is not None
        assert_same(slow.rebuilder, next(task.rebuilder for task in state.tasks if isinstance(task, MfmTask)))


def assert_same(slow: nn.Module | Segmentor, shipped: nn.Module | None) -> None:
    """All parameters and buffers."""
    assert shipped is not None
    other = shipped.state_dict()
    for key, value in slow.state_dict().items():
        torch.testing.assert_close(other[key], value, rtol=1e-8, atol=1e-8, msg=key)
