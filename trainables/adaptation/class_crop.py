"""Class-balanced crops of the target (SePiCo, Xie et al. 2023): of several windows the one with the evenest classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.adaptation.pseudo_label import inside
from trainables.config import ClassBalancedCrop
from trainables.geometry import Box, size_of
from trainables.models.segmentor import Segmentor, laid_out
from trainables.randomness import Streams
from trainables.step_data import Batch


@torch.no_grad()
def class_balanced(
    target: Batch, settings: ClassBalancedCrop, teacher: Segmentor, streams: Streams, step: int
) -> Batch:
    """Crop each image where the teacher sees the evenest classes; its labels of the whole image are not kept.

    Which window that is, is known on the device alone, so that of the valid boxes their pixels are cropped.

    Args:
        target: Images [B, 3, H, W], at least as large as the crop.
        settings: Size and number of windows.

    Raises:
        ValueError: The images are smaller than the crop.
    """
    rows, columns = size_of(target.image)
    height, width = settings.size
    if rows < height or columns < width:
        raise ValueError(
            f"SelfTraining.class_crop.size must be at most the target's training images, {rows}x{columns} pixels, got "
            f"{height}x{width}."
        )
    logits = teacher.predict(target.image)
    labels, device = logits.max(dim=1).indices, target.image.device
    shown = [target.image] if target.valid is None else [target.image, inside(target.valid, target.image)]
    cut: list[list[Tensor]] = [[] for _ in shown]
    for item, label in enumerate(labels):
        boxes = windows(settings, streams, step, item, (rows, columns))
        chosen = most_even(label, boxes, settings.max_class_share, logits.shape[1])
        corners = torch.tensor([(box.top, box.left) for box in boxes]).to(device, non_blocking=True)
        top, left = corners.index_select(0, chosen.view(1))[0]
        for parts, of in zip(cut, shown, strict=True):
            part = of[item].index_select(-2, top + torch.arange(height, device=device))
            parts.append(part.index_select(-1, left + torch.arange(width, device=device)))
    image, *valid = map(torch.stack, cut)
    return Batch(laid_out(image, target.image), None, valid[0] if valid else None)


def windows(settings: ClassBalancedCrop, streams: Streams, step: int, item: int, size: tuple[int, int]) -> list[Box]:
    """Boxes at uniform places in an image of (rows, columns)."""
    height, width = settings.size
    draws = streams.numpy("class-balanced crop", step, item)
    places = [
        (int(draws.integers(size[0] - height + 1)), int(draws.integers(size[1] - width + 1)))
        for _ in range(settings.tries)
    ]
    return [Box(top, left, height, width) for top, left in places]


def most_even(label: Tensor, boxes: Sequence[Box], max_class_share: float, classes: int) -> Tensor:
    """Which of the boxes is the first with the highest score, found where the label lies: nothing waits for a device.

    The score is the sum of ln n over the classes with n > 1 pixels in the box, to nine digits: highest where many
    classes share it evenly. A box of one class, or with a class that fills `max_class_share` of it or more, has 0.

    Args:
        label: [H, W], int64, 255 ignored.
        boxes: At least one.
        classes: How many there are.

    Returns:
        The index of the box, a scalar on the label's device.
    """
    of_class = label == torch.arange(classes, device=label.device).view(-1, 1, 1)
    counts = torch.stack([box.crop(of_class).sum((1, 2)) for box in boxes]).double()
    one_rules = counts.amax(1) / counts.sum(1) >= max_class_share
    score = counts.clamp(min=1).log().sum(1).round(decimals=9)
    return torch.where(one_rules | ((counts > 0).sum(1) < 2), 0.0, score).argmax()
