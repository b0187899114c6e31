"""The Rebuilder against a slow reference: plain formulas in float64, token by token and head by head.

The recorded figures hold the authors' module at its fixed size. Here width, depth, heads, grid, stages, mask, batch
and both projectors vary; the reference is written from the published description and takes weights by name.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.config import Downscale, MaskDraw, Projector
from trainables.config import Rebuilder as RebuilderConfig
from trainables.models.rebuilder import Rebuilder, random_keep
from trainables.randomness import Streams

Weights = dict[str, Tensor]
Sizes = tuple[tuple[int, int], ...]


def layer_norm(x: Tensor, w: Weights, name: str, epsilon: float) -> Tensor:
    """Over the last dimension, with the biased variance."""
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def map_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    """LayerNorm over the channels of [B, C, H, W]."""
    return layer_norm(x.permute(0, 2, 3, 1), w, name, 1e-6).permute(0, 3, 1, 2)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Cell by cell from the four neighbours of its centre, without antialiasing."""
    out = x.new_empty((*x.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            total: Tensor | float = 0.0
            for row, row_weight in neighbours(i, x.shape[-2], size[0]):
                for column, column_weight in neighbours(j, x.shape[-1], size[1]):
                    total = total + row_weight * column_weight * x[..., row, column]
            out[..., i, j] = total
    return out


def neighbours(index: int, native: int, resized: int) -> list[tuple[int, float]]:
    """Two places and their weights, at the centre (i + 1/2) native / resized - 1/2, held inside."""
    centre = max((index + 0.5) * native / resized - 0.5, 0.0)
    first = min(math.floor(centre), native - 1)
    return [(first, 1 - (centre - first)), (min(first + 1, native - 1), centre - first)]


def attention(x: Tensor, w: Weights, name: str, heads: int) -> Tensor:
    """Head by head: softmax of the scaled products of queries and keys."""
    width = x.shape[-1] // heads
    query, key, value = linear(x, w, f"{name}.qkv").chunk(3, dim=-1)
    out = []
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        score = query[..., mine] @ key[..., mine].transpose(1, 2) / math.sqrt(width)
        out.append(score.softmax(dim=-1) @ value[..., mine])
    return linear(torch.cat(out, dim=-1), w, f"{name}.proj")


def position(grid: tuple[int, int], dim: int) -> Tensor:
    """Half of the channels tell the row, half the column: sines, then cosines, of falling frequencies."""
    quarter, table = dim // 4, []
    for row in range(grid[0]):
        for column in range(grid[1]):
            code = []
            for place in (row, column):
                angles = [place / 10000 ** (k / quarter) for k in range(quarter)]
                code += [*map(math.sin, angles), *map(math.cos, angles)]
            table.append(code)
    return torch.tensor(table, dtype=torch.float64)


def transposed(x: Tensor, w: Weights, name: str, kernel: int, padding: int) -> Tensor:
    """Stride 2: every input cell adds its value times the kernel, then the padding is cut off."""
    kernels, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    batch, _, rows, columns = x.shape
    out = x.new_zeros(batch, kernels.shape[1], 2 * (rows - 1) + kernel, 2 * (columns - 1) + kernel)
    for i in range(rows):
        for j in range(columns):
            patch = torch.einsum("bc,cokl->bokl", x[:, :, i, j], kernels)
            out[:, :, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel] += patch
    inner = out[:, :, padding : out.shape[2] - padding, padding : out.shape[3] - padding]
    return inner + bias.view(1, -1, 1, 1)


def pointwise(x: Tensor, w: Weights, name: str) -> Tensor:
    """A 1x1 convolution."""
    return torch.einsum("bchw,oc->bohw", x, w[f"{name}.weight"][:, :, 0, 0]) + w[f"{name}.bias"].view(1, -1, 1, 1)


def doublings(grid: tuple[int, int], size: tuple[int, int]) -> int:
    """The nearest power of two by which a square feature is finer than the grid."""
    return max(0, round(math.log2(size[0] / grid[0])))


def parallel_offset(x: Tensor, w: Weights, stage: int, count: int) -> Tensor:
    """The authors' projector of one stage: k4 s2 p1 to D/2, then D/4, norms and GELU between, 1x1, norm."""
    name = f"projector.branches.{stage}"
    layer = 0
    for link in range(count):
        if link:
            x = gelu(map_norm(x, w, f"{name}.{layer}"))
            layer += 2
        x = transposed(x, w, f"{name}.{layer}", kernel=4, padding=1)
        layer += 1
    return map_norm(pointwise(x, w, f"{name}.{layer}"), w, f"{name}.{layer + 1}")


def chain_offsets(x: Tensor, w: Weights, counts: list[int]) -> list[Tensor]:
    """The text's projector: 1x1 at the grid, then k2 s2 to each stage's width in turn; norms and GELU between links."""
    maps = {}
    begun = 0 in counts
    if begun:
        x = pointwise(x, w, "projector.links.0")
    maps[0] = x
    for link in range(1, max(counts) + 1):
        name, layer = f"projector.links.{link}", 0
        if begun:
            x, layer = gelu(map_norm(x, w, f"{name}.0")), 2
        x, begun = transposed(x, w, f"{name}.{layer}", kernel=2, padding=0), True
        maps[link] = x
    owners = {count: stage for stage, count in enumerate(counts)}  # of several stages of one size the coarsest
    return [
        maps[count] if owners[count] == stage else pointwise(maps[count], w, f"projector.sides.{stage}")
        for stage, count in enumerate(counts)
    ]


def slow(config: RebuilderConfig, grid: tuple[int, int], pyramid: list[Tensor], keep: Tensor, w: Weights,
         sizes: Sizes) -> list[Tensor]:  # fmt: skip
    """f_r of every stage."""
    batch = len(keep)
    mapped = linear(pyramid[-1].permute(0, 2, 3, 1), w, "embedding.linear").permute(0, 3, 1, 2)
    if config.downscale is Downscale.AREA:
        factor = mapped.shape[-1] // grid[1]
        mapped = mapped.unflatten(3, (grid[1], factor)).unflatten(2, (grid[0], factor)).mean(dim=(3, 5))
    else:
        mapped = bilinear(mapped, grid)
    tokens = mapped.flatten(2).transpose(1, 2).clone()
    for image in range(batch):
        for cell in range(grid[0] * grid[1]):
            if keep[image, 0, cell // grid[1], cell % grid[1]] == 0:
                tokens[image, cell] = w["mask_token"]
    tokens = tokens + position(grid, config.dim)
    for block in range(config.blocks):
        name = f"blocks.{block}"
        tokens = tokens + attention(layer_norm(tokens, w, f"{name}.norm1", 1e-5), w, f"{name}.attn", config.heads)
        hidden = gelu(linear(layer_norm(tokens, w, f"{name}.norm2", 1e-5), w, f"{name}.mlp.fc1"))
        tokens = tokens + linear(hidden, w, f"{name}.mlp.fc2")
    tokens = layer_norm(tokens, w, "norm", 1e-5)
    square = tokens.transpose(1, 2).reshape(batch, config.dim, *grid)
    counts = [doublings(grid, size) for size in sizes]
    if config.projector is Projector.CHAIN:
        offsets = chain_offsets(square, w, counts)
    else:
        offsets = [parallel_offset(square, w, stage, count) for stage, count in enumerate(counts)]
    rebuilt = []
    for stage, offset in zip(pyramid, offsets, strict=True):
        if offset.shape != stage.shape:
            offset = bilinear(offset, (stage.shape[-2], stage.shape[-1]))
        out = stage.clone()
        for i in range(stage.shape[-2]):
            for j in range(stage.shape[-1]):
                cell = keep[:, 0, i * grid[0] // stage.shape[-2], j * grid[1] // stage.shape[-1]]
                out[:, :, i, j] = torch.where(cell.bool().unsqueeze(1), stage[:, :, i, j], offset[:, :, i, j])
        rebuilt.append(out)
    return rebuilt


def randomised(module: Rebuilder, seed: int) -> Rebuilder:
    """Every weight drawn anew, so that none is 0 or 1 by its initial value."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 3]),
    width=st.sampled_from([4, 8]),
    blocks=st.integers(0, 3),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    counts=st.sampled_from([(0,), (1,), (2,), (3,), (1, 0), (2, 1, 0), (3, 2, 1, 0), (2, 1), (3, 1)]),
    ratio=st.sampled_from([0.0, 0.4, 0.9]),
    projector=st.sampled_from(Projector),
    downscale=st.sampled_from(Downscale),
    draw=st.sampled_from(MaskDraw),
)
def test_the_rebuilder_is_its_formula(
    seed: int,
    batch: int,
    heads: int,
    width: int,
    blocks: int,
    grid: tuple[int, int],
    counts: tuple[int, ...],
    ratio: float,
    projector: Projector,
    downscale: Downscale,
    draw: MaskDraw,
) -> None:
    """Rebuilt stages of both projectors, any width, depth, grid, ratio and batch."""
    config = RebuilderConfig(dim=heads * width, heads=heads, blocks=blocks, projector=projector, downscale=downscale)
    sizes = tuple((grid[0] * 2**count, grid[1] * 2**count) for count in counts)
    generator = torch.Generator().manual_seed(seed)
    channels = tuple(int(c) for c in torch.randint(2, 6, (len(counts),), generator=generator))
    pyramid = [
        torch.randn(batch, c, *size, generator=generator, dtype=torch.float64)
        for c, size in zip(channels, sizes, strict=True)
    ]
    with torch.random.fork_rng(devices=[]):
        module = randomised(Rebuilder(config, grid, channels, sizes).double(), seed)
    keep = random_keep(Streams(seed), 0, batch, grid, ratio, draw).double()
    with torch.no_grad():
        wanted = slow(config, grid, pyramid, keep, dict(module.state_dict()), sizes)
        found = module(tuple(pyramid), keep)
    for one, other in zip(found, wanted, strict=True):
        # the fixed position table is float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("projector", list(Projector))
@pytest.mark.parametrize("grid", [(5, 3), (8, 8), (3, 4)])
def test_features_that_no_doubling_fits(projector: Projector, grid: tuple[int, int]) -> None:
    """Odd sizes: the map at the nearest power of two, resized cell by cell; two stages of one size."""
    config = RebuilderConfig(dim=8, heads=2, blocks=1, projector=projector)
    sizes = ((7, 7), (7, 7)) if grid == (8, 8) else ((3 * grid[0], 3 * grid[1]), (grid[0] + 1, grid[1] + 1))
    channels = (3, 5)
    generator = torch.Generator().manual_seed(1)
    pyramid = [
        torch.randn(2, c, *size, generator=generator, dtype=torch.float64)
        for c, size in zip(channels, sizes, strict=True)
    ]
    with torch.random.fork_rng(devices=[]):
        module = randomised(Rebuilder(config, grid, channels, sizes).double(), 2)
    keep = random_keep(Streams(3), 0, 2, grid, 0.5, MaskDraw.BERNOULLI).double()
    with torch.no_grad():
        found = module(tuple(pyramid), keep)
        wanted = slow(config, grid, pyramid, keep, dict(module.state_dict()), sizes)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_slow_resize_is_torchs() -> None:
    """The reference's own resize, up and down, against torch's."""
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for size in ((3, 4), (9, 7), (12, 16), (1, 1)):
        expected = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(bilinear(x, size), expected, atol=1e-12)
