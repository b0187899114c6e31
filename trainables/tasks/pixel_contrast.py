"""PiPa's pixel contrast: embeddings of labelled source pixels attract their class and repel the others.

The loss is supervised contrast over sampled anchors (Wang et al., "Exploring Cross-Image Pixel Contrast for Semantic
Segmentation", ICCV 2021) without a memory. It is taken on the source pass's own graph: gradients reach the encoder and
the projection, never the decoder. B batch, h and w rows and columns of the finest decoded stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import DetailLabel, IgnoredPixels, PixelContrast, Split
from trainables.geometry import IDS, IGNORE, size_of
from trainables.models.segmentor import Pyramid, Segmentor
from trainables.randomness import Streams
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask, Shares

HELPER_DROPOUT = 0.1


class PixelContrastTask(AuxiliaryTask):
    """weight * pixel contrast of the source batch.

    HRDA's features are those of the HR detail crop.

    Args:
        config: Settings.
        student: For the channels of the stages that its decoder reads, which are embedded together.
    """

    name = "pixel_contrast"
    shares = Shares.SOURCE

    def __init__(self, config: PixelContrast, student: Segmentor) -> None:
        super().__init__()
        self.config = config
        self.weight = config.weight
        self.learning_rate_factor = config.learning_rate_factor
        self.stages = student.decoded_stages
        channels = sum(student.channels[stage] for stage in self.stages)
        self.projection = projection(channels, config.dim)
        self.helper = None
        if config.split is Split.UNTRAINED:
            self.helper = untrained_helper(channels, student.num_classes).requires_grad_(False)

    def loss(self, view: StepView) -> Tensor:
        """0 where no class of the batch has enough cells."""
        pyramid = view.shared.pyramids[-1]
        features = concatenated(tuple(pyramid[stage] for stage in self.stages))
        embedding = embedded(self.projection, features)
        with torch.no_grad():
            label = nearest(self._label(view), size_of(embedding))
            prediction = self._prediction(view, features)
        anchors = draw_anchors(label.cpu(), prediction.cpu(), self.config, view.streams, view.step)
        if anchors is None:
            return 0.0 * embedding.sum()
        vectors, classes = gathered(embedding, anchors)
        return pixel_contrast(vectors, classes, self.config.temperature, self.config.base_temperature)

    def _label(self, view: StepView) -> Tensor:
        """Labels of what the features show [B, H, W]."""
        box, label = view.shared.box, view.source.ground_truth
        return label if box is None or self.config.detail_label is DetailLabel.WHOLE else box.crop(label)

    def _prediction(self, view: StepView, features: Tensor) -> Tensor:
        """The class that is predicted for each cell [B, h, w]."""
        if self.helper is not None:
            predicted: Tensor = self.helper(features).argmax(dim=1)
            return predicted
        assert view.source_outputs is not None
        outputs = view.source_outputs
        return (outputs.logits if outputs.detail is None else outputs.detail).argmax(dim=1)


def projection(channels: int, dim: int) -> nn.Sequential:
    """1x1 convolution, BatchNorm, ReLU, 1x1 convolution to `dim` channels, at torch's initial weights."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, dim, 1)
    )


def untrained_helper(channels: int, num_classes: int) -> nn.Sequential:
    """The released code's second classifier, which has no loss."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout2d(HELPER_DROPOUT),
        nn.Conv2d(channels, num_classes, 1, bias=False),
    )


def concatenated(stages: Pyramid) -> Tensor:
    """The stages at the resolution of the first, corners aligned: [B, C_i, h_i, w_i] -> [B, sum of C_i, h, w]."""
    first = stages[0]
    return torch.cat([first, *(aligned(stage, size_of(first)) for stage in stages[1:])], dim=1)


def aligned(stage: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize to (rows, columns) with aligned corners, as two products, whose gradients repeat bit for bit."""
    with torch.autocast(stage.device.type, enabled=False):
        whole = stage.float() if stage.dtype in (torch.bfloat16, torch.float16) else stage
        rows = _aligned(whole.shape[-2], size[0], whole)
        columns = _aligned(whole.shape[-1], size[1], whole)
        return (rows @ (whole.contiguous() @ columns.T)).to(stage.dtype)


def _aligned(inputs: int, outputs: int, like: Tensor) -> Tensor:
    """The matrix [outputs, inputs] of linear interpolation where first and last centres coincide."""
    centres = torch.linspace(0, inputs - 1, outputs, dtype=torch.float64, device=like.device)
    distance = centres.unsqueeze(1) - torch.arange(inputs, dtype=torch.float64, device=like.device)
    return (1 - distance.abs()).clamp(min=0).to(like.dtype)


