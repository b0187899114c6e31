"""Encoders of timm: one pyramid for all families, whatever each of them gives by itself."""

from __future__ import annotations

import copy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest
import timm
import torch
from torch import Tensor, nn

from mfm_tune.identity import config_id
from tests.trainables.models.encoder_walk import HEADS, SIZES, walk
from trainables.config import SGD, AdamW, Norm, Schedule, Timm
from trainables.evaluation import with_target_statistics
from trainables.models.segmentor import Encoded, Outputs, Segmentor
from trainables.models.timm_encoder import TimmEncoder, layout_of, resample
from trainables.optimization import build_optimizer, parameter_groups, set_learning_rate
from trainables.randomness import Streams
from trainables.step_data import Batch

FAMILIES = {  # one of each way in which families differ
    "resnet18": (64, 128, 256, 512),
    "convnext_atto": (40, 80, 160, 320),  # rounds odd sizes down
    "swin_tiny_patch4_window7_224": (96, 192, 384, 768),  # channels last, one size only, multiples of 4
    "mobilenetv4_conv_small_050": (16, 32, 48, 480),  # begins at stride 2
    "vit_tiny_patch16_224": (192,) * 4,
    "vit_small_patch14_dinov2": (384,) * 4,  # 14 pixels, which divide no power of two
    "vit_small_patch16_dinov3": (384,) * 4,  # rotary positions, four registers
    "eva02_tiny_patch14_224": (192,) * 4,  # its final norm is the identity
}


