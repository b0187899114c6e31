"""Colour jitter and blur of mixed images, batched on the device.

The jitter is kornia 0.5.8's, which the DAFormer family was trained with: additive brightness, multiplicative contrast,
HSV saturation and hue, in random order, clamped. It is `kornia.augmentation.ColorJiggle` of today up to the HSV
epsilon, and not `ColorJitter` nor torchvision's. Draws are made on the host; images never leave the device.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.config import Blur, ColourJitter
from trainables.models.segmentor import laid_out
from trainables.randomness import Streams

EPSILON = 1e-6  # of the HSV saturation, kornia 0.5.8's
HUE_TURN = float(torch.tensor(math.pi, dtype=torch.float32)) / math.pi  # its hue shift used a float32 pi
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True, slots=True)
class JitterDraw:
    """Factors [B] and the order of operations, one a row, [B, 4]."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor


def augment(
    image: Tensor,
    jitter: ColourJitter | None,
    blur: Blur | None,
    streams: Streams,
    step: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    *,
    name: str = "",
    gates: str | None = None,
    per_image: bool = True,
) -> Tensor:
    """Jitter and blur a normalised batch [B, 3, H, W], in its memory format; each happens to the whole batch or not.

    Args:
        image: Normalised by mean and std (pixel values).
        jitter, blur: None is off.
        name: Begins the names of its streams, so that two augmentations in a step never share a draw ("masked ").
        gates: Begins the names of the streams that decide whether it happens, where that is not `name`: images that are
            augmented together or not at all.
        per_image: An order of operations and a sigma for each image (mixed images), or one for the batch (masked image
            consistency, SePiCo's source and target); factors are always drawn for each image.
    """
    given, gates = image, name if gates is None else gates
    if jitter is not None and gate(streams, f"{gates}jitter gate", step, jitter.probability):
        draw = draw_jitter(jitter, streams, step, len(image), name, per_image)
        image = jitter_normalised(image, draw, mean, std)
    if blur is not None and gate(streams, f"{gates}blur gate", step, blur.probability):
        count = len(image) if per_image else 1
        sigma = streams.uniform(f"{name}blur sigma", step, (count,), *blur.sigma).expand(len(image))
        image = gaussian_blur(image, sigma, reach=5 * blur.sigma[1])
    return laid_out(image, given)


def gate(streams: Streams, purpose: str, step: int, probability: float) -> bool:
    """Whether something happens at this step: u > 1 - probability, the reference implementation's form.

    It is asked as 1 - u < probability, since 1 - 0.8 lies below 0.2 in floating point.
    """
    return bool(1 - streams.uniform(purpose, step, ()) < probability)


def draw_jitter(
    jitter: ColourJitter, streams: Streams, step: int, batch: int, name: str, per_image: bool
) -> JitterDraw:
    """The draws of one call."""

    def factor(part: str, reach: float, centre: float) -> Tensor:
        return streams.uniform(f"{name}jitter {part}", step, (batch,), centre - reach, centre + reach)

    rows = batch if per_image else 1
    order = torch.stack([streams.permutation(f"{name}jitter order", step, 4, item) for item in range(rows)])
    return JitterDraw(
        brightness=factor("brightness", jitter.brightness, 1.0),
        contrast=factor("contrast", jitter.contrast, 1.0),
        saturation=factor("saturation", jitter.saturation, 1.0),
        hue=factor("hue", jitter.hue, 0.0),
        order=order.expand(batch, 4),
    )


