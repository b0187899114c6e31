"""Scoring beside what the reference has recorded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.trainables.tasks.training import CPU, FEW, with_hrda
from trainables.config import DAFormer, DeepLabV2, Experiment, MiT
from trainables.data.domains import open_domains
from trainables.evaluation import BATCH_NORMS, scores, with_target_statistics
from trainables.randomness import Streams
from trainables.recipes import SMOKE, source_only
from trainables.running.initial import new_student

ADABN = replace(source_only(SMOKE, adapt_statistics=3), data=FEW)
HRDA = with_hrda(ADABN)


def test_a_mean_counts_merged_classes_as_one() -> None:
    """Classes 0 and 1 taken for each other are right; 3 occurs nowhere, and is left out."""
    confusion = torch.tensor([[4, 2, 1, 0], [1, 5, 0, 0], [2, 0, 6, 0], [0, 0, 0, 0]])
    result = scores(confusion)
    torch.testing.assert_close(result.iou[:3], torch.tensor([400 / 10, 500 / 8, 600 / 9], dtype=torch.float64))
    assert result.mean() == pytest.approx((40 + 62.5 + 600 / 9) / 3)
    assert result.mean((0, 2, 3)) == pytest.approx((40 + 600 / 9) / 2)
    assert result.mean(((0, 1), 2, 3)) == pytest.approx((1200 / 15 + 600 / 9) / 2)
    assert math.isnan(result.mean(()))


def statistics(config: Experiment) -> list[torch.Tensor]:
    """Running means of the network after AdaBN."""
    streams = Streams(0)
    domains = open_domains(config, {}, CPU)
    network = with_target_statistics(new_student(config, streams, 12, CPU), domains, streams, 3, 2)
    return [module.running_mean for module in network.modules() if isinstance(module, BATCH_NORMS)]


def test_hrdas_statistics_are_estimated_from_context_and_detail() -> None:
    """Of DAFormer's heads and of ResNet's encoder: as of any network, a function of the seed."""
    resnet = replace(HRDA.network, base=DeepLabV2(layers=(1, 1, 1, 1), base_width=2, stem_width=4))
    for config in (HRDA, replace(HRDA, network=resnet)):
        first, again = statistics(config), statistics(config)
        assert first
        assert all(bool(mean.count_nonzero()) for mean in first)
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_statistics_are_those_without_dropout_whatever_torchs_generator_has_drawn() -> None:
    """Drop path lies before BatchNorm of DAFormer's head; a trial that is resumed here has another generator."""
    encoder = MiT(dims=(4, 8, 10, 16), depths=(1, 1, 1, 1), drop_path=0.9)
    network = DAFormer(encoder=encoder, embed_dim=8, channels=8)
    plain = replace(ADABN, network=replace(network, encoder=replace(encoder, drop_path=0.0)))
    torch.manual_seed(1)
    found = statistics(replace(ADABN, network=network))
    assert all(torch.equal(one, other) for one, other in zip(found, statistics(plain), strict=True))
