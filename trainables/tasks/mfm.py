"""Masked Feature Modeling: mask encoder features, rebuild them, and learn from the result.

    L_mfm = CE(D(R(E(x_t))), pseudo-label)                                   (Eq. 4)
    f_r   = M * f_o + (1 - M) * f_t, M = 1 - keep                             (Eq. 6, 7)

Where gradients go: pixel classification reaches the encoder, the decoder and the Rebuilder; feature and pixel
reconstruction reach the encoder (through the visible features) and the Rebuilder, never the decoder; the teacher has
none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

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
from trainables.tasks.task import AuxiliaryTask, Shares


@dataclass(frozen=True, slots=True)
class _Input:
    """The images of one term.

    Args:
        image, label, weight: [B, 3, H, W], [B, H, W], [B, H, W].
        name: The term's name in the logs.
        encoded: Their features, where another pass has encoded them.
        purpose: What the mask is drawn for.
    """

    image: Tensor
    label: Tensor
    weight: Tensor
    name: str = ""
    encoded: Encoded | None = None
    purpose: str = "feature mask"


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
        if config.input is MfmInput.MIXED_SHARED:
            self.shares = Shares.MIXED
        self.stages = segmentor.decoded_stages
        self.patch = tuple(max(1, round(size / cells)) for size, cells in zip(image_size, config.grid, strict=True))
        self.notice = _shared_positions(config.grid, segmentor.stage_size(self.stages[-1], image_size))
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

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        """L_mfm of this step: one term, or one of the source and one of the target."""
        for seen in self._inputs(view):
            yield seen.name, self._term(view, seen)

    def loss(self, view: StepView) -> Tensor:
        """The sum of the terms."""
        first, *others = (loss for _, loss in self.losses(view))
        return sum(others, first)

    def _inputs(self, view: StepView) -> Iterator[_Input]:
        target, pseudo, mixed = view.target.image, view.pseudo, view.mixed[0]
        match self.config.input:
            case MfmInput.TARGET:
                yield _Input(target, pseudo.label, self._weight(view))
            case MfmInput.TARGET_AUGMENTED:
                yield _Input(self._augmented(view), pseudo.label, self._weight(view))
            case MfmInput.MIXED:
                yield _Input(mixed.image, mixed.label, self._mixed_weight(view))
            case MfmInput.MIXED_SHARED:
                assert view.mixed_encoded is not None
                yield _Input(mixed.image, mixed.label, self._mixed_weight(view), encoded=view.mixed_encoded)
            case MfmInput.SOURCE:
                yield self._source(view, "")
            case MfmInput.BOTH:
                yield self._source(view, "source")
                yield _Input(target, pseudo.label, self._weight(view), name="target")

    def _source(self, view: StepView, name: str) -> _Input:
        label = view.source.label
        assert label is not None
        weight = torch.ones_like(label, dtype=view.pseudo.weight.dtype)
        return _Input(view.source.image, label, weight, name=name, purpose="source feature mask")

    def _augmented(self, view: StepView) -> Tensor:
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

    def _weight(self, view: StepView, confidence: Tensor | None = None) -> Tensor:
        """Weights of pseudo-labels [B, H, W] (reading 3): the target's, or others of this probability."""
        match self.config.label_weight:
            case LabelWeight.CONFIDENCE:
                return view.pseudo.weight
            case LabelWeight.NONE:
                return torch.ones_like(view.pseudo.weight)
            case LabelWeight.PIXEL:
                confidence = view.pseudo.confidence if confidence is None else confidence
                return (confidence >= self.adaptation.threshold).to(view.pseudo.weight.dtype)

    def _mixed_weight(self, view: StepView) -> Tensor:
        """Mixed images carry their own weights, [B, H, W]; pasted pixels have 1 in each reading."""
        mixed = view.mixed[0]
        if self.config.label_weight is LabelWeight.CONFIDENCE:
            return mixed.weight
        return self._weight(view, mixed.confidence).masked_fill(mixed.pasted.squeeze(1), 1.0)

    def _term(self, view: StepView, seen: _Input) -> Tensor:
        """L_mfm of one batch of images."""
        with ExitStack() as stack:
            if self.config.freeze_statistics:
                stack.enter_context(frozen_statistics(view.student))
            encoded = seen.encoded
            if encoded is None:
                encoded = view.student.encode(seen.image, view.box(seen.image))
            if self.config.detach_encoder:
                encoded = encoded.detach()
            features = self._stacked(encoded)
            keep = random_keep(
                view.streams,
                view.step,
                len(features[-1]),
                self.config.grid,
                self.config.ratio,
                self.config.draw,
                purpose=seen.purpose,
            ).to(features[-1].device, non_blocking=True)
            match self.config.objective:
                case Objective.PIXEL_CLASSIFICATION:
                    return self._classification(view, seen, encoded, features, keep)
                case Objective.PIXEL_RECONSTRUCTION:
                    return self._pixel_reconstruction(seen.image, encoded, features, keep)
                case Objective.FEATURE_TEACHER:
                    with torch.no_grad(), frozen_statistics(view.teacher):
                        target = self._stacked(view.teacher.encode(seen.image, encoded.box))
                    return self._feature_reconstruction(features, target, keep)
                case Objective.FEATURE_STUDENT:
                    return self._feature_reconstruction(features, features, keep)

    def _stacked(self, encoded: Encoded) -> Pyramid:
        """The decoded stages; HRDA's context and detail in turn along the batch, each with a mask of its own.

        Raises:
            ValueError: The two are of different sizes.
        """
        rows, columns = encoded.size
        if encoded.box is not None and (2 * encoded.box.height, 2 * encoded.box.width) != (rows, columns):
            raise ValueError(
                f"Mfm needs an HRDA.detail_crop of half the training image, ({rows // 2}, {columns // 2}) for {rows} x "
                f"{columns}, got ({encoded.box.height}, {encoded.box.width}): it masks context and detail alike."
            )
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

    def _classification(
        self, view: StepView, seen: _Input, encoded: Encoded, features: Pyramid, keep: Tensor
    ) -> Tensor:
        if self.rebuilder is None:
            rebuilt = tuple(stage * _resized(keep, stage) for stage in features)
        else:
            rebuilt = self.rebuilder(features, keep)
        with without_gradients(view.student.decoder) if self.config.detach_decoder else nullcontext():
            outputs = view.student.decode(self._with_stages(encoded, rebuilt))
        weight = seen.weight
        if self.config.region is LossRegion.MASKED:
            context = keep.chunk(len(encoded.pyramids))[0]
            masked = 1 - F.interpolate(context, size=seen.label.shape[-2:], mode="nearest").squeeze(1)
            weight = weight * masked
        return view.student.loss(outputs, seen.label, weight).total()

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


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """What is computed within the context sends gradients through a module and none into its parameters."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _shared_positions(grid: tuple[int, int], stage: tuple[int, int]) -> str:
    """A sentence where the grid is finer than the last decoded stage, both (rows, columns), which the Rebuilder's
    tokens are made of; else nothing."""
    if all(cells <= positions for cells, positions in zip(grid, stage, strict=True)):
        return ""
    return (
        f"Mfm.grid {grid} is finer than the last decoded stage, {stage}: masked cells share its positions with visible "
        f"ones, which leaks what is masked; give a grid of at most {stage}, or a Scale.native_grid of 4 times that."
    )


def _resized(keep: Tensor, stage: Tensor) -> Tensor:
    """The mask at a stage's size, by nearest (reading 13), in the stage's dtype."""
    return F.interpolate(keep, size=stage.shape[-2:], mode="nearest").to(stage.dtype)
