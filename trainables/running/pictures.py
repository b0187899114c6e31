"""Pictures of what a trial sees and says, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.data.domains import Domains
from trainables.geometry import IGNORE, size_of
from trainables.models.segmentor import Segmentor, upsample
from trainables.step_data import StepView

# Cityscapes' colours by class name, with the names of CamVid's and the embedded benchmark's classes beside them.
COLOURS: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "pavement": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "tree": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "pedestrian": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    "bicyclist": (119, 11, 32),
}
EXAMPLES = 3


def palette(classes: tuple[str, ...]) -> np.ndarray:
    """Colours of class ids, [256, 3], uint8; black where nothing is known (255)."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    for index, name in enumerate(classes):
        colours[index] = COLOURS.get(name, (37 * index % 256, 91 * index % 256, 151 * index % 256))
    return colours


@torch.no_grad()
def save_pictures(folder: Path, student: Segmentor, domains: Domains, last: StepView | None) -> dict[str, str]:
    """Write the first validation images with label and prediction, and the last training batch's first images.

    Returns:
        Name -> path relative to the folder's parent: `image-i`, `label-i`, `prediction-i`, `palette` (one pixel a
        scored class, in their order), and with self-training `source`, `target`, `mixed`, `pseudo-label`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, np.ndarray] = {"palette": palette(domains.scored)[None, : len(domains.scored)]}
    student.eval()
    for index, example in zip(range(EXAMPLES), domains.validation(), strict=False):
        size = size_of(example.label)
        prediction = domains.merge(upsample(student.predict(example.image), size))[0]
        prediction = prediction.masked_fill(example.label == IGNORE, IGNORE)
        images[f"image-{index}"] = _photograph(example.image[0], domains)
        images[f"label-{index}"] = palette(domains.scored)[example.label.cpu().numpy()]
        images[f"prediction-{index}"] = palette(domains.scored)[prediction.cpu().numpy()]
    if last is not None:
        images["source"] = _photograph(last.source.image[0], domains)
        images["target"] = _photograph(last.target.image[0], domains)
        images["mixed"] = _photograph(last.mixed.image[0], domains)
        images["pseudo-label"] = palette(domains.classes)[last.pseudo.label[0].cpu().numpy()]
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png", optimize=True)
    return {name: f"{folder.name}/{name}.png" for name in images}


def _photograph(image: Tensor, domains: Domains) -> np.ndarray:
    """A normalised image [3, H, W] as [H, W, 3] grey levels, uint8."""
    mean = image.new_tensor(domains.mean).view(3, 1, 1)
    std = image.new_tensor(domains.std).view(3, 1, 1)
    pixels = (image * std + mean).round().clamp(0, 255).permute(1, 2, 0)
    return pixels.contiguous().cpu().numpy().astype(np.uint8)
