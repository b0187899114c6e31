"""Qualitative results of a trial as PNG files: images, labels, predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.data.domains import Domains
from trainables.data.palette import palette
from trainables.geometry import IGNORE, size_of
from trainables.models.segmentor import Segmentor, typed, upsample
from trainables.step_data import StepView

EXAMPLES = 3


@torch.no_grad()
def save_pictures(folder: Path, student: Segmentor, domains: Domains, last: StepView | None) -> dict[str, str]:
    """Write the first validation images with label and prediction, and the last training batch's first images.

    Returns:
        Name -> path relative to the folder's parent: `image-i`, `label-i`, `prediction-i`, `palette` (one pixel a
        scored class, in their order), and with self-training `source`, `source-label`, `target`, `mixed`,
        `pseudo-label`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, np.ndarray] = {"palette": palette(domains.scored)[None, : len(domains.scored)]}
    student.eval()
    for index, example in zip(range(EXAMPLES), domains.validation(), strict=False):
        size = size_of(example.label)
        prediction = domains.merge(upsample(student.predict(typed(example.image, student)), size))[0]
        prediction = prediction.masked_fill(example.label == IGNORE, IGNORE)
        images[f"image-{index}"] = _photograph(example.image[0], domains)
        images[f"label-{index}"] = palette(domains.scored)[example.label.cpu().numpy()]
        images[f"prediction-{index}"] = palette(domains.scored)[prediction.cpu().numpy()]
    if last is not None:
        images["source"] = _photograph(last.source.image[0], domains)
        images["target"] = _photograph(last.target.image[0], domains)
        images["mixed"] = _photograph(last.mixed[0].image[0], domains)
        if last.source.label is not None:
            images["source-label"] = palette(domains.classes)[last.source.label[0].cpu().numpy()]
        images["pseudo-label"] = palette(domains.classes)[last.pseudo.label[0].cpu().numpy()]
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png", optimize=True)
    return {name: f"{folder.name}/{name}.png" for name in images}


def _photograph(image: Tensor, domains: Domains) -> np.ndarray:
    """A normalised image [3, H, W] as [H, W, 3] pixel values, uint8."""
    image = image.float()  # a mixer of one's own may give half precision, which NumPy has not
    mean = image.new_tensor(domains.mean).view(3, 1, 1)
    std = image.new_tensor(domains.std).view(3, 1, 1)
    pixels = (image * std + mean).round().clamp(0, 255).permute(1, 2, 0)
    return pixels.contiguous().cpu().numpy().astype(np.uint8)
