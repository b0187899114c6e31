"""A cell's numbers as a table prints them, for tags: MLflow's pages show a metric with all of its digits."""

from __future__ import annotations

from collections.abc import Mapping

from mfm_tune.tracking.params import clean_key

NONE = "–"  # no finished seed yet
DIFFERENCE = "mfm.minus "


def printed_numbers(numbers: Mapping[str, float]) -> dict[str, str]:
    """The tags of a cell: `mfm.mean` is `55.1 ± 0.4`, `mfm.minus DACS` is `+1.2 [−0.3, +2.7]`.

    Args:
        numbers: The cell's metrics as they stand.
    """
    tags = {"mfm.mean": NONE}
    if "mean" in numbers:
        spread = f" ± {numbers['std']:.1f}" if "std" in numbers else ""
        tags["mfm.mean"] = f"{numbers['mean']:.1f}{spread}"
    for name, value in numbers.items():
        if name.startswith("minus ") and not name.endswith(("/low", "/high")):
            ends = [numbers[f"{name}/{end}"] for end in ("low", "high") if f"{name}/{end}" in numbers]
            interval = f" [{', '.join(map(_signed, ends))}]" if ends else ""
            tags[f"mfm.{clean_key(name)}"] = f"{_signed(value)}{interval}"
    return tags


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