def shapes(settings: Timm, size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Shapes of the stages, without arithmetic."""
    with torch.device("meta"), mock.patch.object(torch, "autocast", return_value=nullcontext()):  # not on this device
        stages = TimmEncoder(settings)(torch.empty(2, 3, *size))
    return [tuple(stage.shape) for stage in stages]


def built(settings: Timm, seed: int = 0) -> TimmEncoder:
    """An encoder at the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return settings.build()


class OneLayer(Segmentor):
    """The encoder under a 1x1 convolution of its last stage."""

    def __init__(self, encoder: TimmEncoder) -> None:
        super().__init__(2, encoder.channels, encoder.strides, (len(encoder.channels) - 1,))
        self.encoder: TimmEncoder = encoder
        self.decoder = nn.Conv2d(encoder.channels[-1], 2, 1)

    def encode(self, image: Tensor, box: object = None) -> Encoded:
        return Encoded((self.encoder(image),), (image.shape[-2], image.shape[-1]))

    def decode(self, encoded: Encoded) -> Outputs:
        return Outputs(self.decoder(encoded.pyramids[0][-1]))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_channels_first_and_rounds_up(name: str, size: tuple[int, int]) -> None:
    """Stages at strides 4, 8, 16 and 32, each of ceil(H / stride) rows, at an even and at an odd size."""
    wanted = [
        (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(FAMILIES[name], (4, 8, 16, 32), strict=True)
    ]
    assert shapes(Timm(name), size) == wanted


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_a_pass_of_an_odd_image_gives_the_announced_shapes_in_its_memory_format(name: str) -> None:
    """With real arithmetic; ConvNeXt's maps are channels last in memory by themselves."""
    encoder = built(Timm(name)).eval()
    image = torch.randn(1, 3, 41, 67)
    with torch.no_grad():
        stages = encoder(image)
    assert tuple(stage.shape[1] for stage in stages) == encoder.channels
    assert [tuple(stage.shape[-2:]) for stage in stages] == [(-(-41 // s), -(-67 // s)) for s in encoder.strides]
    assert all(stage.is_contiguous() and bool(stage.isfinite().all()) for stage in stages)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_the_outputs_of_a_plain_vits_blocks_are_normalised(name: str) -> None:
    """Mean 0 and variance 1 over the channels at initial weights; EVA-02 gets a norm of its own."""
    encoder = built(Timm(name, patch=16)).eval()
    with torch.no_grad():
        whole = encoder(torch.randn(1, 3, 32, 64))[2]  # stride 16: as the blocks give it
    assert whole.mean(dim=1).abs().max() < 1e-4
    assert (whole.var(dim=1, unbiased=False) - 1).abs().max() < 1e-3


def test_chosen_blocks_make_the_stages_and_later_ones_are_not_built() -> None:
    """Block 5 under a later limit is the same map; what follows the last chosen block is left out."""
    every, last = built(Timm("vit_tiny_patch16_224")), built(Timm("vit_tiny_patch16_224", blocks=(8,)))
    assert len(every.model.blocks) == 12
    assert len(last.model.blocks) == 9
    last.model.load_state_dict(every.model.state_dict(), strict=False)
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(last.eval()(image)[2], every.eval()(image)[2])
        assert len(last(image)) == 4


def test_maps_of_a_padded_image_keep_their_place() -> None:
    """The sample at a cell of 16 pixels has the coordinate of its centre in a map of cells of 14 pixels."""
    coordinate = (torch.arange(8, dtype=torch.float64) + 0.5) * 14
    columns = coordinate.expand(1, 1, 8, 8)
    found = resample(columns, 16 / 14, (6, 6))
    assert torch.allclose(found[0, 0, 0], (torch.arange(6, dtype=torch.float64) + 0.5) * 16)
    finer = resample(columns, 4 / 14, (26, 26))
    assert torch.allclose(finer[0, 0, 0, 2:], (torch.arange(2, 26, dtype=torch.float64) + 0.5) * 4)


def test_positions_follow_the_size_of_the_image() -> None:
    """A larger image is seen by positions between those of the smaller one: the encoder's own grid moves none."""
    encoder = built(Timm("vit_tiny_patch16_224")).eval()
    with torch.no_grad():
        encoder(torch.randn(1, 3, 64, 128))
    assert tuple(encoder.model.pos_embed.shape) == (1, 14 * 14 + 1, 192)


def test_frozen_norms_keep_statistics_and_affine_parameters_in_student_and_teacher() -> None:
    """In training mode, after a pass and a step; names of tensors are those of trained norms."""
    student = built(Timm("resnet18", norm=Norm.FROZEN)).train()
    teacher = copy.deepcopy(student).requires_grad_(False).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    optimizer = build_optimizer(parameter_groups(OneLayer(student), [], AdamW()), AdamW())
    image = torch.randn(1, 3, 32, 32)  # one value a channel in the last stage, which trained norms refuse
    student(image)[-1].sum().backward()
    teacher(image)
    optimizer.step()
    norms = [name for name in before if "bn" in name or "downsample.1" in name]
    after = student.state_dict()
    assert norms
    assert all(torch.equal(before[name], after[name]) for name in norms)
    assert all(torch.equal(before[name], teacher.state_dict()[name]) for name in norms)
    assert not torch.equal(before["model.layer4.1.conv2.weight"], after["model.layer4.1.conv2.weight"])
    assert set(before) == set(built(Timm("resnet18")).state_dict())


@pytest.mark.parametrize(("name", "shares", "lowest"), [("vit_tiny_patch16_224", 13, 0.9**12), ("resnet18", 9, 0.9**8)])
def test_layers_learn_at_their_own_rates(name: str, shares: int, lowest: float) -> None:
    """The share reaches torch's optimiser, which reads no `lr_scale`; the last layer has the encoder's rate."""
    with torch.device("meta"):
        segmentor = OneLayer(Timm(name, layer_decay=0.9).build())
    settings = SGD(learning_rate=1.0)
    optimizer = torch.optim.SGD(parameter_groups(segmentor, [], settings))
    set_learning_rate(optimizer, Schedule(steps=10, warmup_steps=0), 0)
    assert optimizer.param_groups[0]["lr"] == 1.0
    of_encoder = {id(parameter) for parameter in segmentor.encoder.parameters()}
    groups = [group for group in optimizer.param_groups if id(group["params"][0]) in of_encoder]
    rates = {group["lr"] for group in groups}
    assert len(rates) == shares
    assert min(rates) == pytest.approx(lowest)
    assert max(rates) == 1.0
    assert {id(parameter) for group in groups for parameter in group["params"]} == of_encoder


def test_vectors_tokens_and_positions_do_not_decay_unless_asked() -> None:
    """Names with "norm" in them would miss layer scales, tokens and positions."""
    with torch.device("meta"):
        segmentor = OneLayer(Timm("vit_small_patch14_dinov2").build())
    named = {id(parameter): name for name, parameter in segmentor.encoder.named_parameters()}
    for decay_norms in (False, True):
        groups = parameter_groups(segmentor, [], AdamW(decay_norms=decay_norms))
        spared = {named[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
        vectors = {"model.cls_token", "model.pos_embed", "model.blocks.0.ls1.gamma", "model.blocks.0.norm1.weight"}
        assert (vectors <= spared) is not decay_norms
        assert "model.blocks.0.mlp.fc1.weight" not in spared


def test_drop_path_is_what_the_settings_ask_for() -> None:
    """Rising to the last block; the architecture's own without."""
    with torch.device("meta"):
        encoder = Timm("convnext_atto", drop_path=0.3).build()
    assert encoder.model.stages[-1].blocks[-1].drop_path.drop_prob == pytest.approx(0.3)


def test_a_dilated_encoder_ends_at_the_stride_that_is_asked_for() -> None:
    """ResNet at output stride 8, as DeepLab-V2 reads it."""
    assert layout_of(Timm("resnet18", output_stride=8)).strides == (4, 8, 8, 8)
    assert shapes(Timm("resnet18", output_stride=8), (97, 131))[-1] == (2, 512, 13, 17)


def test_the_tensors_of_a_published_file_are_the_encoders_or_known_to_be_unread() -> None:
    """So that a file of another architecture can be told from one with a classifier."""
    published = set(timm.create_model("vit_tiny_patch16_224").state_dict())
    encoder = built(Timm("vit_tiny_patch16_224", blocks=(8,)))
    assert set(encoder.model.state_dict()) | encoder.unread == published
    assert {"head.weight", "blocks.11.attn.qkv.weight"} <= encoder.unread


def test_mean_and_deviation_are_those_of_the_weights_tag() -> None:
    """ImageNet's, CLIP's or halves, in pixel values."""
    assert Timm("resnet18").mean == pytest.approx((123.675, 116.28, 103.53))
    assert Timm("eva02_tiny_patch14_224").mean == pytest.approx((122.77, 116.75, 104.09), abs=0.01)
    assert Timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k").std == (127.5, 127.5, 127.5)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Timm("convnext_tinny"), "Timm.name must be an architecture .* 'convnext_tinny'; .* convnext_tiny"),
        (lambda: Timm("qqq"), r"got 'qqq'; timm\.list_models\(\) has all names\.$"),
        (lambda: Timm("resnet18.fb_1k"), "Timm.name must carry a tag of resnet18's weights, .* close ones are"),
        (lambda: Timm("../weights"), "Timm.name must be an architecture of timm, with or without a tag"),
        (lambda: Timm("resnet18", norm=Norm.GROUP), "Timm.norm must be Norm.BATCH or Norm.FROZEN"),
        (lambda: Timm("resnet18", output_stride=4), "Timm.output_stride must .*multiple of 8.*from 8 to 16.*, got 4"),
        (lambda: Timm("vit_tiny_patch16_224", blocks=(3, 5)), "Timm.blocks must be one block or four"),
        (lambda: Timm("vit_tiny_patch16_224", blocks=(5, 3, 8, 9)), "Timm.blocks must go from the first to the last"),
        (lambda: Timm("vit_tiny_patch16_224", blocks=(12,)).build(), "from 0 to 11 for vit_tiny_patch16_224"),
        (lambda: Timm("resnet18", blocks=(1,)).build(), "Timm.blocks is a choice for plain ViTs; resnet18"),
        (lambda: Timm("pvt_v2_b0", output_stride=8).build(), "Timm.output_stride is no choice for pvt_v2_b0"),
        (
            lambda: Timm("convnext_atto", norm=Norm.FROZEN).build(),
            "Timm.norm has no effect on convnext_atto, which has",
        ),
        (lambda: Timm("resnet18", patch=16).build(), "Timm.patch is no choice for resnet18"),
        (lambda: Timm("crossvit_tiny_240").build(), r"Timm\('crossvit_tiny_240'\) makes .* whole strides"),
        (lambda: Timm("beit_base_patch16_224").build(), r"Timm\('beit_base_patch16_224'\) gives no features at images"),
    ],
)
def test_what_does_not_work_is_refused_in_a_sentence_that_names_the_encoder(make: object, sentence: str) -> None:
    """Misspelt names with close ones, options of other families, architectures for one image size."""
    with pytest.raises(ValueError, match=sentence) as error:
        make()  # type: ignore[operator]
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_name_is_declared_without_timm_and_refused_once_timm_is_there() -> None:
    """Planning imports neither torch nor timm."""
    code = (
        "import sys\n"
        "from trainables.experiment.encoders import Timm\n"
        "unknown = Timm('no_such_network')\n"
        "assert not {'timm', 'torch'} & set(sys.modules)\n"
        "import timm\n"
        "try: Timm('no_such_network')\n"
        "except ValueError as error: assert 'no_such_network' in str(error)\n"
        "else: raise SystemExit('accepted')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_choice_is_part_of_the_identity() -> None:
    """Two encoders of one id would be trained once."""
    settings = [
        Timm("convnext_tiny"), Timm("convnext_atto"), Timm("convnext_tiny.fb_in22k"),
        Timm("convnext_tiny", layer_decay=0.9), Timm("convnext_tiny", norm=Norm.FROZEN),
        Timm("convnext_tiny", drop_path=0.2), Timm("convnext_tiny", output_stride=16),
    ]  # fmt: skip
    assert len({config_id(each) for each in settings}) == len(settings)


def test_the_targets_statistics_leave_frozen_norms_alone() -> None:
    """AdaBN resets and measures what is trained; frozen statistics would be left at 0 and 1."""

    class Noise:
        def target(self, streams: Streams, step: int, count: int) -> Batch:
            return Batch(torch.randn(count, 3, 32, 32))

    for norm in (Norm.BATCH, Norm.FROZEN):
        student = OneLayer(built(Timm("resnet18", norm=norm)))
        student.encoder.model.bn1.running_mean.fill_(7.0)
        adapted = with_target_statistics(student, Noise(), Streams(0), 1, 2)  # type: ignore[arg-type]
        kept = torch.equal(adapted.encoder.model.bn1.running_mean, student.encoder.model.bn1.running_mean)  # type: ignore[operator,union-attr]
        assert kept is (norm is Norm.FROZEN)


WALKS = [
    ("resnet18", "DeepLab-V2"),
    ("convnext_atto", "DeepLab-V3+"),
    ("mobilenetv4_conv_small_050", "summing"),
    ("vit_tiny_patch16_224", "DAFormer"),
    ("eva02_tiny_patch14_224", "SegFormer"),
]
SLOW = [
    pytest.param(name, head, marks=pytest.mark.slow) for name in FAMILIES for head in HEADS if (name, head) not in WALKS
]


@pytest.mark.parametrize(("name", "head"), [*WALKS, *SLOW])
def test_an_encoder_trains_evaluates_and_comes_back_from_an_export(name: str, head: str, tmp_path: Path) -> None:
    """At an odd size; `python -m tests.benchmarks.encoders` goes through timm's families, all heads, and both sizes."""
    walk(Timm(name), head, SIZES[1], tmp_path)
