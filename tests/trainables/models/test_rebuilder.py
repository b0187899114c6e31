"""The Rebuilder: the authors' module at its fixed size, and what is free around it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import LayerNorm2d
from torch import Tensor

from tests.trainables.golden_cases import RECORDED, Arrays, read, tensor
from tests.trainables.models.test_golden_networks import by_rule
from trainables.config import Downscale, MaskDraw, Position, Projector
from trainables.config import Rebuilder as RebuilderConfig
from trainables.models.rebuilder import (
    ChainProjector,
    Rebuilder,
    random_keep,
    resize_keep,
    sincos_position,
    upsamplings,
)
from trainables.randomness import Recorded, Streams

GRID = (16, 16)
DLV2 = ((2048,), ((64, 64),))
DAFORMER = ((64, 128, 320, 512), ((128, 128), (64, 64), (32, 32), (16, 16)))
SHAPES = {"dlv2": DLV2, "daformer": DAFORMER}
TEXT = RebuilderConfig(projector=Projector.CHAIN)


def rebuilder(
    config: RebuilderConfig,
    grid: tuple[int, int],
    channels: tuple[int, ...],
    sizes: tuple[tuple[int, int], ...],
    seed: int = 0,
) -> Rebuilder:
    """At the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Rebuilder(config, grid, channels, sizes)


def features(
    channels: tuple[int, ...], sizes: tuple[tuple[int, int], ...], batch: int = 2, seed: int = 1
) -> tuple[Tensor, ...]:
    """Random stages."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, c, *size, generator=generator) for c, size in zip(channels, sizes, strict=True))


def mask(batch: int, grid: tuple[int, int], ratio: float = 0.4, step: int = 0) -> Tensor:
    """A keep-mask."""
    return random_keep(Streams(3), step, batch, grid, ratio, MaskDraw.BERNOULLI)


def parameters(module: torch.nn.Module) -> int:
    """How many parameters a module has."""
    return sum(p.numel() for p in module.parameters())


# -- the authors' module -------------------------------------------------------------------------------------------


def ours(name: str, stages: int) -> str:
    """Our name of a parameter of the authors' module."""
    for theirs, here in (("embedding.linear_embed.", "embedding.linear."), ("transformer.", "")):
        name = name.replace(theirs, here, 1) if name.startswith(theirs) else name
    if not name.startswith("projector."):
        return name
    parts = name.split(".")
    branch = int(parts.pop(1).removeprefix("projector")) - 1 if stages > 1 else 0
    doublings = upsamplings(GRID, SHAPES["daformer" if stages > 1 else "dlv2"][1][branch])
    last = {0: 1, 1: 2, 2: 5, 3: 8}[doublings]  # place of the output norm, after the branch's other layers
    place = last if parts[1] == "norm" else int(parts[2])
    return f"projector.branches.{branch}.{place}.{parts[-1]}"


def recorded_case(case: str) -> tuple[Arrays, Rebuilder, tuple[Tensor, ...], Tensor]:
    """The recorded arrays of a case, the module at its weights, features that want a gradient, and the mask."""
    arrays = {k.removeprefix(f"{case}/"): v for k, v in read(RECORDED / "rebuilder.npz").items() if k.startswith(case)}
    channels, sizes = SHAPES[case]
    module = rebuilder(RebuilderConfig(), GRID, channels, sizes)
    weights = by_rule(json.loads(str(arrays["layout_json"])), int(arrays["first_seed"]))
    state = {ours(name, len(channels)): value for name, value in weights.items()}
    state["mask_token"] = state["mask_token"].flatten()
    module.load_state_dict(state)  # strict: every parameter is recorded
    seed = int(arrays["feature_seed"])
    pyramid = tuple(
        tensor(np.random.RandomState(seed + i).randn(*shape).astype(np.float32)).requires_grad_()
        for i, shape in enumerate(arrays["feature_shapes"])
    )
    return arrays, module.eval(), pyramid, tensor(arrays["keep"]).float()


