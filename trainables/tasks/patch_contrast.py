"""PiPa's patch contrast: two overlapping crops of a target image agree where they overlap, in different contexts.

Each cell of the overlap is drawn to the same place of the other crop and away from remembered cells of other predicted
classes; of the two the less confident one moves. B batch, C channels, h and w rows and columns of the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.adaptation.view_pairs import CELL, Pair, View, view_pair
from trainables.config import PairImages, PatchContrast, PatchFeatures, PatchLabels, PatchNetwork
from trainables.models.segmentor import Segmentor, laid_out
from trainables.randomness import Streams
from trainables.step_data import StepView, first_step
from trainables.tasks.pixel_contrast import embedded
from trainables.tasks.task import AuxiliaryTask

EPSILON = 1e-8
FIRST_PART = 8000  # of the bank, over which the greatest similarity is looked for
LOGIT_POOL = 2


@dataclass(frozen=True, slots=True)
class Cells:
    """Features of one crop of each image as the network saw it, flips not undone.

    Args:
        vectors: Unit vectors [B, C, h, w].
        label: Predicted classes [B, h, w], int64.
        confidence: Their probabilities [B, h, w].
    """

    vectors: Tensor
    label: Tensor
    confidence: Tensor

    def overlap(self, views: Sequence[View], cell: int) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors [n, C], labels [n] and confidences [n] of the cells that both crops show, image by image."""
        vectors, labels, confidences = (
            torch.cat([_shared(one, view, cell) for one, view in zip(whole, views, strict=True)], dim=-1)
            for whole in (self.vectors, self.label, self.confidence)
        )
        return vectors.T, labels, confidences


