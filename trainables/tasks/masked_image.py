"""Masked image modelling as an auxiliary task: predict the pixels of masked patches (the paper's Figure 1(b), Eq. 3).

The encoders of segmentation networks cannot leave tokens out, so masked patches are filled with the mean colour. The
decoder is one linear map of the features (SimMIM, Xie et al. 2022); the target is normalised patch by patch (MAE, He et
al. 2022). Gradients reach the encoder and this map, never the segmentation decoder: what the paper holds against it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import MaskDraw, MaskedImageModelling
from trainables.geometry import size_of
from trainables.losses import PATCH_EPSILON, masked_mean
from trainables.models.rebuilder import random_keep
from trainables.models.segmentor import Segmentor
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask


class MaskedImageTask(AuxiliaryTask):
    """weight * mean squared error on the pixels of masked patches of the target.

    HRDA's encoder sees the context (the image at half its resolution); patches are measured on what it sees.

    Args:
        config: Weight, ratio and side of a patch in pixels.
        student: For the shapes of its features.
        image_size: (rows, columns) of a training image.
    """

    name = "masked_image"

    def __init__(self, config: MaskedImageModelling, student: Segmentor, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.ratio = config.ratio
        self.patch = config.patch
        self.stage = student.decoded_stages[-1]
        seen = size_of(student.context(torch.zeros(1, 1, *image_size)))
        cells = student.stage_size(self.stage, image_size)
        # pixels to a feature cell, the same down and across, so that all of the image is predicted
        self.cell = max(-(-side // number) for side, number in zip(seen, cells, strict=True))
        self.head = nn.Conv2d(student.channels[self.stage], 3 * self.cell**2, 1)

    def loss(self, view: StepView) -> Tensor:
        """The error of this step's target batch."""
        image = view.student.context(view.target.image)
        keep = self._keep(view, image)
        features = view.student.encoder(image * keep)[self.stage]  # 0 is the mean colour
        predicted = F.pixel_shuffle(self.head(features), self.cell)[..., : image.shape[-2], : image.shape[-1]]
        wanted = normalised_patches(image, self.patch)
        return masked_error(predicted.to(wanted.dtype), wanted, 1 - keep)

    def _keep(self, view: StepView, image: Tensor) -> Tensor:
        """1 = visible, [B, 1, H, W]; the same count of patches in every image (MAE)."""
        grid = (-(-image.shape[-2] // self.patch), -(-image.shape[-1] // self.patch))
        keep = random_keep(
            view.streams, view.step, len(image), grid, self.ratio, MaskDraw.EXACT, purpose="image patches"
        )
        keep = keep.to(image.device, image.dtype, non_blocking=True)
        return spread(keep, self.patch, size_of(image))


def spread(patches: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """One value a patch [B, C, ceil(H / p), ceil(W / p)] -> one a pixel [B, C, H, W]."""
    pixels = patches.repeat_interleave(patch, dim=-2).repeat_interleave(patch, dim=-1)
    return pixels[..., : size[0], : size[1]]


def normalised_patches(image: Tensor, patch: int) -> Tensor:
    """The image [B, 3, H, W], each patch less its mean, over its standard deviation (all channels together).

    The variance is the sum of squares over N - 1, as in MAE. Patches at the right and bottom may be cut off; their
    statistics are those of what is there.
    """
    size = size_of(image)

    def total(x: Tensor) -> Tensor:
        each = F.avg_pool2d(x, patch, ceil_mode=True, divisor_override=1)  # sums what is inside the image
        return spread(each.sum(dim=1, keepdim=True), patch, size)

    count = total(torch.ones_like(image[:1]))
    centred = image - total(image) / count
    return centred / (total(centred.square()) / (count - 1) + PATCH_EPSILON).sqrt()


def masked_error(predicted: Tensor, wanted: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error over masked pixels and all channels; 0 where nothing is masked.

    Args:
        predicted, wanted: [B, 3, H, W].
        masked: 1 = masked, [B, 1, H, W].
    """
    return masked_mean((predicted - wanted).square().mean(dim=1, keepdim=True), masked)
