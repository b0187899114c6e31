"""SePiCo's contrast of pixels with the classes of both domains (Xie et al., TPAMI 2023).

Two terms on one projection: of the source on the source pass's own graph, and of the target, with the teacher's labels,
on a pass of its own. Gradients reach the encoder and the projection, never the decoder. Statistics of the classes are
those of the teacher's features of the source, from the first step on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.adaptation.augmentation import augment
from trainables.config import ClassContrast, ClassModel
from trainables.geometry import IGNORE, size_of
from trainables.models.segmentor import Encoded, upsample
from trainables.step_data import StepView, first_step
from trainables.tasks.class_statistics import (
    ClassStatistics,
    bank_loss,
    distribution_loss,
    diversity,
    prototype_loss,
)
from trainables.tasks.feature_distance import dominant_class
from trainables.tasks.pixel_contrast import embedded
from trainables.tasks.task import AuxiliaryTask, MovingAverage, Shares, TaskSetting


class ClassContrastTask(AuxiliaryTask):
    """weight * (source term + target term), from `start` on.

    HRDA's features are those of the context, which shows the whole image.

    Args:
        config: Settings.
        setting: Student, self-training and draws.
    """

    name = "class_contrast"
    shares = Shares.SOURCE

    def __init__(self, config: ClassContrast, setting: TaskSetting) -> None:
        super().__init__()
        student = setting.student
        self.config = config
        self.weight = config.weight
        self.learning_rate_factor = config.learning_rate_factor
        self.stages = student.decoded_stages
        self.stride = student.strides[self.stages[0]]
        self.projection = projection(sum(student.channels[stage] for stage in self.stages), config)
        self.averaged = MovingAverage(self.projection, setting.adaptation.momentum)
        self.statistics = ClassStatistics(student.num_classes, config.dim, config.bank_steps)
        self.augmented = setting.adaptation.augment_source
        self.jitter, self.blur = setting.adaptation.jitter, setting.adaptation.blur

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        """The statistics with this step's source, then both terms once they have begun."""
        with torch.no_grad():
            encoded = view.teacher.encode(view.source.image, view.box(view.source.image, "source"))
            self.statistics.add(*self._cells(self.averaged, encoded, view.source.ground_truth))
        if view.step < first_step(self.config.start, view.total_steps):
            return
        yield "source", self._loss(view.shared, view.source.ground_truth)
        image = self._target_image(view)
        label = view.pseudo.label.masked_fill(view.pseudo.weight == 0, IGNORE)
        yield "target", self._loss(view.student.encode(image, view.box(image)), label)

    def after_step(self, view: StepView) -> None:
        """The averaged projection keeps pace with the teacher."""
        self.averaged.follow(self.projection, view.step + 1)

    def _target_image(self, view: StepView) -> Tensor:
        """As the source is seen: with colours augmented where its are, together with the mixed images or not at all."""
        image = view.target.image
        if not self.augmented:
            return image
        return augment(
            image,
            self.jitter,
            self.blur,
            view.streams,
            view.step,
            view.mean,
            view.std,
            name="contrast target ",
            gates="",
            per_image=False,
        )

    def _loss(self, encoded: Encoded, label: Tensor) -> Tensor:
        """0 where no cell has a class."""
        features, classes = self._cells(self.projection, encoded, label)
        if len(classes) == 0:
            return 0.0 * features.sum()
        with torch.autocast(features.device.type, enabled=False):
            return self._against_classes(features, classes)

    def _against_classes(self, features: Tensor, label: Tensor) -> Tensor:
        config, known = self.config, self.statistics
        mean = known.mean().to(features.dtype)
        match config.model:
            case ClassModel.PROTOTYPE:
                loss = prototype_loss(features, label, mean, config.temperature)
            case ClassModel.DISTRIBUTION:
                variance = known.variance().to(features.dtype)
                loss = distribution_loss(features, label, mean, variance, config.temperature)
            case ClassModel.BANK:
                loss = bank_loss(features, label, known.bank.to(features.dtype), known.held(), config.temperature)
        return loss + config.diversity * diversity(features, mean, config.temperature) if config.diversity else loss

    def _cells(self, head: nn.Module, encoded: Encoded, label: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [N, A] and classes [N] of the cells that one class fills; cells past the border do not count."""
        embedding = embedded(head, concatenated(encoded, self.stages))
        pooled = dominant_class(label, self.stride, self.config.min_share)
        rows, columns = size_of(pooled)
        counted = pooled != IGNORE
        return embedding[..., :rows, :columns].permute(0, 2, 3, 1)[counted], pooled[counted]


def projection(channels: int, config: ClassContrast) -> nn.Sequential:
    """Twice a 1x1 convolution without bias, BatchNorm and ReLU: `channels` to `hidden` to `dim`."""
    widths = (channels, config.hidden or channels, config.dim)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def concatenated(encoded: Encoded, stages: tuple[int, ...]) -> Tensor:
    """The stages at the resolution of the first, bilinear: [B, C_i, h_i, w_i] -> [B, sum of C_i, h, w]."""
    first, *others = (encoded.pyramids[0][stage] for stage in stages)
    return torch.cat([first, *(upsample(stage, size_of(first)) for stage in others)], dim=1)
