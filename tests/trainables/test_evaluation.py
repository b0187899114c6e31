"""Scoring beside what the reference has recorded."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests.trainables.tasks.training import CPU, FEW, with_hrda
from trainables.config import DeepLabV2, Experiment
from trainables.data.domains import open_domains
from trainables.evaluation import BATCH_NORMS, with_target_statistics
from trainables.randomness import Streams
from trainables.recipes import SMOKE, source_only
from trainables.running.initial import new_student

ADABN = replace(source_only(SMOKE, adapt_statistics=3), data=FEW)
HRDA = with_hrda(ADABN)


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
