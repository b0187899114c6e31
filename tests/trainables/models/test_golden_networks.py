"""Networks with recorded weights give the outputs of the published reference implementation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.golden_cases import Arrays, packed, read, tensor
from tests.trainables.models.tiny import (
    TINY_DAFORMER,
    TINY_DLV2,
    TINY_HRDA,
    box_of,
    built,
    normalised,
    published_tensors,
    recorded,
)
from trainables.config import HRDA, DAFormer, DeepLabV2, MiT, Network, ResNetV1c, SegFormer
from trainables.models.deeplabv2 import DeepLabV2Head
from trainables.models.encoders import MiTEncoder, ResNetEncoder
from trainables.models.pretrained import load_encoder_tensors, load_segmentor_tensors
from trainables.models.segmentor import Segmentor
from trainables.models.sliding import slide

TOLERANCE = 1e-4  # of float32 outputs
MIT_TINY = MiT(dims=(8, 16, 20, 32), depths=(1, 1, 2, 1))
MIT_B0 = MiT(dims=(32, 64, 160, 256), depths=(2, 2, 2, 2))


def assert_close(ours: Tensor, theirs: np.ndarray) -> None:
    """Within the tolerance of float32 network outputs."""
    torch.testing.assert_close(ours, tensor(theirs), rtol=0, atol=TOLERANCE)


def by_rule(layout: list[list[object]], first_seed: int) -> dict[str, Tensor]:
    """Weights that a rule gives: tensor j is drawn from numpy's RandomState(first_seed + j)."""
    state = {}
    for index, (name, shape, rule) in enumerate(layout):
        random = np.random.RandomState(first_seed + index)
        state[str(name)] = torch.from_numpy(np.asarray(_drawn(random, tuple(shape), str(rule)), dtype=np.float32))
    return state


def _drawn(random: np.random.RandomState, shape: tuple[int, ...], rule: str) -> np.ndarray:
    if rule.startswith("uniform"):
        return random.uniform(0.6, 1.4, shape)
    normal = random.randn(*shape)
    if rule == "randn/sqrt(fan_in)":
        return normal / np.sqrt(np.prod(shape[1:]))
    factor, rest = rule.split("*", 1)
    return float(factor) * (1 + 0.1 * normal) if rest.startswith("(") else float(factor) * normal


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "odd_"])
def test_mit_gives_the_recorded_stages(golden: Path, prefix: str) -> None:
    """A tiny MiT, also on an input of odd size, gives all four stages."""
    case = read(golden / "mit_tiny.npz")
    encoder = MiTEncoder(MIT_TINY).eval()
    load_encoder_tensors(encoder, packed(case, "weights"))
    for index, stage in enumerate(encoder(tensor(case[f"{prefix}input"])), start=1):
        assert_close(stage, case[f"{prefix}output{index}"])


@torch.no_grad()
def test_mit_b0_gives_the_recorded_stages(golden: Path) -> None:
    """The full MiT-B0 gives all four stages, and has the recorded number of parameters."""
    case = read(golden / "mit_b0.npz")
    encoder = MiTEncoder(MIT_B0).eval()
    load_encoder_tensors(encoder, by_rule(json.loads(str(case["layout_json"])), int(case["first_seed"])))
    assert sum(p.numel() for p in encoder.parameters()) == int(case["params"])
    for index, stage in enumerate(encoder(tensor(case["input"])), start=1):
        assert_close(stage, case[f"output{index}"])


@torch.no_grad()
def test_mit_in_float64_gives_the_recorded_stages_too(golden: Path) -> None:
    """Scaled dot-product attention in float64 agrees with the recorded float32 outputs."""
    case = read(golden / "mit_tiny.npz")
    encoder = MiTEncoder(MIT_TINY).double().eval()
    load_encoder_tensors(encoder, packed(case, "weights"))
    for index, stage in enumerate(encoder(tensor(case["input"]).double()), start=1):
        assert_close(stage.float(), case[f"output{index}"])


