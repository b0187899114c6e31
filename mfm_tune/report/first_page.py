"""What a report begins with: the answer in a sentence or two, what was compared, and the paper's claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mfm_tune.criteria import criterion_of, is_ranked, unit
from mfm_tune.fields import hyphened
from mfm_tune.report.answer import quantity
from mfm_tune.report.numbers import counted, difference, metric_name, number
from mfm_tune.report.text import Banner, Section
from mfm_tune.results.claims import Claim, Finding, claims
from mfm_tune.results.cost import gains
from mfm_tune.results.statistics import MOST_SEEDS, Paired, sign_of
from mfm_tune.results.study import OWN, Comparison, Results


def banner(results: Results) -> Banner:
    """Whether the later references beat the first one, at which scale, and what these are."""
    return Banner(answers=answers(results), context=(*_scale(results), *_references(results)))


def answers(results: Results) -> tuple[str, ...]:
    """The later references against the first one, and of rows with baselines of their own how many intervals exclude
    zero: what the study is about."""
    own = (*_over_draws(results), *_own_differences(results))
    if not results.references:
        return own or ("The study names no reference, so no differences are printed.",)
    return (*map(_answer, results.main), *own)


def _answer(comparison: Comparison) -> str:
    """Such as `MFM gains +0.8 mIoU over DACS here; three seeds cannot tell that from 0 (−4.8 to +6.4).`"""
    first, second, paired = comparison.config.name, comparison.baseline.name, comparison.paired
    if paired.mean is None:
        return f"{first} against {second}: not measured yet, no seed has both."
    paper = "" if comparison.paper is None else f" The paper prints {quantity(comparison.metric, comparison.paper)}."
    if paired.n > 1 and not any(paired.per_seed.values()):
        return f"{first} and {second} are equal on every seed.{paper}"
    return (
        f"{_change(first, second, comparison.metric, paired.mean)} here{_certainty(comparison.metric, paired)}.{paper}"
    )


def _change(first: str, second: str, metric: str, mean: float) -> str:
    if not unit(metric):
        side = "above" if mean > 0 else "below"
        better = criterion_of(metric).oriented(mean) > 0
        good = "" if not is_ranked(metric) else ", better" if better else ", worse"
        return f"{first} is {quantity(metric, abs(mean)).lstrip('+')} {side} {second} in {metric_name(metric)}{good},"
    if mean < 0:
        return f"{first} loses {quantity(metric, -mean).lstrip('+')}{unit(metric)} to {second}"
    return f"{first} gains {quantity(metric, mean)}{unit(metric)} over {second}"


def _certainty(metric: str, paired: Paired) -> str:
    if paired.low is None or paired.high is None:
        return "; one seed cannot tell that from chance"
    interval = f"{quantity(metric, paired.low)} to {quantity(metric, paired.high)}"
    seeds = counted(paired.n, "seed", words=True)
    if not paired.sign:
        return f"; {seeds} cannot tell that from 0 ({interval})"
    return f", and {seeds} tell it from 0 ({interval})"


def _own_differences(results: Results) -> tuple[str, ...]:
    """Of tables whose rows are no draws of one thing."""
    tables = [table for table in results.tables if not table.table.draws_of]
    own = [each.paired for table in tables for _, baseline, each in table.comparisons if baseline is OWN]
    if not own:
        return ()
    counts = Counter(paired.sign for paired in own if paired.low is not None)
    parts = _shown(counts)
    if open_ := len(own) - counts.total():
        parts.append(f"{open_} without an interval yet")
    return (f"Of the {counted(len(own), 'difference')} to {OWN.name}: {', '.join(parts)}.",)


def _over_draws(results: Results) -> tuple[str, ...]:
    """Of tables whose rows are draws of one thing: each has one mean difference."""
    tables = [table for table in results.tables if table.two_levels is not None and table.comparisons]
    if not tables:
        return ()
    means = [table.two_levels.mean for table in tables if table.two_levels is not None]
    what = counted(len(means), "mean difference")
    draws = " and ".join(dict.fromkeys(table.table.draws_of for table in tables))
    shown = ", ".join(_shown(Counter(sign_of(mean.low, mean.high) for mean in means)))
    return (f"Of the {what} over draws of {draws}: {shown}.",)


def _shown(counts: Counter[int]) -> list[str]:
    return [f"{counts[sign]} {phrase}" for sign, phrase in _SHOWN.items() if counts[sign]]


_SHOWN = {
    1: "with the whole interval above 0",
    -1: "with the whole interval below 0",
    0: "inconclusive (the interval contains 0)",
}


def _scale(results: Results) -> Iterator[str]:
    """The profile, the length of training, and the study's first caveat."""
    study = results.study
    steps = sorted({study.program.planned_steps(config) for config in study.configs().values()})
    length = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    first = f" {study.comparable[0]}" if study.comparable else ""
    yield f"Profile {hyphened(study.profile)}, {length} training steps a trial.{first}"
    if any(each.paired.low is not None for each in results.main):
        in_stages = any(each.paired.first is not None for each in results.main)
        kind = "two-stage 95 % interval" if in_stages else "95 % t-interval"
        yield f"In brackets: the {kind} of the mean difference, taken seed by seed."