def embedded(head: nn.Module, features: Tensor) -> Tensor:
    """Unit vectors [B, D, h, w], float32 at least."""
    vectors = head(features)
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)


def nearest(label: Tensor, size: tuple[int, int]) -> Tensor:
    """The label at the first pixel of each cell: [B, H, W] -> [B, rows, columns]."""
    rows, columns = (
        torch.arange(cells, device=label.device) * pixels // cells
        for cells, pixels in zip(size, label.shape[-2:], strict=True)
    )
    return label[:, rows][:, :, columns]


@dataclass(frozen=True, slots=True)
class Anchors:
    """Sampled cells, V of each of the T pairs of an image and a class.

    Args:
        image: [T].
        classes: [T].
        index: Cells of the image, row by row, [T, V]; hard ones first.
        hard: How many of the V are hard, [T].
    """

    image: Tensor
    classes: Tensor
    index: Tensor
    hard: Tensor


def draw_anchors(
    label: Tensor, prediction: Tensor, config: PixelContrast, streams: Streams, step: int
) -> Anchors | None:
    """Sample cells of each class of each image that has more than `views` cells, on the host.

    About half of them are hard, where the prediction is wrong; where one kind has too few, the other fills up.

    Args:
        label, prediction: [B, h, w].

    Returns:
        None where no class qualifies, or there are more of them than samples.
    """
    pairs = list(_pairs(label, config))
    count = min(config.samples // len(pairs), config.views) if pairs else 0
    if count == 0:
        return None
    rows, hard_counts = [], []
    for image, one in pairs:
        here = label[image].flatten() == one
        wrong = prediction[image].flatten() != one
        hard, easy = torch.nonzero(here & wrong).flatten(), torch.nonzero(here & ~wrong).flatten()
        taken = hard_of(len(hard), len(easy), count)
        parts = []
        for kind, (cells, number) in enumerate(((hard, taken), (easy, count - taken))):
            item = 2 * (image * IDS + one) + kind
            order = streams.permutation("pixel contrast anchors", step, len(cells), item)
            parts.append(cells[order[:number]])
        rows.append(torch.cat(parts))
        hard_counts.append(taken)
    images, classes = zip(*pairs, strict=True)
    return Anchors(torch.tensor(images), torch.tensor(classes), torch.stack(rows), torch.tensor(hard_counts))


def _pairs(label: Tensor, config: PixelContrast) -> Iterator[tuple[int, int]]:
    """(image, class) with more than `views` cells; classes ascend."""
    for image, cells in enumerate(label):
        counts = torch.bincount(cells.flatten(), minlength=IDS).tolist()
        for one, number in enumerate(counts):
            if number > config.views and not (one == IGNORE and config.ignored is IgnoredPixels.SKIP):
                yield image, one


def hard_of(hard: int, easy: int, count: int) -> int:
    """How many of `count` anchors are hard, given how many cells are hard and easy (at least `count` in all)."""
    enough_hard, enough_easy = 2 * hard >= count, 2 * easy >= count
    if enough_hard and enough_easy:
        return count // 2
    return count - easy if enough_hard else hard


def gathered(embedding: Tensor, anchors: Anchors) -> tuple[Tensor, Tensor]:
    """The anchors' vectors [T V, D] and classes [T V], on the embedding's device."""
    device = embedding.device
    cells = embedding.flatten(2).transpose(1, 2)
    index = anchors.index.to(device)
    vectors = cells[anchors.image.to(device).unsqueeze(1), index]
    return vectors.flatten(0, 1), anchors.classes.to(device).repeat_interleave(index.shape[1])


def pixel_contrast(vectors: Tensor, classes: Tensor, temperature: float, base_temperature: float) -> Tensor:
    """-(t / t_b) * the mean over anchors i and others j of i's class of s_ij - log(exp s_ij + sum of exp s_in).

    s are similarities over t; n runs over the anchors of other classes. An anchor without another of its class costs 0.

    Args:
        vectors: Unit vectors [N, D].
        classes: [N].

    Returns:
        A scalar.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        similarity = vectors @ vectors.T / temperature
        similarity = similarity - similarity.max(dim=1, keepdim=True).values.detach()
        same = classes.unsqueeze(1) == classes.unsqueeze(0)
        others = same & ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
        power = similarity.exp()
        against = (power * ~same).sum(dim=1, keepdim=True)
        each = (similarity - (power + against).log()) * others
        mean = each.sum(dim=1) / others.sum(dim=1).clamp(min=1)
        return -(temperature / base_temperature) * mean.mean()