@torch.no_grad()
def test_resnet_gives_the_recorded_stages(golden: Path) -> None:
    """A tiny ResNet-v1c at output stride 8, with its running statistics, gives all four stages."""
    case = read(golden / "resnet_tiny.npz")
    encoder = ResNetEncoder(ResNetV1c(layers=(1, 1, 2, 1), base_width=2, stem_width=4)).eval()
    load_encoder_tensors(encoder, packed(case, "weights"))
    for index, stage in enumerate(encoder(tensor(case["input"])), start=1):
        assert_close(stage, case[f"f{index}"])


@torch.no_grad()
def test_resnet101_deeplabv2_gives_the_recorded_logits(golden: Path) -> None:
    """The full ResNet-101-v1c under the DeepLab-V2 head gives stages and logits."""
    case = read(golden / "resnet101_dlv2.npz")
    backbone = by_rule(json.loads(str(case["backbone_layout_json"])), int(case["backbone_first_seed"]))
    head = by_rule(json.loads(str(case["head_layout_json"])), int(case["head_first_seed"]))
    published = {f"backbone.{k}": v for k, v in backbone.items()} | {f"decode_head.{k}": v for k, v in head.items()}
    segmentor = built(DeepLabV2())
    load_segmentor_tensors(segmentor, published)
    encoded = segmentor.encode(tensor(case["input"]))
    for index, stage in enumerate(encoded.pyramids[0], start=1):
        assert_close(stage[:, ::8], case[f"f{index}_every8th_channel"])
        assert_close(stage.mean(dim=(0, 2, 3)), case[f"f{index}_channel_mean"])
    assert_close(segmentor.decode(encoded).logits, case["logits"])


def with_recorded_head(segmentor: Segmentor, case: Arrays, group: str) -> Segmentor:
    """The segmentor with the recorded head; its encoder, which is not used, stays as it is."""
    encoder = {k: v for k, v in published_tensors(segmentor).items() if k.startswith("backbone.")}
    head = {f"decode_head.{k}": v for k, v in packed(case, group).items()}
    load_segmentor_tensors(segmentor, encoder | head)
    return segmentor


def features(case: Arrays) -> list[Tensor]:
    """The recorded pyramid."""
    return [tensor(case[f"feature{index}"]) for index in (1, 2, 3, 4)]


@torch.no_grad()
def test_daformer_head_gives_the_recorded_logits(golden: Path) -> None:
    """In eval mode, and in train mode without dropout, where its running statistics move as recorded."""
    case = read(golden / "heads.npz")
    config = DAFormer(encoder=MIT_TINY, embed_dim=16, channels=16, dropout=0.0)
    head = with_recorded_head(built(config), case, "daformer/weights").decoder
    assert_close(head(*features(case)), case["daformer/logits_eval"])
    head.train()
    batch = [torch.cat([stage, 0.5 * stage.flip(-1)]) for stage in features(case)]
    assert_close(head(*batch)[..., ::2, ::2], case["daformer/logits_train_no_dropout"])
    moved = head.get_buffer("fusion.bottleneck.bn.running_mean")
    assert_close(moved, case["daformer/after_train_fuse_layer.bottleneck.bn.running_mean"])


@torch.no_grad()
@pytest.mark.parametrize("rates", [(6, 12), (6, 12, 18, 24)])
def test_deeplabv2_head_gives_the_recorded_logits(golden: Path, rates: tuple[int, ...]) -> None:
    """The sum of dilated convolutions, for the DAFormer family's two rates and for four."""
    case = read(golden / "heads.npz")
    name = f"dlv2_rates_{'_'.join(map(str, rates))}"
    head = DeepLabV2Head(32, 19, rates)
    published = packed(case, f"{name}/weights")
    head.load_state_dict(
        {k.replace("aspp_modules", "convolutions").replace(".conv.", "."): v for k, v in published.items()}
    )
    assert_close(head(features(case)[-1]), case[f"{name}/logits_eval"])