@pytest.mark.parametrize("case", ["dlv2", "daformer"])
def test_it_is_the_authors_module(case: str) -> None:
    """Tokens, rebuilt stages, the loss of them and its gradients agree in float32."""
    arrays, module, pyramid, keep = recorded_case(case)
    tokens = module.tokens(pyramid, keep).unflatten(1, GRID).permute(0, 3, 1, 2)
    torch.testing.assert_close(tokens[:, ::8], tensor(arrays["transformed_every8"]), rtol=0, atol=1e-4)
    rebuilt = module(pyramid, keep)
    for index, stage in enumerate(rebuilt, start=1):
        name = next(k for k in arrays if k.startswith(f"rebuilt{index}_every"))
        c, h, w = (int(part) for part in name.split("_")[2:])
        torch.testing.assert_close(stage[:, ::c, ::h, ::w], tensor(arrays[name]), rtol=0, atol=1e-4)
        mean, std = arrays[f"rebuilt{index}_mean_std"]
        assert float(stage.detach().mean()) == pytest.approx(mean, abs=1e-6)
        assert float(stage.detach().std(unbiased=False)) == pytest.approx(std, rel=1e-5)
    loss = torch.stack([stage.square().mean() for stage in rebuilt]).sum()
    assert float(loss.detach()) == pytest.approx(float(arrays["loss"]), rel=1e-6)
    loss.backward()
    assert_gradients(module, pyramid, arrays)


