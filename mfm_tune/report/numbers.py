"""How numbers are written in a report: one decimal as the paper prints them, a dash where there is no number."""

from __future__ import annotations

import math

from mfm_tune.criteria import Criterion
from mfm_tune.criteria import metric_name as metric_name
from mfm_tune.ledger.records import Status, TrialRecord
from mfm_tune.results.statistics import Paired, Summary
from mfm_tune.results.study import CellResult
from mfm_tune.results.trials import ConfigResult, status_text

NOTHING = "–"
MINUS = "−"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SHORT = {Status.OOM: "OOM", Status.FINISHED: "no number"}  # finished, and the metric is undefined


def number(value: float | None, digits: int = 1) -> str:
    """`55.1`, with a true minus sign; a dash for None and for numbers that are not finite."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else MINUS + text[1:]
    return text


def signed(value: float | None, digits: int = 1) -> str:
    """`+0.8`, `−0.8`, `0.0`; a dash for None and for numbers that are not finite."""
    text = number(value, digits)
    return text if text == NOTHING or text[0] == MINUS or not text.strip("0.") else f"+{text}"


def mean_std(summary: Summary, seeds: int) -> str:
    """`55.1 ± 0.4 (3)`; `55.1 (1 of 3)` where seeds are missing; a dash for no number at all."""
    if summary.mean is None:
        return NOTHING
    spread = "" if summary.std is None else f" ± {number(summary.std)}"
    count = f"{summary.n}" if summary.n == seeds else f"{summary.n} of {seeds}"
    return f"{number(summary.mean)}{spread} ({count})"


def column_text(column: Summary, seeds: int) -> str:
    """As `mean_std`, for one of many columns: the count of seeds only where some are missing."""
    return mean_std(column, seeds).removesuffix(f" ({seeds})")


def cell_text(cell: CellResult) -> str:
    """The printed metric of a cell, or how its trials ended, such as `OOM` or `stopped (120), not started`."""
    if cell.summary.mean is not None:
        return mean_std(cell.summary, len(cell.config.trials))
    return ", ".join(dict.fromkeys(short_status(cell.config, seed) for seed in cell.config.trials))


def short_status(config: ConfigResult, seed: int) -> str:
    """A trial's status in a word, with the step where a scheduler stopped it: `stopped (120)`."""
    status, record = config.status(seed), config.trials[seed]
    if status is Status.STOPPED and record is not None:
        return f"stopped ({record.step})"
    return _SHORT.get(status, status.value)


def outcome_text(record: TrialRecord | None) -> str:
    """How a trial ended: the outcome's name, `open` or `not started`."""
    if record is None:
        return Status.NEW.value
    return "open" if record.outcome is None else record.outcome.value


def trial_text(config: ConfigResult, seed: int, metric: str) -> str:
    """One trial: its number where it finished with one, else its status."""
    value = config.finals(metric).get(seed)
    return status_text(config, seed) if value is None else number(value, 2)


def difference(paired: Paired | None) -> str:
    """`+0.8 [−0.3, +1.9]`; `+0.8 (1 seed)` where one seed gives no interval; a dash for none."""
    if paired is None or paired.mean is None:
        return NOTHING
    if paired.low is None or paired.high is None:
        return f"{signed(paired.mean)} (1 seed)"
    return f"{signed(paired.mean)} [{signed(paired.low)}, {signed(paired.high)}]"


def in_words(paired: Paired) -> str:
    """`+0.8 (95 % interval −0.3 to +1.9, 3 seeds)`."""
    if paired.low is None or paired.high is None:
        return f"{signed(paired.mean)} (1 seed, so no interval)" if paired.mean is not None else "not measured"
    name = "95 % interval" if paired.first is None else f"{interval_name(paired)} 95 % interval"
    return f"{signed(paired.mean)} ({name} {signed(paired.low)} to {signed(paired.high)}, {paired.n} seeds)"


def interval_name(paired: Paired) -> str:
    """How an interval was made: `paired t`, or by the `two-stage` procedure; empty where there is none."""
    if paired.low is None:
        return ""
    return "paired t" if paired.first is None else "two-stage"


def criterion_number(value: float | None, criterion: Criterion, *, sign: bool = False) -> str:
    """A criterion's value: percent with one decimal, anything else with three; with `sign` as a difference."""
    digits = 1 if criterion.key.endswith("/miou") else 3
    return signed(value, digits) if sign else number(value, digits)


def counted(count: int, noun: str, plural: str | None = None, *, words: bool = False) -> str:
    """`1 seed`, `3 seeds`; in words up to ten: `three seeds`."""
    number_of = _WORDS[count] if words and count < len(_WORDS) else str(count)
    return f"{number_of} {noun if count == 1 else plural or noun + 's'}"
