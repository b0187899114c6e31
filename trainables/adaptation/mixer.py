"""The interface of a mixer: what it mixes in a step, what it may remember, and what it gives back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.models.segmentor import laid_out
from trainables.step_data import Batch, Mixed, PseudoLabel

if TYPE_CHECKING:
    from trainables.randomness import Streams
    from trainables.step_data import SourceOfClass

__all__ = ["MixView", "Mixed", "Mixer", "paste"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixView:
    """What a mixer sees of one training step.

    Args:
        step: The step's number, from 0.
        total_steps: Steps of the whole run; a phase that begins at a share of the run is measured on it.
        streams: Every draw.
        source: Labelled source images.
        target: Target images, before colour augmentation.
        pseudo: The teacher's labels of the target; its `confidence` serves masks of one's own.
        source_of_class: Further source images, drawn by class.
        mean, std: Normalisation of images (pixel values, RGB).
    """

    step: int
    total_steps: int
    streams: Streams
    source: Batch
    target: Batch
    pseudo: PseudoLabel
    source_of_class: SourceOfClass
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def paste(self, pasted: Tensor) -> Mixed:
        """Source pixels over the target where `pasted` [B, H, W], bool, is 1 (see the function)."""
        return paste(self.source, self.target, self.pseudo, pasted)


def paste(source: Batch, target: Batch, pseudo: PseudoLabel, pasted: Tensor) -> Mixed:
    """Source pixels over target images; they weigh 1, the others what the pseudo-label weighs.

    Args:
        source: With labels.
        target, pseudo: The images, and the teacher's labels of them.
        pasted: Where the source is taken, [B, H, W], bool.
    """
    return Mixed(
        image=laid_out(torch.where(pasted.unsqueeze(1), source.image, target.image), target.image),
        label=torch.where(pasted, source.ground_truth, pseudo.label),
        weight=pseudo.weight.masked_fill(pasted, 1.0),
        pasted=pasted.unsqueeze(1),
    )


class Mixer(nn.Module):
    """Makes the images of L_uda.

    What it remembers from step to step are buffers (`register_buffer`), which are in the checkpoint, so that a resumed
    trial remembers the same. A buffer may begin empty (None, or no elements) and take the shape of what it holds later.
    A mixer has no trained parameters, and no part in the exported model.
    """

    def check_classes(self, num_classes: int) -> None:
        """Called once before training: refuse settings that name classes which the data have not.

        Raises:
            ValueError: They do.
        """

    @abstractmethod
    def mix(self, view: MixView) -> tuple[Mixed, ...]:
        """One or more batches of mixed images; auxiliary tasks on mixed images see the first.

        Called once a step, in order, without gradients. Colours are augmented afterwards, unless `Mixed.augmented`.
        """
