"""PiPa's two losses as plainly as they can be said: anchor by anchor, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def slow_pixel_contrast(vectors: Array, classes: Sequence[int], temperature: float, base: float) -> float:
    """-(t / t_b) * mean over i of the mean over its positives of s - log(exp s + what repels)."""
    total = 0.0
    for i, own in enumerate(vectors):
        similar = [float(own @ other) / temperature for other in vectors]
        repelled = sum(math.exp(similar[n]) for n, one in enumerate(classes) if one != classes[i])
        positives = [j for j, one in enumerate(classes) if one == classes[i] and j != i]
        logs = [similar[j] - math.log(math.exp(similar[j]) + repelled) for j in positives]
        total += sum(logs) / len(logs) if logs else 0.0
    return -(temperature / base) * total / len(vectors)


def slow_hard(hard: int, easy: int, views: int) -> int:
    """How many of the views are hard, by the three cases."""
    if hard >= views / 2 and easy >= views / 2:
        return views // 2
    if hard >= views / 2:
        return views - easy
    return hard


class SlowPatches:
    """The loss over steps, with a bank of (vector, label) a cell.

    Args:
        temperature, threshold: Of the loss.
        steps: That the bank keeps.
    """

    def __init__(self, temperature: float, threshold: float, steps: int) -> None:
        self.temperature, self.threshold, self.steps = temperature, threshold, steps
        self.bank: list[list[tuple[Array, int]]] = []

    def step(
        self,
        vectors: tuple[Array, Array],
        labels: tuple[Labels, Labels],
        confidences: tuple[Array, Array],
        corners: Sequence[tuple[tuple[int, int], tuple[int, int]]],
        flips: Sequence[tuple[bool, bool]],
        chosen: tuple[Sequence[int], Sequence[int]],
    ) -> float:
        """Both directions of one step.

        Args:
            vectors: Of each crop, [B, C, h, w]; labels and confidences [B, h, w].
            corners: (row, column) of both crops of each image, in cells.
            flips: Whether each crop of each image was mirrored.
            chosen: Cells of each crop that enter the bank, counted through the batch.
        """
        entering = []
        for crop in range(2):
            flat = [cell for image in vectors[crop] for cell in image.reshape(len(image), -1).T]
            names = labels[crop].reshape(-1)
            entering += [(flat[index], int(names[index])) for index in chosen[crop]]
        self.bank = [*self.bank, entering][-self.steps :]
        return sum(self._direction(one, 1 - one, vectors, labels, confidences, corners, flips) for one in range(2))

    def _direction(self, a: int, b: int, vectors, labels, confidences, corners, flips) -> float:  # type: ignore[no-untyped-def]
        height, width = labels[0].shape[1:]
        costs = []
        for image, places in enumerate(corners):
            for row in range(height):
                for column in range(width):
                    there = (row + places[a][0] - places[b][0], column + places[a][1] - places[b][1])
                    if not (0 <= there[0] < height and 0 <= there[1] < width):
                        continue
                    mine = (image, row, width - 1 - column if flips[image][a] else column)
                    other = (image, there[0], width - 1 - there[1] if flips[image][b] else there[1])
                    sure = confidences[b][other]
                    if sure > self.threshold and confidences[a][mine] < sure:
                        costs.append(self._cost(_at(vectors[a], mine), _at(vectors[b], other), int(labels[a][mine])))
        return sum(costs) / len(costs) if costs else 0.0

    def _cost(self, anchor: Array, other: Array, label: int) -> float:
        attracted = float(anchor @ other) / self.temperature
        remembered = [(float(anchor @ one) / self.temperature, name) for step in self.bank for one, name in step]
        most = max(attracted, *(one for one, _ in remembered))
        positive = math.exp(attracted - most)
        repelled = sum(math.exp(one - most) for one, name in remembered if name != label)
        return -math.log(positive / (positive + repelled + 1e-8) + 1e-8)


def _at(vectors: Array, place: tuple[int, int, int]) -> Array:
    image, row, column = place
    cell: Array = vectors[image, :, row, column]
    return cell