def _shared(cells: Tensor, view: View, cell: int) -> Tensor:
    """The overlap's part of one crop's cells [..., h, w], its flip undone, row by row: [..., n]."""
    box, upright = view.overlap, cells.flip(-1) if view.flipped else cells
    top, left = box.top // cell, box.left // cell
    return upright[..., top : (box.top + box.height) // cell, left : (box.left + box.width) // cell].flatten(-2)


class Bank(nn.Module):
    """Vectors and labels of the latest steps, oldest first; buffers, so that a resumed trial remembers the same.

    Args:
        steps: That are kept.
        dim: C.
    """

    vectors: Tensor
    labels: Tensor

    def __init__(self, steps: int, dim: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("vectors", torch.zeros(0, dim))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    @torch.no_grad()
    def add(self, vectors: Tensor, labels: Tensor) -> None:
        """Append those of a step, [n, C] and [n], n the same in every step; forget the oldest of too many steps."""
        kept = self.steps * len(labels)
        self.vectors = torch.cat([self.vectors, vectors.to(self.vectors.dtype)])[-kept:]
        self.labels = torch.cat([self.labels, labels])[-kept:]


class PatchContrastTask(AuxiliaryTask):
    """weight * patch contrast of target images, both directions.

    Args:
        config: Settings.
        student: For the channels of its decoder's map.

    Raises:
        ValueError: The student's head has no such map, or a window has no whole number of its cells: flipped, it would
            show other places than the crop that it is compared with.
    """

    name = "patch_contrast"

    def __init__(self, config: PatchContrast, student: Segmentor) -> None:
        super().__init__()
        self.config = config
        self.weight = config.weight
        logits = config.features is PatchFeatures.LOGITS
        channels = student.num_classes if logits else student.head().fused_channels
        if channels is None:
            raise ValueError(
                f"PatchContrast compares what a classifier reads, and {type(student.head()).__name__} has no such map; "
                "give it fused_channels, fuse and classify, or set features=PatchFeatures.LOGITS."
            )
        self.projection = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, config.dim, 1))
        self.classifier = None
        if config.labels is PatchLabels.UNTRAINED:
            self.classifier = nn.Conv2d(channels, student.num_classes, 1).requires_grad_(False)
        self.bank = Bank(config.bank_steps, config.dim)
        cell = CELL if logits else max(CELL, student.strides[student.decoded_stages[0]])
        if any(side % cell for side in config.window):
            raise ValueError(f"PatchContrast.window must be two multiples of {cell}, got {config.window!r}.")
        self.pair = Pair(config.window, config.long_side, cell)

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        """None before the term begins."""
        if view.step >= first_step(self.config.start, view.total_steps):
            yield "", self.loss(view)

    def loss(self, view: StepView) -> Tensor:
        """The sum over both directions; 0 where no cell of the other crop is sure enough."""
        step = 0 if self.config.images is PairImages.FIXED else view.step
        images = view.target_images("view pairs", step, len(view.target.image))
        pairs = [
            view_pair(image, self.pair, view.streams, view.step, item, view.mean, view.std)
            for item, image in enumerate(images)
        ]
        views = [list(side) for side in zip(*pairs, strict=True)]
        return self.contrast(self._cells(view, views), views, view.streams, view.step)

    def contrast(self, cells: Sequence[Cells], views: Sequence[Sequence[View]], streams: Streams, step: int) -> Tensor:
        """The loss of two crops of each image, which enter the bank first."""
        entering = []
        for item, each in enumerate(cells):
            vectors, labels = each.vectors.permute(0, 2, 3, 1).flatten(0, 2), each.label.flatten()
            order = streams.permutation("patch bank", step, len(labels), item)
            chosen = order[: self.config.bank_cells].to(labels.device)
            entering.append((vectors[chosen].detach(), labels[chosen]))
        self.bank.add(torch.cat([vectors for vectors, _ in entering]), torch.cat([labels for _, labels in entering]))
        first, second = (each.overlap(side, self.pair.cell) for each, side in zip(cells, views, strict=True))
        return self._direction(first, second) + self._direction(second, first)

    def _direction(self, anchor: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        use = (other[2] > self.config.confidence) & (anchor[2] < other[2])
        return directional(
            anchor[0][use], other[0][use], anchor[1][use], self.bank.vectors, self.bank.labels, self.config.temperature
        )

    def _cells(self, view: StepView, views: Sequence[Sequence[View]]) -> tuple[Cells, Cells]:
        """Features of the first crops and of the second ones, in one pass."""
        image = torch.cat([one.image for side in views for one in side]).to(view.target.image.dtype)
        image = laid_out(image, view.target.image)
        network, learns = self._network(view), self.config.network is PatchNetwork.STUDENT
        with nullcontext() if learns else torch.no_grad():
            features = self._map(network, image)
        pooled = self.pooled(network, features)
        vectors = embedded(self.projection, pooled)
        with torch.no_grad():
            confidence, label = self._probabilities(view, image, features, pooled).max(dim=1)
        halves = zip(vectors.chunk(2), label.chunk(2), confidence.chunk(2), strict=True)
        first, second = (Cells(*half) for half in halves)
        return first, second

    def _map(self, network: Segmentor, image: Tensor) -> Tensor:
        if self.config.features is PatchFeatures.LOGITS:
            return network.predict(image)
        pyramid = network.encoder(network.context(image))
        return network.head().fuse(*(pyramid[stage] for stage in network.decoded_stages))

    def _network(self, view: StepView) -> Segmentor:
        return view.student if self.config.network is PatchNetwork.STUDENT else view.teacher

    def pooled(self, network: Segmentor, cells: Tensor) -> Tensor:
        """Means of the map's cells that make one cell of the features."""
        logits = self.config.features is PatchFeatures.LOGITS
        pool = LOGIT_POOL if logits else max(1, CELL // network.strides[network.decoded_stages[0]])
        return F.avg_pool2d(cells, pool) if pool > 1 else cells

    def _probabilities(self, view: StepView, image: Tensor, features: Tensor, pooled: Tensor) -> Tensor:
        """Of each class at each cell, [2 B, K, h, w]."""
        logits = self._logits(view, image, features, pooled)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)

    def _logits(self, view: StepView, image: Tensor, features: Tensor, pooled: Tensor) -> Tensor:
        if self.classifier is not None:
            untrained: Tensor = self.classifier(pooled)
            return untrained
        if self.config.labels is PatchLabels.NETWORK or self.config.network is PatchNetwork.TEACHER:
            network, seen = self._network(view), features
        else:
            network, seen = view.teacher, self._map(view.teacher, image)
        logits = seen if self.config.features is PatchFeatures.LOGITS else network.head().classify(seen)
        return self.pooled(network, logits)


def directional(
    anchor: Tensor, other: Tensor, label: Tensor, bank: Tensor, bank_label: Tensor, temperature: float
) -> Tensor:
    """The mean over anchors of -log(e^p / (e^p + sum of e^n)), p and n similarities over the temperature.

    p is that to the same place of the other crop, n those to the cells of the bank that have another label; only the
    anchor has a gradient. All are taken relative to the greatest of p and of the first part of the bank.

    Args:
        anchor, other: Unit vectors [n, C].
        label: Of the anchors, [n].
        bank: Unit vectors [m, C].
        bank_label: [m].

    Returns:
        A scalar; 0 without an anchor.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        positive = (anchor * other.detach()).sum(dim=1) / temperature
        negative = anchor @ bank.to(anchor.dtype).T / temperature
        greatest = torch.maximum(positive, negative[:, :FIRST_PART].amax(dim=1))
        drawn = (positive - greatest).exp()
        apart = label.unsqueeze(1) != bank_label.unsqueeze(0)
        repelled = ((negative - greatest.unsqueeze(1)).exp() * apart).sum(dim=1)
        each = -((drawn / (drawn + repelled + EPSILON)) + EPSILON).log()
        mean: Tensor = each.sum() / max(1, len(each))
        return mean
