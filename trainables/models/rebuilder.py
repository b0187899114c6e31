"""The Rebuilder: masks encoder features and rebuilds what was masked (the paper's Figures 2 and 3, Eq. 6 and 7).

    f -> embedding -> mask token where keep = 0 -> + position -> Transformer blocks -> projector -> offset f_o
    f_r = keep * f + (1 - keep) * f_o

The default follows the authors' public module (10,246,016 parameters for DeepLab-V2 R101, 14,545,280 for DAFormer
MiT-B5); `Projector.CHAIN` is the reading of the paper's text and Figure 3(b). Width, depth, heads, grid and input size
are free. Letters in shapes: B batch, C channels of a stage, H' W' the grid, N = H' W' tokens, D = `config.dim`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from trainables.config import Downscale, MaskDraw, Position, Projector
from trainables.config import Rebuilder as RebuilderConfig
from trainables.models.segmentor import Pyramid, upsample
from trainables.randomness import Streams

MASK_TOKEN_STD = 0.02
MLP_RATIO = 4.0
SINCOS_BASE = 10000.0
MAP_NORM_EPSILON = 1e-6  # of the norms on maps; those on tokens have torch's 1e-5


def random_keep(
    streams: Streams,
    step: int,
    batch: int,
    grid: tuple[int, int],
    ratio: float,
    draw: MaskDraw,
    *,
    purpose: str = "feature mask",
) -> Tensor:
    """Draw which grid cells are kept.

    The cells with the smallest uniform numbers are masked, so what is masked at one ratio is masked at every larger
    one. `BERNOULLI` keeps a cell whose number is greater than the ratio (the authors' module), at ratio 0 all; `EXACT`
    masks the same count in every image, keeping floor((1 - ratio) N) cells as MAE does: 153 of 256 at ratio 0.4.

    Args:
        batch: Number of masks; with HRDA one for the context and one for the detail of each image.
        grid: (rows, columns).
        ratio: Share of masked cells, in [0, 1).
        purpose: Which stream to draw from.

    Returns:
        1 = kept, [B, 1, H', W'], float32 on the CPU.
    """
    score = streams.uniform(purpose, step, (batch, 1, *grid))
    match draw:
        case MaskDraw.BERNOULLI:
            keep = (score > ratio) | (ratio == 0)
        case MaskDraw.EXACT:
            cells = grid[0] * grid[1]
            masked = math.ceil(ratio * cells - 1e-9)  # 0.7 * 10 is 7 cells, whatever the rounding of the product
            rank = score.flatten(1).argsort(dim=1).argsort(dim=1)
            keep = (rank >= masked).reshape(score.shape)
    return keep.float()


class Rebuilder(nn.Module):
    """Rebuilds the masked cells of the stages that a decoder reads.

    Initial weights come from torch's global generator: build it under a seed of its own.

    Args:
        config: Width, depth and readings.
        grid: (rows, columns) of the mask, H' and W'.
        channels: C_i of the rebuilt stages, fine to coarse; the last one feeds the embedding.
        sizes: Nominal (rows, columns) of each of these stages, at the training crop. They set the number of
            upsamplings; a stage of any other size gets its offset resized bilinearly.
    """

    position: Tensor

    def __init__(
        self,
        config: RebuilderConfig,
        grid: tuple[int, int],
        channels: tuple[int, ...],
        sizes: tuple[tuple[int, int], ...],
    ) -> None:
        super().__init__()
        if not channels or len(channels) != len(sizes):
            raise ValueError(
                f"Rebuilder needs one size for each rebuilt stage, got channels {channels!r} and sizes {sizes!r}; "
                "give both for the same stages, at least one."
            )
        dim, doublings = config.dim, tuple(upsamplings(grid, size) for size in sizes)
        self.grid = grid
        self.channels = channels
        self.embedding = Embedding(channels[-1], dim, grid, config.downscale)
        self.mask_token = nn.Parameter(torch.empty(dim))
        self._add_position(config.position, dim)
        self.blocks = nn.Sequential(
            *(Block(dim, config.heads, MLP_RATIO, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(config.blocks))
        )
        self.norm = nn.LayerNorm(dim)
        self.projector: ParallelProjector | ChainProjector
        match config.projector:
            case Projector.PARALLEL:
                self.projector = ParallelProjector(dim, channels, doublings)
            case Projector.CHAIN:
                self.projector = ChainProjector(dim, channels, doublings)
        self._initialise()

    def _add_position(self, kind: Position, dim: int) -> None:
        match kind:
            case Position.SINCOS:
                self.register_buffer("position", sincos_position(self.grid, dim), persistent=False)
            case Position.LEARNED:
                self.position = nn.Parameter(torch.empty(self.grid[0] * self.grid[1], dim))
                nn.init.normal_(self.position, std=MASK_TOKEN_STD)

    def _initialise(self) -> None:
        nn.init.normal_(self.mask_token, std=MASK_TOKEN_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def tokens(self, pyramid: Pyramid, keep: Tensor) -> Tensor:
        """What the Transformer makes of the visible cells: block output after the final norm, [B, N, D].

        Args:
            pyramid: The rebuilt stages, fine to coarse, each [B, C_i, H_i, W_i].
            keep: 1 = kept, [B, 1, H', W'].

        Raises:
            ValueError: If the number of stages, the batch or the grid of `keep` is not what was announced.
        """
        self._check(pyramid, keep)
        embedded = self.embedding(pyramid[-1])
        visible = keep.flatten(1).unsqueeze(-1) > 0.5
        tokens = torch.where(visible, embedded, self.mask_token.to(embedded.dtype)) + self.position
        out: Tensor = self.norm(self.blocks(tokens))
        return out

    def offsets(self, pyramid: Pyramid, keep: Tensor) -> Pyramid:
        """f_o of every stage at its stage's size, [B, C_i, H_i, W_i], at kept cells too. Arguments as of `tokens`."""
        tokens = self.tokens(pyramid, keep)
        maps = self.projector(tokens.view(len(tokens), *self.grid, -1).permute(0, 3, 1, 2))
        return tuple(_resize(one, stage.shape[-2:]) for one, stage in zip(maps, pyramid, strict=True))

    def forward(self, pyramid: Pyramid, keep: Tensor) -> Pyramid:
        """f_r of every stage: features where kept, bit for bit, offsets where masked. Arguments as of `tokens`."""
        return tuple(
            torch.where(resize_keep(keep, stage) > 0.5, stage, offset.to(stage.dtype))
            for stage, offset in zip(pyramid, self.offsets(pyramid, keep), strict=True)
        )

    def _check(self, pyramid: Pyramid, keep: Tensor) -> None:
        if len(pyramid) != len(self.channels):
            raise ValueError(f"Rebuilder rebuilds {len(self.channels)} stages, got {len(pyramid)}; give these only.")
        wanted = (len(pyramid[-1]), 1, *self.grid)
        if tuple(keep.shape) != wanted:
            raise ValueError(f"keep must have the shape {wanted}, got {tuple(keep.shape)}; draw it with random_keep.")


class Embedding(nn.Module):
    """The last stage as tokens: a linear map to D channels, resized to the grid; [B, C, H, W] -> [B, N, D].

    The paper and the authors' module apply the linear map first. Both resizings take weighted means, with which a
    linear map commutes, so it is applied to the smaller of the two maps: for 64x64 features and a 16x16 grid at 1/16 of
    the cost.
    """

    def __init__(self, channels: int, dim: int, grid: tuple[int, int], downscale: Downscale) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, dim)
        self.grid = grid
        self.downscale = downscale

    def forward(self, feature: Tensor) -> Tensor:
        rows, columns = feature.shape[-2:]
        if rows * columns < self.grid[0] * self.grid[1]:
            mapped = self.linear(feature.permute(0, 2, 3, 1))
            return self._to_grid(mapped.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        tokens: Tensor = self.linear(self._to_grid(feature).permute(0, 2, 3, 1)).flatten(1, 2)
        return tokens

    def _to_grid(self, x: Tensor) -> Tensor:
        shrinks = x.shape[-2] >= self.grid[0] and x.shape[-1] >= self.grid[1]
        if self.downscale is Downscale.AREA and shrinks:
            return F.adaptive_avg_pool2d(x, self.grid)
        return _resize(x, self.grid)


class ParallelProjector(nn.Module):
    """One branch a stage, each from the tokens' map (the authors' module): [B, D, H', W'] -> [B, C_i, 2^n H', 2^n W'].

    n transposed convolutions (kernel 4, stride 2, padding 1) of widths D/2, D/4, D/4, ... with LayerNorm and GELU
    between, then a 1x1 convolution to C_i and a LayerNorm.

    Args:
        dim: D.
        channels: C_i.
        doublings: n of each stage.
    """

    def __init__(self, dim: int, channels: tuple[int, ...], doublings: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            self._branch(dim, outputs, count) for outputs, count in zip(channels, doublings, strict=True)
        )

    @staticmethod
    def _branch(dim: int, channels: int, doublings: int) -> nn.Sequential:
        widths = [dim, dim // 2] + [dim // 4] * doublings
        layers: list[nn.Module] = []
        for index in range(doublings):
            if index:
                layers += [LayerNorm2d(widths[index], eps=MAP_NORM_EPSILON), nn.GELU()]
            layers.append(nn.ConvTranspose2d(widths[index], widths[index + 1], 4, 2, 1))
        layers += [nn.Conv2d(widths[doublings], channels, 1), LayerNorm2d(channels, eps=MAP_NORM_EPSILON)]
        return nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Pyramid:
        return tuple(branch(tokens) for branch in self.branches)


class ChainProjector(nn.Module):
    """One chain for all stages (the paper's Figure 3(b)): the map after each link is the offset of its size's stage.

    Link 0 is a 1x1 convolution where a stage has the grid's size; link n is a transposed convolution (kernel 2, stride
    2) to 2^n times the grid. A link is as wide as its stage, or D where no stage has its size; LayerNorm and GELU stand
    between links, not on the offsets. Of several stages of one size the coarsest is the link's own, the others take a
    1x1 convolution of it. For DAFormer at dim 512: 512 -> 512, then 320, 128, 64; for DeepLab-V2: 512, then 2048.
    Arguments as of `ParallelProjector`.
    """

    def __init__(self, dim: int, channels: tuple[int, ...], doublings: tuple[int, ...]) -> None:
        super().__init__()
        self.doublings = doublings
        owners = {count: stage for stage, count in enumerate(doublings)}  # the last stage of a size wins
        widths = [channels[owners[n]] if n in owners else dim for n in range(max(doublings) + 1)]
        first: nn.Module = nn.Conv2d(dim, widths[0], 1) if 0 in owners else nn.Identity()
        self.links = nn.ModuleList([first])
        for before, after in pairwise(widths):
            between = (
                [LayerNorm2d(before, eps=MAP_NORM_EPSILON), nn.GELU()] if len(self.links) > 1 or 0 in owners else []
            )
            self.links.append(nn.Sequential(*between, nn.ConvTranspose2d(before, after, 2, 2)))
        self.sides = nn.ModuleList(
            nn.Identity() if owners[count] == stage else nn.Conv2d(widths[count], channels[stage], 1)
            for stage, count in enumerate(doublings)
        )

    def forward(self, tokens: Tensor) -> Pyramid:
        maps = []
        for link in self.links:
            tokens = link(tokens)
            maps.append(tokens)
        return tuple(side(maps[count]) for side, count in zip(self.sides, self.doublings, strict=True))


def upsamplings(grid: tuple[int, int], size: tuple[int, int]) -> int:
    """How many doublings lead from the grid to about a feature's size: the nearest power of two, halves rounded up.

    Rows and columns count alike (the mean of their logarithms); 0 where the feature is no larger than the grid.
    """
    logarithm = (math.log2(size[0] / grid[0]) + math.log2(size[1] / grid[1])) / 2
    return max(0, math.floor(logarithm + 0.5))


def sincos_position(grid: tuple[int, int], dim: int) -> Tensor:
    """Fixed 2-D sine-cosine table in MAE's form, [N, D] float32: half of the channels for rows, half for columns.

    Within a half, sines of all frequencies, then cosines; frequencies fall geometrically from 1 to 1/10000.
    """
    count = dim // 4
    frequency = SINCOS_BASE ** (-torch.arange(count, dtype=torch.float64) / count)
    rows = torch.arange(grid[0], dtype=torch.float64).repeat_interleave(grid[1])
    columns = torch.arange(grid[1], dtype=torch.float64).repeat(grid[0])
    angles = [place[:, None] * frequency for place in (rows, columns)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


def resize_keep(keep: Tensor, stage: Tensor) -> Tensor:
    """The mask at a stage's size by nearest (a mask is binary), [B, 1, H_i, W_i], in the mask's dtype."""
    size = stage.shape[-2:]
    return keep if keep.shape[-2:] == size else F.interpolate(keep, size=size, mode="nearest")


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear, corners not aligned, no antialias.

    Shrinking by a whole factor reads each cell for one output at most, so that the gradient's order of summation cannot
    change from run to run, and `F.interpolate` is the faster form; everything else goes through `upsample`.
    """
    if x.shape[-2:] == tuple(size):
        return x
    if x.shape[-2] % size[0] == 0 and x.shape[-1] % size[1] == 0:
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
    return upsample(x, size)
