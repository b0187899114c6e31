"""How numbers are written in a report: with the digits of their metric, a dash where there is no number."""

from __future__ import annotations

from collections.abc import Callable

from mfm_tune.criteria import Criterion, digits_of, digits_of_a_seed
from mfm_tune.criteria import metric_name as metric_name
from mfm_tune.digits import NOTHING as NOTHING
from mfm_tune.digits import number as number
from mfm_tune.digits import signed as signed
from mfm_tune.ledger.records import Status, TrialRecord
from mfm_tune.results.statistics import Paired, Summary
from mfm_tune.results.study import CellResult
from mfm_tune.results.trials import ConfigResult, status_text
from mfm_tune.results.two_levels import Estimate

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SHORT = {Status.OOM: "OOM", Status.FINISHED: "no number"}  # finished, and the metric is undefined


def mean_std(summary: Summary, seeds: int, metric: str) -> str:
    """`55.1 ± 0.4 (3)`; `55.1 (1 of 3)` where seeds are missing; a dash for no number at all."""
    if summary.mean is None:
        return NOTHING
    digits = digits_of(metric)
    spread = "" if summary.std is None else f" ± {number(summary.std, digits)}"
    count = f"{summary.n}" if summary.n == seeds else f"{summary.n} of {seeds}"
    return f"{number(summary.mean, digits)}{spread} ({count})"


def column_text(column: Summary, seeds: int, metric: str) -> str:
    """As `mean_std`, for one of many columns: the count of seeds only where some are missing."""
    return mean_std(column, seeds, metric).removesuffix(f" ({seeds})")


def cell_text(cell: CellResult, metric: str) -> str:
    """The printed metric of a cell, or how its trials ended, such as `OOM` or `stopped (120), not started`."""
    if cell.summary.mean is not None:
        return mean_std(cell.summary, len(cell.config.trials), metric)
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
    return status_text(config, seed) if value is None else number(value, digits_of_a_seed(metric))


def difference(paired: Paired | None, metric: str) -> str:
    """`+0.8 [−0.3, +1.9]`; `+0.8 (1 seed)` where one seed gives no interval; a dash for none."""
    if paired is None or paired.mean is None:
        return NOTHING
    mean, low, high = _with_ends(paired, metric)
    return f"{mean} (1 seed)" if paired.low is None else f"{mean} [{low}, {high}]"


def in_words(paired: Paired, metric: str) -> str:
    """`+0.8 (95 % interval −0.3 to +1.9, 3 seeds)`."""
    if paired.mean is None:
        return "not measured"
    mean, low, high = _with_ends(paired, metric)
    if paired.low is None:
        return f"{mean} (1 seed, so no interval)"
    name = "95 % interval" if paired.first is None else f"{interval_name(paired)} 95 % interval"
    return f"{mean} ({name} {low} to {high}, {paired.n} seeds)"


def _with_ends(paired: Paired, metric: str) -> tuple[str, str, str]:
    digits = digits_of(metric)
    return signed(paired.mean, digits), signed(paired.low, digits), signed(paired.high, digits)


def estimate(found: Estimate, metric: str, shown: Callable[[float, int | None], str] = number) -> str:
    """`2.6 [1.1, 16.6]`; by `signed`, as a difference."""
    value, low, high = (shown(each, digits_of(metric)) for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def interval_name(paired: Paired) -> str:
    """How an interval was made: `paired t`, or by the `two-stage` procedure; empty where there is none."""
    if paired.low is None:
        return ""
    return "paired t" if paired.first is None else "two-stage"


def criterion_number(value: float | None, criterion: Criterion, *, sign: bool = False) -> str:
    """A criterion's value; with `sign` as a difference."""
    return (signed if sign else number)(value, digits_of(criterion.key))


def counted(count: int, noun: str, plural: str | None = None, *, words: bool = False) -> str:
    """`1 seed`, `3 seeds`; in words up to ten: `three seeds`."""
    number_of = _WORDS[count] if words and count < len(_WORDS) else str(count)
    return f"{number_of} {noun if count == 1 else plural or noun + 's'}"