def jitter_normalised(
    image: Tensor, draw: JitterDraw, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Jitter a normalised batch [B, 3, H, W] in [0, 1] space and normalise it again."""
    centre, spread = normalisation(image, mean, std)
    return (colour_jitter((image * spread + centre) / 255, draw) * 255 - centre) / spread


def normalisation(
    image: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """Mean and std (pixel values), [1, 3, 1, 1] each, in an image's dtype on its device."""
    centre, spread = (_like(image, torch.tensor(each, dtype=torch.float64)).view(1, 3, 1, 1) for each in (mean, std))
    return centre, spread


def colour_jitter(image: Tensor, draw: JitterDraw) -> Tensor:
    """Jitter a batch [B, 3, H, W] in [0, 1]; the result is NCHW, in which colours are computed twice as fast on a CPU.

    Images are handled one by one, each in its own order; the order is on the host, so nothing waits for the device.
    """
    factors = _like(image, torch.stack([draw.brightness, draw.contrast, draw.saturation, draw.hue], dim=1))
    jittered = []
    for one, order, factor in zip(image.contiguous().split(1), draw.order.tolist(), factors, strict=True):
        changed = one
        for operation in order:
            changed = _apply(operation, changed, factor[operation])
        jittered.append(changed)
    return torch.cat(jittered)


def _apply(operation: int, image: Tensor, factor: Tensor) -> Tensor:
    if operation == BRIGHTNESS:
        return (image + (factor - 1)).clamp_(0, 1)
    if operation == CONTRAST:
        return (image * factor).clamp_(0, 1)
    hue, saturation, value = rgb_to_hsv(image)
    if operation == SATURATION:
        return hsv_to_rgb(hue, (saturation * factor).clamp_(0, 1), value)
    return hsv_to_rgb(fraction(hue + factor * HUE_TURN), saturation, value)


def rgb_to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns, saturation, value, each [B, 1, H, W], of [B, 3, H, W] in [0, 1]."""
    red, green, blue = image.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    safe = torch.where(spread == 0, 1, spread)
    sector = torch.where(green == value, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = torch.where(red == value, (green - blue) / safe, sector)
    return fraction(sector / 6), spread / (value + EPSILON), value


def fraction(turns: Tensor) -> Tensor:
    """`turns % 1`, to the last bit, in a fifth of its time on a CPU."""
    return turns - turns.floor()


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] from hue in turns, saturation and value."""
    offset = (5 - 2 * torch.arange(3, device=hue.device, dtype=hue.dtype)).view(1, 3, 1, 1)
    k = offset + hue * 6
    k = torch.where(k >= 6, k - 6, k)
    return value - value * saturation * torch.minimum(k, 4 - k).clamp_(0, 1)


def gaussian_blur(image: Tensor, sigma: Tensor, reach: float) -> Tensor:
    """Blur each image of a batch [B, C, H, W] with its own sigma [B] (pixels), reflecting at the border.

    The kernel is the reference's (a tenth of the size, odd) cut where its weight falls below 1e-6 (`reach`, pixels).
    """
    rows, columns = (min(kernel_size(size) // 2, math.ceil(reach)) for size in image.shape[-2:])
    return blurred(image, sigma, (rows, columns))


def blurred(image: Tensor, sigma: Tensor, radius: tuple[int, int]) -> Tensor:
    """Blur as `gaussian_blur` does, by a kernel of 2 * radius + 1 (rows, columns).

    It is separable: rows, then columns. An image keeps its dtype under autocast, too.
    """
    batch, channels, rows, columns = image.shape
    radius_y, radius_x = radius
    flat = image.reshape(1, batch * channels, rows, columns)
    flat = F.pad(flat, (radius_x, radius_x, radius_y, radius_y), mode="reflect")
    vertical = _kernels(sigma, radius_y, channels, image).unsqueeze(-1)
    horizontal = _kernels(sigma, radius_x, channels, image).unsqueeze(-2)
    with _without_autocast(image.device):
        flat = F.conv2d(flat, vertical, groups=batch * channels)
        flat = F.conv2d(flat, horizontal, groups=batch * channels)
    return flat.view(batch, channels, rows, columns)


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Arithmetic in the dtype of what is given; some devices (meta) know no other."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def kernel_size(size: int) -> int:
    """The reference's kernel for an image side: a tenth of it, rounded up, one less where that is even."""
    kernel = math.ceil(0.1 * size)
    return kernel if kernel % 2 else kernel - 1


def _kernels(sigma: Tensor, radius: int, channels: int, like: Tensor) -> Tensor:
    """Normalised Gaussian weights [B * channels, 1, 2 * radius + 1], computed on the host in float64."""
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weight = torch.exp(-(place**2) / (2 * sigma.double().view(-1, 1) ** 2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    return _like(like, weight.repeat_interleave(channels, dim=0).unsqueeze(1))


def _like(image: Tensor, drawn: Tensor) -> Tensor:
    """What was drawn on the host in an image's dtype on its device; nobody waits for it to arrive."""
    return drawn.to(image.device, image.dtype, non_blocking=True)
