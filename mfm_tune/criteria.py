"""By which number a search chooses; of any metric, which way is better and how it is printed. Standard library only.

Labels of the target are not to be had in domain adaptation, so a choice by target mIoU is called *oracle selection*
wherever it is reported; the other criteria need no label of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mfm_tune.published import Declared


@dataclass(frozen=True, kw_only=True)
class Criterion(Declared):
    """A number of a trial's reports by which configs are ranked.

    Args:
        key: Its key among a report's metrics.
        label: How it is called in print.
        larger_is_better: Its direction.
        oracle: Whether it takes labels of the target.
    """

    key: str
    label: str
    larger_is_better: bool = True
    oracle: bool = False

    def oriented(self, value: float) -> float:
        """The value, turned so that larger is better."""
        return value if self.larger_is_better else -value


TARGET_MIOU: Final = Criterion(key="student/miou", label="target mIoU", oracle=True)
SOURCE_MIOU: Final = Criterion(key="source/miou", label="source-validation mIoU")
TARGET_ENTROPY: Final = Criterion(key="criterion/entropy", label="mean target entropy", larger_is_better=False)
INFORMATION_MAXIMISATION: Final = Criterion(key="criterion/information_maximisation", label="information maximisation")
SOFT_NEIGHBOURHOOD_DENSITY: Final = Criterion(key="criterion/snd", label="soft neighbourhood density")
AGREEMENT: Final = Criterion(key="criterion/agreement", label="agreement of student and teacher")

CRITERIA: Final = (
    TARGET_MIOU,
    SOURCE_MIOU,
    TARGET_ENTROPY,
    INFORMATION_MAXIMISATION,
    SOFT_NEIGHBOURHOOD_DENSITY,
    AGREEMENT,
)

_BY_KEY: Final = {criterion.key: criterion for criterion in CRITERIA}


def criterion_of(key: str) -> Criterion:
    """The criterion of a metric's key; any other metric counts as one of which more is better."""
    return _BY_KEY.get(key) or Criterion(key=key, label=metric_name(key))


def is_ranked(key: str) -> bool:
    """Whether a larger or a smaller value of a metric is known to be better."""
    return key in _BY_KEY or bool(unit(key))


def unit(key: str) -> str:
    """What a number of percent is of, such as ` mIoU`; empty for any other metric."""
    return next((f" {word}" for word in ("mIoU", "IoU") if word in metric_name(key)), "")


def digits_of(key: str) -> int | None:
    """Decimals with which a metric is printed: one of percent, as papers have it, three of a criterion. None is three
    significant digits, of everything else: nobody knows its scale."""
    if unit(key):
        return 1
    return 3 if key in _BY_KEY else None


def digits_of_a_seed(key: str) -> int | None:
    """As `digits_of`, for the number of one seed: percent with one decimal more than a mean's."""
    return 2 if unit(key) else digits_of(key)


def metric_name(key: str) -> str:
    """A metric's key for people: `student/miou` is `student mIoU`, `student/miou10` is `student mIoU of 10 classes`,
    `student/iou/car` is `student IoU of car`."""
    network, _, rest = key.partition("/")
    if rest == "miou":
        return f"{network} mIoU"
    if rest.startswith("miou") and rest[4:].isdecimal():
        return f"{network} mIoU of {rest[4:]} classes"
    if rest.startswith("iou/"):
        return f"{network} IoU of {rest.removeprefix('iou/')}"
    return key