@torch.no_grad()
def test_segformer_head_gives_the_recorded_logits(golden: Path) -> None:
    """The SegFormer head; the classifier that the published one inherits and never uses is left out."""
    case = read(golden / "heads.npz")
    config = SegFormer(encoder=MIT_TINY, embed_dim=24)
    head = with_recorded_head(built(config), case, "segformer/weights").decoder
    assert_close(head(*features(case)), case["segformer/logits_eval"])


@torch.no_grad()
@pytest.mark.parametrize("name", list(TINY_HRDA))
def test_hrda_training_pass_is_the_recorded_one(golden: Path, name: str) -> None:
    """Context, attention, detail and fused logits, and both losses with and without weights, for two detail crops."""
    case = read(golden / f"{name}.npz")
    segmentor = recorded(TINY_HRDA[name], case)
    image, label = normalised(tensor(case["image_u8"])), tensor(case["label"]).long()
    weights = {"weighted": tensor(case["weight_times_64"]).float() / 64, "unweighted": None}
    for number in (0, 1):
        box = box_of(tensor(case[f"train{number}/hr_crop_box_y1y2x1x2"]))
        encoded = segmentor.encode(image, box)
        outputs = segmentor.decode(encoded)
        if number == 0:
            decoder = segmentor.decoder
            stages = [encoded.pyramids[0][stage] for stage in segmentor.decoded_stages]
            assert_close(decoder.get_submodule("head")(*stages)[:1], case["train0/lr_logits_image0"])
            attention = decoder.get_submodule("attention")(*stages)[:1].sigmoid()
            assert_close(attention, case["train0/attention_before_mask_image0"])
            assert_close(outputs.logits[:1], case["train0/fused_logits_image0"])
            assert outputs.detail is not None
            assert_close(outputs.detail[:1], case["train0/hr_logits_image0"])
        else:
            assert_close(outputs.logits[..., ::2, ::2], case["train1/fused_logits_every2"])
        for kind, weight in weights.items():
            loss = segmentor.loss(outputs, label, weight)
            assert loss.detail is not None
            assert float(loss.main) == pytest.approx(float(case[f"train{number}/{kind}/loss_seg"]), rel=1e-6)
            assert float(loss.detail) == pytest.approx(float(case[f"train{number}/{kind}/hr.loss_seg"]), rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", list(TINY_HRDA))
def test_hrda_inference_is_the_recorded_one(golden: Path, name: str) -> None:
    """Logits with detail windows, the predicted classes exactly, and outer windows slid over a wider image."""
    case = read(golden / f"{name}.npz")
    segmentor = recorded(TINY_HRDA[name], case)
    logits = segmentor.predict(normalised(tensor(case["image_u8"])))
    assert_close(logits[..., ::16, ::16], case["infer/upsampled_every16"])
    assert torch.equal(logits.argmax(dim=1), tensor(case["infer/upsampled_argmax"]).long())
    wide = slide(segmentor.predict, normalised(tensor(case["slide/image_u8"])), (128, 128), (64, 64))
    assert_close(wide[..., ::12, ::12], case["slide/logits_every12"])
    assert torch.equal(wide.argmax(dim=1), tensor(case["slide/argmax"]).long())


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("dacs_mit", TINY_DAFORMER),
        ("dacs_resnet", replace(TINY_DLV2, base_width=2)),
        ("dacs_hrda_full", HRDA(base=TINY_DAFORMER, detail_crop=(64, 64), attention_dim=8)),
    ],
)
def test_initial_weights_of_the_training_sequences_load_strictly(golden: Path, file: str, network: Network) -> None:
    """Every tensor of the reference's training states has its place in our networks."""
    recorded(network, read(golden / f"{file}.npz"), "init")
