"""MIC: predict the teacher's labels from an image whose blocks are masked (Hoyer et al. 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.adaptation.augmentation import augment
from trainables.config import Blur, MaskedConsistency, MaskedView, SelfTraining
from trainables.geometry import size_of
from trainables.randomness import Streams
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask


class MaskedConsistencyTask(AuxiliaryTask):
    """Cross-entropy of a masked image's prediction against pseudo-labels, with their weights.

    `config.weight` multiplies the main term only, not HRDA's detail term, as in the reference implementation; so it is
    applied here and the task's own weight is 1.

    Args:
        config: Weight, mask and which image is masked.
        adaptation: Its jitter serves here too, with draws of its own.
    """

    name = "masked_consistency"
    weight = 1.0

    def __init__(self, config: MaskedConsistency, adaptation: SelfTraining) -> None:
        super().__init__()
        self.config = config
        self.adaptation = adaptation

    def loss(self, view: StepView) -> Tensor:
        """weight * main term + detail term."""
        image, label, weight = self._view(view)
        size = size_of(image)
        keep = block_mask(view.streams, view.step, len(image), size, self.config.block, self.config.ratio)
        box = view.box(image, "masked")
        masked = image * keep.to(image.device, image.dtype, non_blocking=True)  # 0 is the mean colour
        loss = view.student.loss(view.student(masked, box), label, weight)
        main = self.config.weight * loss.main
        return main if loss.detail is None else main + loss.detail

    def _view(self, view: StepView) -> tuple[Tensor, Tensor, Tensor]:
        """Image, label and weight of each pixel."""
        target, pseudo = view.target.image, view.pseudo
        match self.config.view:
            case MaskedView.TARGET:
                return target, pseudo.label, pseudo.weight
            case MaskedView.TARGET_AUGMENTED:
                return self._augmented(view), pseudo.label, pseudo.weight
            case MaskedView.SOURCE_AND_TARGET:
                half = max(1, len(target) // 2)  # one of each in the reference implementation's batch of two
                weight = pseudo.weight[:half]
                return (
                    torch.cat([view.source.image[:half], target[:half]]),
                    torch.cat([view.source.ground_truth[:half], pseudo.label[:half]]),
                    torch.cat([torch.ones_like(weight), weight]),
                )

    def _augmented(self, view: StepView) -> Tensor:
        """The target batch, jittered and blurred in one call: one order and one sigma for all images.

        The reference implementation blurs here even where mixed images are not blurred.
        """
        target = view.target.image
        blur = Blur() if self.adaptation.blur is None else self.adaptation.blur
        return augment(
            target,
            self.adaptation.jitter,
            blur,
            view.streams,
            view.step,
            view.mean,
            view.std,
            name="masked ",
            per_image=False,
        )


def block_mask(streams: Streams, step: int, batch: int, size: tuple[int, int], block: int, ratio: float) -> Tensor:
    """A keep-mask of square blocks, 0 with probability `ratio`, each drawn alone.

    Args:
        streams: Draws, purpose `image mask`.
        step: Training step.
        batch: B.
        size: (rows, columns); where it is no multiple of the block, blocks are a little larger or smaller.
        block: Side of a block, pixels.
        ratio: Share of masked blocks.

    Returns:
        [B, 1, H, W], 1 = kept, float32 on the CPU.
    """
    rows, columns = (max(1, round(side / block)) for side in size)
    keep = streams.uniform("image mask", step, (batch, 1, rows, columns)) > ratio
    return F.interpolate(keep.float(), size=size, mode="nearest")
