"""Pixels of images and label maps: boxes, sizes, the normalisation of ImageNet, the label that no loss counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255  # the label of pixels that no loss and no score counts
IDS = IGNORE + 1  # label values are bytes
MOST_CLASSES = IGNORE - 1  # of a store's labels, which have a byte a pixel; 254 and 255 are no class
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # pixel values, RGB
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the image, in pixels, half open."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, image: Tensor) -> Tensor:
        """Cut the box out of [..., H, W]."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def size_of(image: Tensor) -> tuple[int, int]:
    """(rows, columns) of [..., H, W]."""
    return image.shape[-2], image.shape[-1]
