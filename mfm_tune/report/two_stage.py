"""Differences that were compared in two stages, in sentences: what was asked for, the seeds that takes, what is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from mfm_tune.criteria import digits_of_a_seed
from mfm_tune.ledger.stages import FirstStage
from mfm_tune.report.numbers import counted, metric_name, number
from mfm_tune.report.text import Section
from mfm_tune.results.study import Comparison, Results

MOST_NAMED = 6  # differences that a sentence names one by one


def two_stage(results: Results) -> tuple[str, ...]:
    """What the first stages decided, how far the second ones are, and how many intervals are others."""
    sentences = list(decided(results))
    left = [each for each in results.two_stage if each.paired.n < _reach(results, each)]
    if left:
        named = _named([f"{_name(each)} has {each.paired.n} of {_reach(results, each)} pairs" for each in left])
        sentences.append(f"The second stage is not over, so intervals are wider than they will be: {named}.")
    stages = {each.configs for each in results.two_stage}
    others = sum(metric == results.metric and configs not in stages for configs, metric in results.intervals)
    if stages and others:
        sentences.append(f"{counted(others, 'other difference has', 'other differences have')} the paired t-interval.")
    return tuple(sentences)


def decided(results: Results) -> tuple[str, ...]:
    """What the first stages decided: the pairs of seeds that each difference takes, and which ones are cut."""
    sentences: list[str] = []
    found = sorted(results.two_stage, key=lambda each: _asked(_first(each)))
    for _, group in groupby(found, key=lambda each: _asked(_first(each))):
        sentences += _alike(results, list(group))
    return tuple(sentences)


def stages_section(results: Results) -> Section:
    """The sentences, and of each difference its first stage, the pairs of seeds needed and there, and both widths."""
    return Section(
        key="stages",
        title="Two-stage intervals",
        sentences=two_stage(results),
        headings=("difference", "first stage", "its sd", "pairs needed", "pairs", "half-width asked for", "half-width"),
        rows=tuple(map(_row, results.two_stage)),
        visible=0,
    )


def _row(comparison: Comparison) -> tuple[str, ...]:
    first, paired, digits = _first(comparison), comparison.paired, digits_of_a_seed(comparison.metric)
    return (
        _name(comparison),
        ", ".join(map(str, first.pairs)),
        number(first.std, digits),
        str(first.needed),
        str(paired.n),
        f"{first.half_width:g}",
        number(paired.smallest_visible, digits),
    )


def _alike(results: Results, found: Sequence[Comparison]) -> list[str]:
    """Of differences with one first stage and one half-width."""
    first = _first(found[0])
    half = f"{first.half_width:g}"
    sentences = [
        f"Two-stage 95 % intervals (Stein's procedure) of {counted(len(found), 'difference')} in "
        f"{metric_name(results.metric)}: the spread over the first stage (seeds {', '.join(map(str, first.seeds))}) "
        f"alone decides how many pairs of seeds a half-width of {half} takes: {_pairs(found)}."
    ]
    cut = [_cut(results, each) for each in found if _reach(results, each) < _first(each).needed]
    if cut:
        most = f"as a config has {first.max_seeds} seeds at most"
        sentences.append(f"Wider than the half-width of {half} that was asked for, {most}: {_named(cut)}.")
    return sentences


def _first(comparison: Comparison) -> FirstStage:
    assert comparison.paired.first is not None
    return comparison.paired.first


def _asked(first: FirstStage) -> tuple[float, int, tuple[int, ...]]:
    return first.half_width, first.max_seeds, first.seeds


def _reach(results: Results, comparison: Comparison) -> int:
    return results.stages.reach(_first(comparison))


def _name(comparison: Comparison) -> str:
    return f"{comparison.config.name} minus {comparison.baseline.name}"


def _pairs(found: Sequence[Comparison]) -> str:
    """`level 1 minus base 16, level 2 minus base 64`; the fewest and the most where there are many."""
    if len(found) > MOST_NAMED:
        needed = [_first(each).needed for each in found]
        return f"{min(needed)} to {max(needed)}"
    return ", ".join(f"{_name(each)} {_first(each).needed}" for each in found)


def _cut(results: Results, comparison: Comparison) -> str:
    paired, reach, digits = comparison.paired, _reach(results, comparison), digits_of_a_seed(comparison.metric)
    width = f" ±{number(paired.smallest_visible, digits)}" if paired.n == reach else ""
    return f"{_name(comparison)}{width} ({reach} of {_first(comparison).needed} pairs)"


def _named(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return f"{', '.join(texts[:MOST_NAMED])}{more}"