def assert_gradients(module: Rebuilder, pyramid: tuple[Tensor, ...], arrays: Arrays) -> None:
    """Two gradients whole, the norm of each, and the mean size of the last feature's."""
    got = {name: parameter.grad for name, parameter in module.named_parameters()}
    token, bias = (tensor(arrays[f"grad/{n}"]) for n in ("transformer.mask_token", "embedding.linear_embed.bias"))
    for one, wanted in ((got["mask_token"], token.flatten()), (got["embedding.linear.bias"], bias)):
        torch.testing.assert_close(one, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    for name, norm in zip(json.loads(str(arrays["grad_norm_names_json"])), arrays["grad_norm"], strict=True):
        assert float(got[ours(name, len(pyramid))].norm()) == pytest.approx(norm, rel=1e-3, abs=1e-7), name
    assert pyramid[-1].grad is not None
    size = float(pyramid[-1].grad.abs().mean())
    assert size == pytest.approx(float(arrays["grad_feature_last_mean_abs"]), rel=1e-4)


@pytest.mark.parametrize(("shapes", "count"), [(DLV2, 10_246_016), (DAFORMER, 14_545_280)])
def test_it_has_the_authors_size(shapes: tuple[tuple[int, ...], tuple[tuple[int, int], ...]], count: int) -> None:
    """With the paper's dim 512, 2 blocks, 16x16 grid, for DeepLab-V2 R101 and DAFormer MiT-B5 at 512x512."""
    with torch.device("meta"):
        assert parameters(rebuilder(RebuilderConfig(), GRID, *shapes)) == count


@pytest.mark.parametrize(("shapes", "count"), [(DLV2, 12_600_832), (DAFORMER, 7_684_096)])
def test_the_papers_text_is_a_switch(shapes: tuple[tuple[int, ...], tuple[tuple[int, int], ...]], count: int) -> None:
    """The chain of Figure 3(b) has the size that the text implies, without the norms between its links."""
    with torch.device("meta"):
        module = rebuilder(TEXT, GRID, *shapes)
    norms = [m for m in module.projector.modules() if isinstance(m, LayerNorm2d)]
    assert isinstance(module.projector, ChainProjector)
    assert parameters(module) - sum(parameters(norm) for norm in norms) == count


def test_initial_weights_are_the_authors() -> None:
    """Linear weights Xavier-uniform, biases 0, the token normal with std 0.02."""
    module = rebuilder(RebuilderConfig(dim=256), (4, 4), (32,), ((8, 8),))
    qkv = module.blocks[0].attn.qkv
    bound = (6 / (256 + 3 * 256)) ** 0.5
    assert bound * 0.99 < float(qkv.weight.detach().abs().max()) <= bound
    assert float(qkv.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert float(qkv.bias.abs().max()) == 0
    assert float(module.mask_token.detach().std()) == pytest.approx(0.02, rel=0.2)


# -- masking -------------------------------------------------------------------------------------------------------

EVERY = [
    RebuilderConfig(dim=16, heads=4, projector=projector, position=position, downscale=downscale)
    for projector in Projector
    for position in Position
    for downscale in Downscale
]


@pytest.mark.parametrize("config", EVERY)
def test_with_everything_kept_it_is_the_identity(config: RebuilderConfig) -> None:
    """keep = 1: the features come back bit for bit, whatever the readings."""
    channels, sizes = (8, 12), ((12, 20), (6, 10))
    pyramid = features(channels, sizes)
    rebuilt = rebuilder(config, (3, 5), channels, sizes)(pyramid, torch.ones(2, 1, 3, 5))
    assert all(torch.equal(after, before) for after, before in zip(rebuilt, pyramid, strict=True))


@pytest.mark.parametrize("config", EVERY)
def test_kept_cells_are_features_and_masked_cells_are_offsets(config: RebuilderConfig) -> None:
    """f_r = keep * f + (1 - keep) * f_o on every stage."""
    channels, sizes = (8, 12), ((12, 20), (6, 10))
    module, pyramid, keep = rebuilder(config, (3, 5), channels, sizes), features(channels, sizes), mask(2, (3, 5))
    assert 0 < float(keep.mean()) < 1
    for after, before, offset in zip(module(pyramid, keep), pyramid, module.offsets(pyramid, keep), strict=True):
        kept = resize_keep(keep, before).bool().expand_as(before)
        assert torch.equal(after[kept], before[kept])
        assert torch.equal(after[~kept], offset[~kept])
        assert not torch.equal(after[~kept], before[~kept])


@pytest.mark.parametrize("size", [(4, 8), (16, 32), (32, 64)])
def test_offsets_do_not_know_what_was_masked(size: tuple[int, int]) -> None:
    """Features under masked cells can be anything: no offset changes (features as fine as the grid or finer)."""
    module = rebuilder(RebuilderConfig(dim=16, heads=4), (4, 8), (12,), (size,))
    (stage,), keep = features((12,), (size,)), mask(2, (4, 8))
    other = torch.where(resize_keep(keep, stage) > 0.5, stage, 100 * torch.ones_like(stage))
    assert not torch.equal(stage, other)
    assert torch.equal(module.offsets((stage,), keep)[0], module.offsets((other,), keep)[0])
    seen = module.offsets((stage,), torch.ones_like(keep))[0]
    assert not torch.equal(seen, module.offsets((other,), torch.ones_like(keep))[0])


@pytest.mark.parametrize("draw", list(MaskDraw))
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.7, 0.9])
def test_masks_have_their_ratio(draw: MaskDraw, ratio: float) -> None:
    """Bernoulli: within five standard errors of the ratio over 100 steps; exact: the same count in every image."""
    masks = torch.stack([random_keep(Streams(0), step, 4, GRID, ratio, draw) for step in range(100)])
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    masked = 1 - masks.flatten(2).mean(dim=2)
    if draw is MaskDraw.EXACT:
        assert set((masked * 256).flatten().round().int().tolist()) == {256 - int((1 - ratio) * 256 + 1e-9)}
    else:
        error = (ratio * (1 - ratio) / masks.numel()) ** 0.5
        assert abs(float(masked.mean()) - ratio) < 5 * error
        assert float((masked * 256).std()) == pytest.approx((256 * ratio * (1 - ratio)) ** 0.5, rel=0.2)
    cells = masks.flatten(0, 2).mean(dim=0)
    assert float((cells - (1 - ratio)).abs().max()) < 5 * (ratio * (1 - ratio) / 400) ** 0.5 + 0.01


def test_a_cell_is_kept_where_its_number_is_greater_than_the_ratio() -> None:
    """Not where it equals it, as in the authors' module; ratio 0 masks nothing."""
    streams = Recorded(0, {("feature mask", 0, 0): torch.tensor([0.0, 0.4, 0.4 + 1e-12, 0.9], dtype=torch.float64)})
    kept = [random_keep(streams, 0, 1, (2, 2), ratio, MaskDraw.BERNOULLI).flatten().tolist() for ratio in (0.4, 0.0)]
    assert kept == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_exact_masks_keep_what_mae_keeps() -> None:
    """153 of 256 cells at ratio 0.4."""
    assert random_keep(Streams(0), 0, 3, GRID, 0.4, MaskDraw.EXACT).flatten(1).sum(dim=1).tolist() == [153.0] * 3


