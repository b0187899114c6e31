"""A cell's numbers as a table prints them, for tags: MLflow's pages show a metric with all of its digits."""

from __future__ import annotations

from collections.abc import Mapping

from mfm_tune.criteria import digits_of
from mfm_tune.digits import NOTHING, number, signed
from mfm_tune.tracking.params import clean_key

DIFFERENCE = "mfm.minus "


def printed_numbers(numbers: Mapping[str, float], metric: str) -> dict[str, str]:
    """The tags of a cell: `mfm.mean` is `55.1 ± 0.4`, `mfm.minus DACS` is `+1.2 [−0.3, +2.7]`.

    Args:
        numbers: The cell's metrics as they stand.
        metric: The key of what they are of.
    """
    digits = digits_of(metric)
    tags = {"mfm.mean": NOTHING}  # no finished seed yet
    if "mean" in numbers:
        spread = f" ± {number(numbers['std'], digits)}" if "std" in numbers else ""
        tags["mfm.mean"] = f"{number(numbers['mean'], digits)}{spread}"
    for name, value in numbers.items():
        if name.startswith("minus ") and not name.endswith(("/low", "/high")):
            ends = (f"{name}/{end}" for end in ("low", "high"))
            texts = [signed(numbers[end], digits) for end in ends if end in numbers]
            interval = f" [{', '.join(texts)}]" if texts else ""
            tags[f"mfm.{clean_key(name)}"] = f"{signed(value, digits)}{interval}"
    return tags
