"""DropBlock on target features: square blocks of each channel are zeroed before the decoder (Ghiasi et al. 2018).

One of the regularisers that the paper's discussion of Table 2(c) sets beside masking. It masks blocks of places like
MFM, each channel on its own, and rebuilds nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.config import DropBlock
from trainables.geometry import size_of
from trainables.step_data import StepView
from trainables.tasks.target_pass import edited_target_loss
from trainables.tasks.task import AuxiliaryTask


class DropBlockTask(AuxiliaryTask):
    """weight * cross-entropy of the target's pseudo-labels, predicted from features with dropped blocks.

    Args:
        config: Weight, probability (1 - keep_prob) and side of a block in feature cells.
    """

    name = "dropblock"

    def __init__(self, config: DropBlock) -> None:
        super().__init__()
        self.probability = config.probability
        self.block = config.block

    def loss(self, view: StepView) -> Tensor:
        """Of the target batch. The draws (one a channel and place) are made on the features' device."""
        device = view.target.image.device
        generator = view.streams.generator("feature drop", view.step, device)

        def drop(stage: Tensor) -> Tensor:
            rows, columns = block_size(stage, self.block)
            places = (*stage.shape[:2], stage.shape[2] - rows + 1, stage.shape[3] - columns + 1)
            score = torch.rand(places, generator=generator, device=device)
            return drop_blocks(stage, score, self.probability, self.block)

        return edited_target_loss(view, drop)


def block_size(stage: Tensor, block: int) -> tuple[int, int]:
    """(rows, columns) of a block: `block`, or the whole side where that is smaller."""
    return min(block, stage.shape[-2]), min(block, stage.shape[-1])


def seed_probability(size: tuple[int, int], block: tuple[int, int], probability: float) -> float:
    """gamma of the paper's Eq. 1: how likely a block starts at a place, so that about `probability` is dropped.

    gamma = probability / b^2 * (h w) / ((h - b + 1) (w - b + 1)); blocks that overlap make the dropped share smaller.

    Args:
        size: (rows, columns) of the features.
        block: (rows, columns) of a block.
        probability: Share to drop.
    """
    places = (size[0] - block[0] + 1) * (size[1] - block[1] + 1)
    return probability / (block[0] * block[1]) * (size[0] * size[1]) / places


def drop_blocks(stage: Tensor, score: Tensor, probability: float, block: int) -> Tensor:
    """Zero a block at each place whose score lies below gamma; multiply the rest by all cells / kept cells.

    The ratio is taken over the whole batch, as in the paper's Algorithm 1. Where nothing is kept all is 0.

    Args:
        stage: [B, C, h, w].
        score: Uniform numbers in [0, 1) for the places where a whole block begins (its first row and column),
            [B, C, h - b + 1, w - b + 1].
        probability: Share to drop.
        block: Side b of a block in cells.
    """
    rows, columns = block_size(stage, block)
    gamma = seed_probability(size_of(stage), (rows, columns), probability)
    seeds = F.pad((score < gamma).to(stage.dtype), (columns - 1, columns - 1, rows - 1, rows - 1))
    keep = 1 - F.max_pool2d(seeds, (rows, columns), stride=1)
    kept = keep.sum(dtype=torch.float32).clamp(min=1)
    return stage * keep * (keep.numel() / kept).to(stage.dtype)