@pytest.mark.parametrize("draw", list(MaskDraw))
def test_masks_of_larger_ratios_hold_those_of_smaller_ones(draw: MaskDraw) -> None:
    """Figure 4's ratios differ in how much is masked, not in where."""
    kept = [random_keep(Streams(5), 7, 2, (8, 16), ratio / 10, draw) for ratio in range(10)]
    assert bool(kept[0].all())
    assert all(bool((more <= fewer).all()) for fewer, more in pairwise(kept))


def test_masks_are_functions_of_seed_step_and_purpose() -> None:
    """The same question, the same mask; another seed, step, image or purpose, another one; recorded draws come in."""

    def drawn(seed: int, step: int, purpose: str = "feature mask") -> Tensor:
        return random_keep(Streams(seed), step, 2, GRID, 0.4, MaskDraw.BERNOULLI, purpose=purpose)

    first = drawn(0, 0)
    assert torch.equal(first, drawn(0, 0))
    assert not torch.equal(first[0], first[1])
    for other in (drawn(1, 0), drawn(0, 1), drawn(0, 0, "image patches")):
        assert not torch.equal(first, other)
    scores = torch.tensor([[0.39, 0.41], [0.0, 0.99]])
    given_draws = Recorded(0, {("feature mask", 4, 0): scores})
    keep = random_keep(given_draws, 4, 1, (2, 2), 0.4, MaskDraw.BERNOULLI)
    assert keep.tolist() == [[[[0, 1], [0, 1]]]]


# -- free sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "size", "count"),
    [
        ((16, 16), (64, 64), 2),
        ((8, 8), (64, 64), 3),
        ((32, 32), (64, 64), 1),
        ((64, 64), (64, 64), 0),
        ((64, 64), (16, 16), 0),  # finer than the features: no upsampling
        ((16, 16), (48, 48), 2),  # 3x: log2 = 1.58, the nearest power of two is 4
        ((16, 16), (44, 44), 1),  # 2.75x: log2 = 1.46
        ((4, 8), (16, 32), 2),
        ((4, 4), (16, 64), 3),  # rows 2, columns 4 doublings: their mean
    ],
)
def test_upsamplings_are_the_nearest_power_of_two(grid: tuple[int, int], size: tuple[int, int], count: int) -> None:
    """Worked out by hand: round(log2(size / grid)), the mean of rows and columns, never negative."""
    assert upsamplings(grid, size) == count


