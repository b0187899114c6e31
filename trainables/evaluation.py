"""Scoring: a streaming confusion matrix on the device, and IoU from it. K classes; IoU and accuracy are in percent."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from trainables.config import Evaluation
from trainables.data.domains import Domains, Example
from trainables.experiment.data import Means
from trainables.geometry import IGNORE, size_of
from trainables.models.frozen_norms import BATCH_NORMS, moving_norms
from trainables.models.segmentor import Segmentor, typed, upsample
from trainables.models.sliding import slide
from trainables.randomness import Streams
from trainables.selection import TargetCriteria
from trainables.step_data import Pass


class ConfusionMatrix:
    """Counts of pixels by label (rows) and prediction (columns), [K, K], int64, on a device."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self._counts = torch.zeros(num_classes * num_classes + 1, dtype=torch.int64, device=device)

    def add(self, label: Tensor, prediction: Tensor) -> None:
        """Count pixels; a label of 255 goes into an overflow bin, so nothing is read back from the device.

        Args:
            label: [...], int64, 0 to K-1 or 255.
            prediction: The same shape, int64, 0 to K-1.
        """
        cell = torch.where(label == IGNORE, self.num_classes**2, label * self.num_classes + prediction)
        self._counts.scatter_add_(0, cell.flatten(), torch.ones_like(cell.flatten()))

    @property
    def counts(self) -> Tensor:
        """[K, K] on the host."""
        return self._counts[:-1].view(self.num_classes, self.num_classes).cpu()


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores from a confusion matrix.

    Args:
        iou: [K], percent; NaN for a class in neither labels nor predictions.
        accuracy: Share of labelled pixels that are right, percent.
        confusion: [K, K].
    """

    iou: Tensor
    accuracy: float
    confusion: Tensor

    def mean(self, classes: Sequence[int | tuple[int, ...]] | None = None) -> float:
        """mIoU over all classes or some of them, leaving out those that occur nowhere; a tuple is merged into one."""
        if classes is None:
            return float(self.iou.nanmean())
        groups = [(item,) if isinstance(item, int) else item for item in classes]
        chosen = [float(iou_of(self.confusion, group)) for group in groups]
        return float(torch.tensor(chosen, dtype=torch.float64).nanmean())


def scores(confusion: Tensor) -> Scores:
    """IoU and accuracy from [K, K] counts."""
    iou = torch.stack([iou_of(confusion, (index,)) for index in range(len(confusion))])
    counts = confusion.double()
    return Scores(iou, float(100 * counts.diag().sum() / counts.sum().clamp(min=1)), confusion)


def iou_of(confusion: Tensor, classes: tuple[int, ...]) -> Tensor:
    """TP / (TP + FP + FN) of classes that count as one, percent, from [K, K] counts; NaN where they occur nowhere."""
    counts, chosen = confusion.double(), list(classes)
    right = counts[chosen][:, chosen].sum()
    union = counts[chosen].sum() + counts[:, chosen].sum() - right
    return torch.where(union > 0, 100 * right / union.clamp(min=1), torch.nan)


class Scored(Protocol):
    """The part of `Domains` that scoring needs."""

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the scored classes."""

    @property
    def means(self) -> Means:
        """Further means, over some of the scored classes."""

    def validation(self) -> Iterator[Example]:
        """Labelled images, always in the same order."""

    def merge(self, scores: Tensor) -> Tensor:
        """Predicted scored class of each pixel: [B, K, H, W] -> [B, H, W]."""


@torch.no_grad()
def evaluate(
    networks: Sequence[Segmentor],
    domains: Scored,
    settings: Evaluation,
    device: torch.device,
    criteria: TargetCriteria | None = None,
    examples: Iterable[Example] | None = None,
) -> list[Scores]:
    """Score networks on labelled images, each image read once.

    The networks are put into eval mode; the caller puts them back. Logits are resized to the network's input and then
    to the label's size, as the reference implementation does.

    Args:
        networks: The student, and the teacher where there is one.
        domains: Validation images and the scored classes.
        settings: Windows and batches.
        device: Of the networks.
        criteria: Counts the same predictions without the labels.
        examples: Labelled images in the place of the validation images.
    """
    matrices = [ConfusionMatrix(len(domains.scored), device) for _ in networks]
    for network in networks:
        network.eval()
    for batch in _chunks(domains.validation() if examples is None else examples, settings.batch_size):
        image = torch.cat([example.image for example in batch])
        label = torch.stack([example.label for example in batch])
        logits = [predict(network, image, settings) for network in networks]
        size = size_of(label)
        predictions = [domains.merge(upsample(each, size)) for each in logits]
        for matrix, prediction in zip(matrices, predictions, strict=True):
            matrix.add(label, prediction)
        if criteria is not None:
            criteria.add(logits[0], predictions)
    return [scores(matrix.counts) for matrix in matrices]


def source_miou(network: Segmentor, domains: Domains, settings: Evaluation, device: torch.device) -> float:
    """mIoU on the held-out source images, percent, over the classes that their labels show."""
    (result,) = evaluate([network], domains, settings, device, examples=domains.held_out())
    return result.mean(result.confusion.sum(1).nonzero().flatten().tolist())


def predict(network: Segmentor, image: Tensor, settings: Evaluation) -> Tensor:
    """Logits [B, K, H, W] of the whole image, or averaged over sliding windows."""
    image = typed(image, network)
    if settings.slide is None:
        return network.predict(image)
    rows, columns = settings.slide
    return slide(network.predict, image, settings.slide, (rows // 2, columns // 2))


def with_target_statistics(
    student: Segmentor, domains: Domains, streams: Streams, batches: int, batch_size: int
) -> Segmentor:
    """AdaBN: a copy of the network whose BatchNorm statistics are the mean over target batches.

    HRDA sees each batch as in training: its context and a detail crop drawn at random. Nothing is dropped out, so that
    statistics are those of evaluation, and of a seed: a trial may be resumed here.
    """
    network = copy.deepcopy(student)
    norms = moving_norms(network.train())
    network.eval()
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for batch in range(batches):
            image = typed(domains.target(streams, batch, batch_size).image, network)
            network(image, Pass("auxiliary target", batch, streams).box(network, image))
    return network


@torch.no_grad()
def finite(network: Segmentor) -> bool:
    """Whether all weights and BatchNorm statistics are finite numbers: argmax finds a class in NaN, too."""
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    tensors = [*network.parameters(), *(buffer for norm in norms for buffer in norm.buffers())]
    numbers = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return math.isfinite(get_total_norm(numbers, math.inf))


def _chunks(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Consecutive examples of one shape, at most `size` at once."""
    chunk: list[Example] = []
    for example in examples:
        alike = not chunk or (
            chunk[0].image.shape == example.image.shape and chunk[0].label.shape == example.label.shape
        )
        if len(chunk) == size or not alike:
            yield chunk
            chunk = []
        chunk.append(example)
    if chunk:
        yield chunk