def _references(results: Results) -> Iterator[str]:
    """What each reference is: in the study's words, and as which rows the tables have it."""
    for reference in results.references:
        rows = dict.fromkeys(
            f"{cell.cell.axis} {cell.cell.level}"
            for cell in results.cells
            if cell.cell.config_id == reference.config_id and cell.cell.level != reference.name
        )
        what = results.study.about.get(reference.name, "")
        parts = [what, f"in the tables: {', '.join(rows)}" if rows else ""]
        if any(parts):
            yield f"{reference.name}: {'; '.join(filter(None, parts))}."


# --------------------------------------------------------------------------------------------------------------------
# The paper's claims
# --------------------------------------------------------------------------------------------------------------------


def claims_section(results: Results) -> Section:
    """A line for each difference that the paper prints; on the page those to the first reference before the others."""
    every = claims(results)
    first = [claim for claim in every if claim.baseline == every[0].baseline]
    return Section(
        key="claims",
        title="The paper's claims",
        sentences=(*counts_of_claims(every), _HOW_TO_READ) if every else (),
        headings=("the paper's claim", "here", "difference [95\N{NO-BREAK SPACE}%]", "paper", "seeds to tell"),
        rows=tuple(map(_claim_row, every)),
        visible=len(first),
        folded=f"{counted(len(every) - len(first), 'more claim')}, between other configs",
    )


_HOW_TO_READ = (
    "Supported: the whole 95 % interval has the sign of the paper's difference. Contradicted: it has the other sign. "
    "Inconclusive: it contains 0, which shows neither a difference nor that there is none. Seeds to tell: as many as "
    "it takes until the interval excludes 0, if mean and spread stay as they are. The paper's numbers are printed "
    "without a spread, so a claim that is supported is one seen at this scale, not a reproduction of the number."
)


def counts_of_claims(every: Sequence[Claim]) -> tuple[str, ...]:
    """How many claims are supported, contradicted, inconclusive."""
    if not every:
        return ()
    counts = Counter(claim.finding for claim in every)
    parts = [f"{counts[each]} {each.value}" for each in Finding if counts[each]]
    return (f"Of {counted(len(every), 'claim')} of the paper: {', '.join(parts)}.",)


def _claim_row(claim: Claim) -> tuple[str, ...]:
    seeds = claim.paired.seeds_to_tell
    counted_on = claim.paired.low is not None and claim.paired.mean and claim.paired.first is None
    more = f"more than {MOST_SEEDS}" if counted_on else "–"
    return (
        f"{claim.first} beats {claim.second}",
        claim.finding.value,
        difference(claim.paired, claim.metric),
        quantity(claim.metric, claim.paper),
        more if seeds is None else str(seeds),
    )


# --------------------------------------------------------------------------------------------------------------------
# What a gain costs
# --------------------------------------------------------------------------------------------------------------------


def cost_section(results: Results) -> Section | None:
    """The gain of each config over the first reference beside its time a step; None where all take the same time."""
    found = gains(results)
    if not found:
        return None
    return Section(
        key="cost",
        title="Gain against cost",
        sentences=(_HOW_IT_IS_TIMED,),
        headings=("config", f"time a step, {results.references[0].name} = 1", "difference [95\N{NO-BREAK SPACE}%]"),
        rows=tuple((each.config.name, number(ratio, 2), difference(each.paired, each.metric)) for ratio, each in found),
        visible=0,
    )


_HOW_IT_IS_TIMED = (
    "Times a step are medians over all trials that cost alike, on the machine of most trials, which may have been busy "
    "with others. A gain at equal steps may be a loss against a baseline that trains for as long."
)