@pytest.mark.parametrize("projector", list(Projector))
@pytest.mark.parametrize("size", [(12, 20), (11, 19), (9, 32), (4, 8), (3, 5)])
def test_a_scale_that_is_no_power_of_two_is_resized_bilinearly(projector: Projector, size: tuple[int, int]) -> None:
    """The offset is the projector's map at the nearest power of two, then bilinear to the stage."""
    module = rebuilder(RebuilderConfig(dim=16, heads=4, projector=projector), (4, 8), (12,), (size,))
    (stage,), keep = features((12,), (size,)), mask(2, (4, 8))
    tokens = module.tokens((stage,), keep).unflatten(1, (4, 8)).permute(0, 3, 1, 2)
    (plain,) = module.projector(tokens)
    factor = 2 ** upsamplings((4, 8), size)
    assert plain.shape == (2, 12, 4 * factor, 8 * factor)
    wanted = F.interpolate(plain, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(module.offsets((stage,), keep)[0], wanted)


def test_other_image_sizes_pass_through_the_same_module() -> None:
    """A Rebuilder made for one crop takes features of another: shapes are those of the features."""
    channels = (8, 12)
    module = rebuilder(RebuilderConfig(dim=16, heads=4), (4, 8), channels, ((16, 32), (8, 16)))
    pyramid = features(channels, ((21, 30), (11, 15)), batch=3)
    rebuilt = module(pyramid, mask(3, (4, 8)))
    assert [stage.shape for stage in rebuilt] == [stage.shape for stage in pyramid]


@settings(max_examples=25)
@given(
    heads=st.integers(1, 4),
    width=st.integers(1, 6),
    blocks=st.integers(0, 2),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    rows=st.integers(1, 13),
    columns=st.integers(1, 13),
    projector=st.sampled_from(Projector),
)
def test_widths_heads_grid_and_sizes_are_free(
    heads: int,
    width: int,
    blocks: int,
    grid: tuple[int, int],
    channels: list[int],
    rows: int,
    columns: int,
    projector: Projector,
) -> None:
    """Any combination rebuilds features of the same shape, finite, with a gradient for the token where it is used."""
    config = RebuilderConfig(dim=4 * heads * width, heads=heads, blocks=blocks, projector=projector)
    sizes = tuple((rows * 2**i, columns * 2**i) for i in reversed(range(len(channels))))
    module = rebuilder(config, grid, tuple(channels), sizes)
    pyramid, keep = features(tuple(channels), sizes), mask(2, grid, 0.6)
    keep[0, 0, 0, 0] = 0
    rebuilt = module(pyramid, keep)
    assert [stage.shape for stage in rebuilt] == [stage.shape for stage in pyramid]
    assert all(bool(stage.isfinite().all()) for stage in rebuilt)
    torch.stack([stage.square().sum() for stage in rebuilt]).sum().backward()
    assert module.mask_token.grad is not None


def test_projector_widths_are_half_and_a_quarter_of_dim() -> None:
    """dim 24: transposed convolutions to 12, 6, 6, whatever the stages."""
    module = rebuilder(RebuilderConfig(dim=24, heads=2), (2, 2), (5,), ((16, 16),))
    widths = [m.out_channels for m in module.projector.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert widths == [12, 6, 6]


def test_the_chain_narrows_from_stage_to_stage() -> None:
    """DAFormer's stages: 512 at the grid, then 320, 128 and 64 at twice the size each."""
    module = rebuilder(RebuilderConfig(dim=32, heads=2, projector=Projector.CHAIN), (2, 2), (4, 8, 20, 32),
                       ((16, 16), (8, 8), (4, 4), (2, 2)))  # fmt: skip
    widths = [m.out_channels for m in module.projector.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert widths == [20, 8, 4]


def test_positions_are_sines_and_cosines_of_rows_and_columns() -> None:
    """dim 8 on a 2x3 grid, by hand: rows in the first half, columns in the second, frequencies 1 and 1/100."""
    table = sincos_position((2, 3), 8)
    row, column = 1, 2
    wanted = [np.sin(row), np.sin(row / 100), np.cos(row), np.cos(row / 100)]
    wanted += [np.sin(column), np.sin(column / 100), np.cos(column), np.cos(column / 100)]
    assert table[row * 3 + column].tolist() == pytest.approx(wanted, abs=1e-6)


def test_only_trained_values_are_in_its_state() -> None:
    """The fixed position table is not saved; a learned one is, and learns."""
    fixed, learned = (
        rebuilder(RebuilderConfig(dim=16, heads=4, position=position), (2, 2), (8,), ((4, 4),)) for position in Position
    )
    assert "position" not in fixed.state_dict()
    assert "position" in dict(learned.named_parameters())


# -- wrong input ---------------------------------------------------------------------------------------------------


def test_wrong_shapes_are_one_sentence() -> None:
    """Number of stages, shape of the mask, stages without sizes."""
    module = rebuilder(RebuilderConfig(dim=16, heads=4), (2, 2), (8,), ((4, 4),))
    (stage,) = features((8,), ((4, 4),))
    with pytest.raises(ValueError, match="rebuilds 1 stages, got 2"):
        module((stage, stage), torch.ones(2, 1, 2, 2))
    with pytest.raises(ValueError, match=r"keep must have the shape \(2, 1, 2, 2\), got \(2, 1, 4, 4\)"):
        module((stage,), torch.ones(2, 1, 4, 4))
    with pytest.raises(ValueError, match="one size for each rebuilt stage"):
        rebuilder(RebuilderConfig(), GRID, (8, 8), ((4, 4),))
