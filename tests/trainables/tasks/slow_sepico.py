"""SePiCo's losses, statistics and crops from their formulas, one cell at a time, in NumPy's float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def slow_statistics(steps: list[tuple[Floats, list[int]]], classes: int, dim: int) -> tuple[Floats, Floats]:
    """Mean and variance of each class over the cells of all steps; 0 for a class never seen."""
    mean, variance = np.zeros((classes, dim)), np.zeros((classes, dim))
    for one in range(classes):
        cells = [cell for features, label in steps for cell, own in zip(features, label, strict=True) if own == one]
        if cells:
            mean[one] = sum(cells) / len(cells)
            variance[one] = sum(cell**2 for cell in cells) / len(cells) - mean[one] ** 2
    return mean, variance


def slow_bank(steps: list[tuple[Floats, list[int]]], one: int, dim: int, length: int) -> list[Floats]:
    """The means of a class in the latest steps that have it, after a vector of zeros."""
    bank: list[Floats] = [np.zeros(dim)]
    for features, label in steps:
        cells = [cell for cell, own in zip(features, label, strict=True) if own == one]
        if cells:
            bank = [*bank, sum(cells) / len(cells)][-length:]
    return bank


def slow_distribution(features: Floats, label: list[int], mean: Floats, variance: Floats, temperature: float) -> float:
    """-log softmax of the widened scores, plus the spread of the own class, averaged."""
    each = []
    for cell, own in zip(features, label, strict=True):
        spread = [float(sum(cell**2 * variance[one])) / (2 * temperature**2) for one in range(len(mean))]
        scores = [float(sum(cell * mean[one])) / temperature + spread[one] for one in range(len(mean))]
        each.append(math.log(sum(math.exp(score) for score in scores)) - scores[own] + spread[own])
    return sum(each) / len(each)


def slow_bank_loss(features: Floats, label: list[int], banks: list[list[Floats]], temperature: float) -> float:
    """Each member of the own bank against the exponentials of the others' mean products."""
    each = []
    for cell, own in zip(features, label, strict=True):
        others = 0.0
        for one, bank in enumerate(banks):
            if one != own:
                others += math.exp(sum(float(sum(cell * member)) / temperature for member in bank) / len(bank))
        terms = []
        for member in banks[own]:
            similar = math.exp(float(sum(cell * member)) / temperature)
            terms.append(-math.log(similar / (similar + others)))
        each.append(sum(terms) / len(terms))
    return sum(each) / len(each)


def slow_diversity(features: Floats, mean: Floats, temperature: float) -> float:
    """The sum of the classes' log-probabilities for the mean feature, over C ln C."""
    middle = sum(features) / len(features)
    odds = [math.exp(float(sum(middle * own)) / temperature) for own in mean]
    return sum(math.log(one / sum(odds)) for one in odds) / (len(mean) * math.log(len(mean)))


def slow_score(label: list[int], largest: float) -> float:
    """Of a window's pixels: the sum of ln n over classes with more than one pixel, 0 where one class has nearly all."""
    counts = {one: label.count(one) for one in set(label) if one != 255}
    if len(counts) < 2 or max(counts.values()) / sum(counts.values()) >= largest:
        return 0.0
    return sum(math.log(count) for count in counts.values() if count > 1)
