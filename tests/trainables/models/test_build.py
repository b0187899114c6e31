"""Networks are built at their published size, from their settings and a seed alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainables.models.tiny import TINY_DAFORMER, TINY_DLV2, TINY_HRDA, built
from trainables.config import HRDA, DAFormer, DeepLabV2, MiT, Network, SegFormer, SmallDeepLab
from trainables.models.encoders import MiTEncoder
from trainables.randomness import Streams

MIT_DIMS = (64, 128, 320, 512)
TINY = {
    "SmallDeepLab": SmallDeepLab(),
    "DeepLabV2": TINY_DLV2,
    "DAFormer": TINY_DAFORMER,
    "SegFormer": SegFormer(encoder=TINY_DAFORMER.encoder, embed_dim=8),
    "HRDA(DAFormer)": TINY_HRDA["hrda_daformer"],
    "HRDA(DeepLabV2)": TINY_HRDA["hrda_dlv2"],
}


def parameters(module: nn.Module) -> int:
    """How many parameters a module has."""
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("network", "encoder", "total"),
    [
        (DeepLabV2(), 42_519_392, 43_219_846),
        (DeepLabV2(rates=(6, 12, 18, 24)), 42_519_392, 43_920_300),
        (DAFormer(), 81_443_008, 85_155_283),
        (SegFormer(), 81_443_008, 81_443_008 + 3_164_947),
        (HRDA(), 81_443_008, 85_685_990),
        (HRDA(base=DeepLabV2()), 42_519_392, 43_920_300),
    ],
)
def test_networks_have_their_published_size(network: Network, encoder: int, total: int) -> None:
    """With 19 classes; HRDA adds an attention head to its base."""
    with torch.device("meta"):
        segmentor = network.build(19)
    assert parameters(segmentor.encoder) == encoder
    assert parameters(segmentor) == parameters(segmentor.encoder) + parameters(segmentor.decoder) == total


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MiT(dims=(32, 64, 160, 256), depths=(2, 2, 2, 2)), 3_319_392),
        (MiT(dims=MIT_DIMS, depths=(2, 2, 2, 2)), 13_151_424),
        (MiT(dims=MIT_DIMS, depths=(3, 4, 6, 3)), 24_196_288),
        (MiT(dims=MIT_DIMS, depths=(3, 4, 18, 3)), 44_072_128),
        (MiT(dims=MIT_DIMS, depths=(3, 8, 27, 3)), 60_842_688),
        (MiT(), 81_443_008),
    ],
)
def test_mit_b0_to_b5_have_their_published_size(config: MiT, count: int) -> None:
    """The six Mix Transformers."""
    with torch.device("meta"):
        assert parameters(MiTEncoder(config)) == count


def test_drop_path_rises_from_zero_to_a_tenth_over_all_blocks() -> None:
    """Linear over the 52 blocks of MiT-B5, as published."""
    with torch.device("meta"):
        encoder = MiTEncoder(MiT())
    blocks = [block for stage in encoder.stages for block in stage.blocks]
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.1 * index / 51 for index in range(52)])


def test_attention_is_the_scaled_dot_product_of_torch() -> None:
    """Every attention layer of a MiT calls torch's fused attention."""
    encoder = MiTEncoder(TINY_DAFORMER.encoder)
    attentions = [block.attn for stage in encoder.stages for block in stage.blocks]
    assert attentions
    assert all(attention.fused_attn for attention in attentions)


@pytest.mark.parametrize("name", list(TINY))
def test_initial_weights_are_a_function_of_the_seed(name: str) -> None:
    """One seed gives the same weights twice, another gives others."""
    first, again, other = (built(TINY[name], seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", list(TINY))
def test_every_parameter_is_the_encoders_or_the_decoders(name: str) -> None:
    """None is left out of the optimiser's groups and none is in both; the settings that describe shapes hold."""
    segmentor = built(TINY[name])
    assert {key.split(".")[0] for key in segmentor.state_dict()} == {"encoder", "decoder"}
    image = torch.randn(2, 3, 128, 128)
    box = segmentor.draw_box(Streams(0), "detail crop, source pass", 0, (128, 128))
    encoded = segmentor.encode(image, box)
    for pyramid in encoded.pyramids:
        assert tuple(stage.shape[1] for stage in pyramid) == segmentor.channels
    for stage, stride in zip(encoded.pyramids[0], segmentor.strides, strict=True):
        assert tuple(stage.shape[-2:]) == (128 // stride, 128 // stride)


@pytest.mark.parametrize("name", list(TINY))
def test_decoder_reads_the_stages_that_it_names(name: str) -> None:
    """Gradients of the logits reach exactly `decoded_stages`; the Rebuilder rebuilds no other."""
    segmentor = built(TINY[name])
    image = torch.randn(1, 3, 128, 128)
    encoded = segmentor.encode(image, segmentor.draw_box(Streams(0), "detail crop, source pass", 0, (128, 128)))
    leaves = tuple(tuple(stage.detach().requires_grad_() for stage in pyramid) for pyramid in encoded.pyramids)
    segmentor.decode(encoded.with_pyramids(leaves)).logits.sum().backward()
    for pyramid in leaves:
        reached = {index for index, stage in enumerate(pyramid) if stage.grad is not None}
        assert reached == set(segmentor.decoded_stages)


@pytest.mark.parametrize("name", list(TINY))
def test_networks_predict_at_image_size_in_float64(name: str) -> None:
    """Parity runs in float64: every network predicts one logit a class and pixel, all finite."""
    segmentor = built(TINY[name]).double()
    logits = segmentor.predict(torch.randn(1, 3, 64, 128, dtype=torch.float64))
    assert logits.shape == (1, 19, 64, 128)
    assert logits.dtype == torch.float64
    assert bool(logits.isfinite().all())
