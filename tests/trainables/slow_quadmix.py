"""QuadMix as plainly as it can be said: image by image, class by class and pixel by pixel, from its description."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Step:
    """Source image [B, 3, H, W] and label [B, H, W], target image, pseudo-label, its probability and its weight."""

    source: Array
    label: Array
    target: Array
    pseudo: Array
    probability: Array
    weight: Array


@dataclass(frozen=True)
class Rules:
    """Numbers and switches by the words of the description."""

    source_classes: int
    target_classes: int
    confidence: float
    exclude: str  # ids, positions or none
    draw_ignored: bool
    patch_weight: str  # ground or one


@dataclass(frozen=True)
class Pixel:
    """What one pixel of a mixed image is."""

    colour: tuple[float, ...]
    label: int
    weight: float
    of_source: bool


Patch = Callable[[int, int, int], tuple[Array, Array]]  # (place in the order, view, image) -> image, label


def smallest(classes: Sequence[int], number: int, keys: Array) -> list[int]:
    """As many classes as asked for, or all, by their keys."""
    return sorted(classes, key=lambda one: float(keys[one]))[:number]


def slow_quadmix(
    now: Step, before: Step, rules: Rules, keys: tuple[Array, Array], rare: Sequence[int], patch: Patch
) -> list[dict[tuple[int, int, int], Pixel]]:
    """Both views: (image, row, column) -> pixel.

    Args:
        now, before: This step and the last one.
        rules: Switches.
        keys: By which classes of the source and of the target are drawn, [B, 256] each.
        rare: Classes of the patches in pasting order.
        patch: Their source images.
    """
    views: list[dict[tuple[int, int, int], Pixel]] = [{}, {}]
    batch, rows, columns = now.label.shape
    for image in range(batch):
        listed = sorted(set(before.label[image].flatten().tolist()))
        if not rules.draw_ignored:
            listed = [one for one in listed if one != 255]
        from_source = smallest(listed, rules.source_classes, keys[0][image])
        forbidden = {
            "ids": from_source,
            "positions": [listed.index(one) for one in from_source],
            "none": [],
        }[rules.exclude]
        candidates = [one for one in sorted(set(before.pseudo[image].flatten().tolist())) if one not in forbidden]
        from_target = smallest(candidates, rules.target_classes, keys[1][image])
        for row, column in itertools.product(range(rows), range(columns)):
            at = (image, row, column)
            for number, view in enumerate(views):
                if int(before.pseudo[at]) in from_target and before.probability[at] >= rules.confidence:
                    pixel = of_target(before, at)
                elif int(before.label[at]) in from_source:
                    pixel = of_source(before, at)
                else:
                    pixel = of_source(now, at) if number == 0 else of_target(now, at)
                for place, one in enumerate(rare):
                    picture, label = patch(place, number, image)
                    if int(label[row, column]) == one:
                        weight = pixel.weight if rules.patch_weight == "ground" else 1.0
                        pixel = Pixel(tuple(picture[:, row, column].tolist()), one, weight, True)
                view[at] = pixel
    return views


def of_source(step: Step, at: tuple[int, int, int]) -> Pixel:
    """A labelled pixel."""
    return Pixel(tuple(step.source[at[0], :, at[1], at[2]].tolist()), int(step.label[at]), 1.0, True)


def of_target(step: Step, at: tuple[int, int, int]) -> Pixel:
    """A pseudo-labelled pixel."""
    colour = tuple(step.target[at[0], :, at[1], at[2]].tolist())
    return Pixel(colour, int(step.pseudo[at]), float(step.weight[at]), False)
