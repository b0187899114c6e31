"""The colour distortion of source-only training, batched on the device.

MMSegmentation's `PhotoMetricDistortion`, which the DAFormer family's source-only training applies after crop and flip:
brightness, contrast, saturation and hue, each for every second image, contrast before or after the other two. The
published pipeline works on 8-bit images, hue in steps of 2 degrees; this takes the same steps and rounds as it does.
Padding of a crop that is larger than its image is distorted too, where the published pipeline pads afterwards; no label
counts there. Draws are made on the host; images never leave the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.adaptation.augmentation import normalisation
from trainables.config import PhotoMetricDistortion
from trainables.randomness import Streams

HUES = 180  # of an 8-bit image
FRACTION = 12  # bits behind the point in the published pipeline's conversion to HSV
VALUE, LOW, FALLING, RISING = range(4)
SECTORS = (  # R, G, B in each sixth of the circle
    (VALUE, RISING, LOW),
    (FALLING, VALUE, LOW),
    (LOW, VALUE, RISING),
    (LOW, FALLING, VALUE),
    (RISING, LOW, VALUE),
    (VALUE, LOW, FALLING),
)


@dataclass(frozen=True, slots=True)
class DistortionDraw:
    """What happens to each image, [B] each: whether (bool), with which factor or shift (pixel values, hues of 180)."""

    brighter: Tensor
    contrasted: Tensor
    saturated: Tensor
    turned: Tensor
    contrast_last: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor


def draw_distortion(settings: PhotoMetricDistortion, streams: Streams, step: int, batch: int) -> DistortionDraw:
    """The draws of one step."""
    brighter, contrasted, saturated, turned, last = streams.uniform("distortion gate", step, (5, batch)) >= 0.5

    def between(item: int, low: float, high: float) -> Tensor:
        return streams.uniform("distortion factor", step, (batch,), low, high, item=item)

    brightness = between(0, -settings.brightness, settings.brightness)
    contrast, saturation = between(1, *settings.contrast), between(2, *settings.saturation)
    hue = between(3, -settings.hue, settings.hue).floor()
    return DistortionDraw(brighter, contrasted, saturated, turned, last, brightness, contrast, saturation, hue)


def distort(
    image: Tensor, draw: DistortionDraw, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Distort a normalised batch [B, 3, H, W]; the result is normalised too.

    Args:
        image: Normalised by mean and std (pixel values).
        draw: Of `draw_distortion`.
        mean, std: Of R, G, B.
    """
    centre, spread = normalisation(image, mean, std)
    levels = (image * spread + centre).round().clamp(0, 255)
    return (distort_levels(levels, draw) - centre) / spread


def distort_levels(levels: Tensor, draw: DistortionDraw) -> Tensor:
    """Distort a batch [B, 3, H, W] of whole pixel values 0 to 255, R, G, B."""

    def each(drawn: Tensor) -> Tensor:
        drawn = drawn if drawn.dtype == torch.bool else drawn.to(levels.dtype)
        return drawn.to(levels.device, non_blocking=True).view(-1, 1, 1, 1)

    contrasted = _scaled(levels + each(draw.brightness * draw.brighter), 1)
    contrasted = torch.where(
        each(draw.contrasted & ~draw.contrast_last), _scaled(contrasted, each(draw.contrast)), contrasted
    )
    hue, saturation, value = levels_to_hsv(contrasted)
    saturated = levels_of_hsv(hue, _scaled(saturation, each(draw.saturation)), value)
    saturated = torch.where(each(draw.saturated), saturated, contrasted)
    hue, saturation, value = levels_to_hsv(saturated)
    turned = levels_of_hsv((hue + each(draw.hue)) % HUES, saturation, value)
    turned = torch.where(each(draw.turned), turned, saturated)
    return torch.where(each(draw.contrasted & draw.contrast_last), _scaled(turned, each(draw.contrast)), turned)


def _scaled(levels: Tensor, factor: Tensor | float) -> Tensor:
    """Times a factor, as an 8-bit image: clipped, and cut to whole numbers."""
    return (levels * factor).clamp(0, 255).floor()


def levels_to_hsv(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue 0 to 179, saturation and value 0 to 255, each [B, 1, H, W] and whole, of pixel values [B, 3, H, W].

    In fixed point, by reciprocals with 12 bits behind the point, which decides how they are rounded.
    """
    red, green, blue = levels.int().split(1, dim=1)
    value = levels.amax(dim=1, keepdim=True).int()
    spread = value - levels.amin(dim=1, keepdim=True).int()
    sector = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = _rounded(sector * _reciprocal(spread, HUES / 6))
    saturation = _rounded(spread * _reciprocal(value, 255))
    hue = torch.where(hue < 0, hue + HUES, hue)
    return hue.to(levels.dtype), saturation.to(levels.dtype), value.to(levels.dtype)


def levels_of_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Pixel values [B, 3, H, W], cut to whole numbers, of 8-bit hue, saturation and value.

    Products are those of OpenCV's vector code, in single precision and fused with the subtraction, since many of them
    end next to a whole number. (It rounds the pixels that are left over at the end of a row, which crops of the
    published sizes do not have.)
    """
    turn = hue.float() * (6 / HUES)
    sector = turn.floor()
    along, share, level = turn - sector, saturation.float() * (1 / 255), value.float() * (1 / 255)
    low = level * (1 - share)
    falling = level * _one_less(share, along)
    rising = level * _one_less(share, 1 - along)
    mixtures = torch.cat([level, low, falling, rising], dim=1)
    which = torch.tensor(SECTORS).to(hue.device, non_blocking=True)[sector.long().squeeze(1) % 6]
    return (mixtures.gather(1, which.movedim(-1, 1)) * 255).floor().to(hue.dtype)


def _one_less(one: Tensor, other: Tensor) -> Tensor:
    """1 - one * other, rounded once."""
    return (1 - one.double() * other.double()).float()


def _reciprocal(of: Tensor, times: float) -> Tensor:
    """times / of with 12 bits behind the point, 0 for 0."""
    inverse = (times * 2**FRACTION / of.clamp(min=1).double()).round().int()
    return torch.where(of == 0, torch.zeros_like(inverse), inverse)


def _rounded(fixed: Tensor) -> Tensor:
    return torch.bitwise_right_shift(fixed + 2 ** (FRACTION - 1), FRACTION)
