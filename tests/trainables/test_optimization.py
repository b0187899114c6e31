"""Which parameters decay."""

from __future__ import annotations

import pytest
from torch import nn

from tests.trainables.models.tiny import TINY_DAFORMER, TINY_DLV2, built
from trainables.config import AdamW, EfficientNetLite, Network, Norm, SmallDeepLab
from trainables.optimization import parameter_groups

NETWORKS = (TINY_DLV2, TINY_DAFORMER, EfficientNetLite(pretrained=False), SmallDeepLab(norm=Norm.BATCH))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_norms_of_every_encoder_decay_only_where_the_config_asks(network: Network) -> None:
    """Whatever a library calls them (timm's ResNet: `bn1`, `downsample.1`); other biases decay."""
    segmentor = built(network)
    layers = [m for m in segmentor.encoder.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)]
    norms = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    encoder = {id(parameter) for parameter in segmentor.encoder.parameters()}
    assert norms
    for decay_norms, spared in ((False, norms), (True, set())):
        groups = parameter_groups(segmentor, [], AdamW(decay_norms=decay_norms))
        without = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
        assert without == spared
        decayed = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
        assert decayed >= encoder - spared
