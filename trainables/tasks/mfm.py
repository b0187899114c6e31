"""Masked Feature Modeling: mask encoder features, rebuild them, and learn from the result.

    L_mfm = CE(D(R(E(x_t))), pseudo-label)                                   (Eq. 4)
    f_r   = M * f_o + (1 - M) * f_t, M = 1 - keep                             (Eq. 6, 7)

Where gradients go: pixel classification reaches the encoder, the decoder and the Rebuilder; feature and pixel
reconstruction reach the encoder (through the visible features) and the Rebuilder, never the decoder; the teacher has
none.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.adaptation.augmentation import augment
from trainables.adaptation.teacher import frozen_statistics
from trainables.config import (
    AttentionSource,
    LabelWeight,
    LossRegion,
    Mfm,
    MfmInput,
    Objective,
    SelfTraining,
)
from trainables.geometry import size_of
from trainables.losses import PATCH_EPSILON, masked_mean
from trainables.models.rebuilder import Rebuilder, random_keep
from trainables.models.segmentor import Encoded, Pyramid, Segmentor
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask


class MfmTask(AuxiliaryTask):
    """The term lambda * L_mfm.

    Args:
        config: Settings; `rebuilder=None` fills masked features with zeros.
        adaptation: Threshold, jitter and blur of the method it is added to.
        segmentor: The student, for the shapes of its features.
        image_size: (rows, columns) of a training image.
    """

    name = "mfm"

    def __init__(
        self, config: Mfm, adaptation: SelfTraining, segmentor: Segmentor, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.config = config
        self.adaptation = adaptation
        self.start_step = config.start_step
        self.stages = segmentor.decoded_stages
        self.patch = tuple(max(1, round(size / cells)) for size, cells in zip(image_size, config.grid, strict=True))
        self.rebuilder: Rebuilder | None = None
        self.pixel_head: nn.Linear | None = None
        if config.rebuilder is not None:
            self.learning_rate = config.rebuilder.learning_rate
            self.weight_decay = config.rebuilder.weight_decay
            self.rebuilder = Rebuilder(
                config.rebuilder,
                config.grid,
                channels=tuple(segmentor.channels[stage] for stage in self.stages),
                sizes=tuple(segmentor.stage_size(stage, image_size) for stage in self.stages),
            )
        if config.rebuilder is not None and config.objective is Objective.PIXEL_RECONSTRUCTION:
            self.pixel_head = nn.Linear(config.rebuilder.dim, 3 * self.patch[0] * self.patch[1])

    def loss(self, view: StepView) -> Tensor:
        """L_mfm of this step."""
        box = view.box(view.target.image)
        image = self._image(view)
        with ExitStack() as stack:
            if self.config.freeze_statistics:
                stack.enter_context(frozen_statistics(view.student))
            encoded = view.student.encode(image, box)
            if self.config.detach_encoder:
                encoded = encoded.detach()
            features = self._stacked(encoded)
            keep = random_keep(
                view.streams, view.step, len(features[-1]), self.config.grid, self.config.ratio, self.config.draw
            ).to(features[-1].device, non_blocking=True)
            match self.config.objective:
                case Objective.PIXEL_CLASSIFICATION:
                    return self._classification(view, encoded, features, keep)
                case Objective.PIXEL_RECONSTRUCTION:
                    return self._pixel_reconstruction(image, encoded, features, keep)
                case Objective.FEATURE_TEACHER:
                    with torch.no_grad(), frozen_statistics(view.teacher):
                        target = self._stacked(view.teacher.encode(image, box))
                    return self._feature_reconstruction(features, target, keep)
                case Objective.FEATURE_STUDENT:
                    return self._feature_reconstruction(features, features, keep)

    def _image(self, view: StepView) -> Tensor:
        match self.config.input:
            case MfmInput.TARGET:
                return view.target.image
            case MfmInput.MIXED:
                return view.mixed[0].image
            case MfmInput.TARGET_AUGMENTED:
                settings = self.adaptation
                return augment(
                    view.target.image,
                    settings.jitter,
                    settings.blur,
                    view.streams,
                    view.step,
                    view.mean,
                    view.std,
                    name="target ",
                )

    def _stacked(self, encoded: Encoded) -> Pyramid:
        """The decoded stages; HRDA's context and detail in turn along the batch, each with a mask of its own."""
        return tuple(torch.cat([pyramid[stage] for pyramid in encoded.pyramids]) for stage in self.stages)

    def _with_stages(self, encoded: Encoded, stacked: Pyramid) -> Encoded:
        """Put rebuilt stages back where `_stacked` took them from."""
        parts = [stage.chunk(len(encoded.pyramids)) for stage in stacked]
        pyramids = []
        for index, pyramid in enumerate(encoded.pyramids):
            edited = list(pyramid)
            for place, stage in enumerate(self.stages):
                edited[stage] = parts[place][index]
            pyramids.append(tuple(edited))
        attention = encoded.pyramids[0] if self.config.attention is AttentionSource.ORIGINAL else None
        return encoded.with_pyramids(tuple(pyramids), attention=attention)

    def _classification(self, view: StepView, encoded: Encoded, features: Pyramid, keep: Tensor) -> Tensor:
        if self.rebuilder is None:
            rebuilt = tuple(stage * _resized(keep, stage) for stage in features)
        else:
            rebuilt = self.rebuilder(features, keep)
        outputs = view.student.decode(self._with_stages(encoded, rebuilt))
        label, weight = self._label(view)
        if self.config.region is LossRegion.MASKED:
            context = keep.chunk(len(encoded.pyramids))[0]
            masked = 1 - F.interpolate(context, size=label.shape[-2:], mode="nearest").squeeze(1)
            weight = weight * masked
        return view.student.loss(outputs, label, weight).total()

    def _label(self, view: StepView) -> tuple[Tensor, Tensor]:
        """Labels and their weights; mixed images carry their own."""
        label, weight = view.pseudo.label, view.pseudo.weight
        if self.config.input is MfmInput.MIXED:
            label, weight = view.mixed[0].label, view.mixed[0].weight
        match self.config.label_weight:
            case LabelWeight.CONFIDENCE:
                return label, weight
            case LabelWeight.NONE:
                return label, torch.ones_like(weight)
            case LabelWeight.PIXEL:
                sure = (view.pseudo.confidence >= self.adaptation.threshold).to(weight.dtype)
                if self.config.input is MfmInput.MIXED:
                    sure = sure.masked_fill(view.mixed[0].pasted.squeeze(1), 1.0)
                return label, sure

    def _feature_reconstruction(self, features: Pyramid, target: Pyramid, keep: Tensor) -> Tensor:
        """Smooth L1 between offsets and layer-normalised features at masked cells, mean over stages (I-JEPA's code)."""
        assert self.rebuilder is not None
        offsets = self.rebuilder.offsets(features, keep)
        losses = []
        for offset, stage in zip(offsets, target, strict=True):
            wanted = F.layer_norm(stage.detach().permute(0, 2, 3, 1), (stage.shape[1],)).permute(0, 3, 1, 2)
            each = F.smooth_l1_loss(offset, wanted, reduction="none").mean(dim=1, keepdim=True)
            losses.append(masked_mean(each, 1 - _resized(keep, stage)))
        return torch.stack(losses).mean()

    def _pixel_reconstruction(self, image: Tensor, encoded: Encoded, features: Pyramid, keep: Tensor) -> Tensor:
        """Mean squared error on the masked cells' pixels, normalised patch by patch (MAE's target)."""
        assert self.rebuilder is not None
        assert self.pixel_head is not None
        views = [image]
        if encoded.box is not None:
            views.append(encoded.box.crop(image))
        wanted = torch.cat([self._patches(one) for one in views])
        predicted = self.pixel_head(self.rebuilder.tokens(features, keep))
        each = (predicted - wanted).square().mean(dim=-1)
        return masked_mean(each, 1 - keep.flatten(1))

    def _patches(self, image: Tensor) -> Tensor:
        """The pixels of each grid cell, normalised by their own mean and variance, [B, H' W', 3 p q]."""
        (rows, columns), (height, width) = self.config.grid, self.patch
        size = (rows * height, columns * width)
        if size_of(image) != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        cells = F.unfold(image, self.patch, stride=self.patch).transpose(1, 2)
        centre, variance = cells.mean(dim=-1, keepdim=True), cells.var(dim=-1, keepdim=True)
        return (cells - centre) / (variance + PATCH_EPSILON).sqrt()


def _resized(keep: Tensor, stage: Tensor) -> Tensor:
    """The mask at a stage's size, by nearest (reading 13), in the stage's dtype."""
    return F.interpolate(keep, size=stage.shape[-2:], mode="nearest").to(stage.dtype)
