"""What a search's report says: the winner, what the choice was worth, which parameters matter, what pruning saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mfm_tune.criteria import CRITERIA, TARGET_MIOU
from mfm_tune.fields import hyphened
from mfm_tune.program import Outcome
from mfm_tune.report.numbers import counted, criterion_number, in_words, mean_std, metric_name, number, outcome_text
from mfm_tune.report.search_figures import capital
from mfm_tune.report.sections import study_text
from mfm_tune.report.text import Banner, Section, Text, filled
from mfm_tune.results.search import Confirmed, Remeasured, SearchResults
from mfm_tune.results.statistics import Verdict, smallest_correlations, summary
from mfm_tune.search.candidates import final, ranking, values_text
from mfm_tune.search.importance import LEAST, Importance, best_tenth

ORACLE = "oracle selection: chosen by labelled target data"
LABEL_FREE = "label-free selection: no label of the target had a part in the choice"
FEW = 30  # finished trials, below which an importance is a hint


def search_text(found: SearchResults, importances: Sequence[Importance], figures: Sequence[str]) -> Text:
    """The text of a search's report: that of the confirmed study, and that on what was explored.

    Args:
        figures: The names of those that were drawn.
    """
    study = study_text(found.results)
    sentences = search_summary(found)
    answers = 1 if found.unbeaten or found.winner is None else 2  # the winner, and its first difference
    sections = (
        selection_bias(found),
        _importance(found, importances),
        _slices(found, importances, figures),
        _pruning(found),
        selection(found),
        _explored(found),
    )
    return replace(
        study,
        subtitle=(
            f"Search {found.search.name}, profile {hyphened(found.search.profile)}, {selected_by(found)}. "
            f"{_status(found)} Confirmed: {study.subtitle.partition('. ')[2]}"
        ),
        banner=Banner(answers=sentences[:answers], context=study.banner.context),
        first=(
            Section(key="summary", title="Summary", sentences=(*sentences[answers:], *study.banner.answers)),
            *study.first,
        ),
        leading=(*(filled(*sections) if found.candidates else ()), *study.leading),
    )


def selected_by(found: SearchResults) -> str:
    """By what the search chooses, with the mark that every report carries."""
    criterion = found.search.criterion
    return ORACLE if criterion.oracle else f"chosen by {criterion.label} ({LABEL_FREE})"


def search_summary(found: SearchResults) -> tuple[str, ...]:
    """The main findings, in sentences."""
    return tuple(_summary(found))


def _summary(found: SearchResults) -> Iterator[str]:
    search, criterion = found.search, found.search.criterion
    yield from _nothing_found(found)
    if found.winner is not None:
        yield from _winner(found, found.winner)
    elif found.all_ended and found.confirmed:
        yield f"No winner: {found.confirmed[0].name}, rank 1 of exploring, did not finish every seed."
    elif found.confirmed:
        yield f"Not confirmed yet: {', '.join(each.name for each in found.confirmed)}."
    yield _status(found)
    if criterion.oracle:
        yield (
            f"{capital(ORACLE)}. Domain adaptation has no such labels, so what was found here is an "
            "upper mark for a search that has none."
        )
    else:
        yield f"{capital(selected_by(found))}; {TARGET_MIOU.label} is printed to judge it."
    yield from _others(found)
    cost = found.pruning
    if cost.saved is not None and cost.stopped:
        yield (
            f"Early stopping saved {100 * cost.saved:.0f} % of the steps of {cost.finished + cost.stopped} trials "
            f"({cost.spent:,} of {cost.planned:,} were trained); stopped trials enter no average and no correlation."
        )
    seeds = [seed for seed in search.seeds if seed != search.explore_seed]
    if not seeds:
        yield (
            f"All confirmed numbers are of seed {search.explore_seed}, with which the candidates were chosen too, so "
            "their selection bias cannot be estimated."
        )


def _status(found: SearchResults) -> str:
    outcomes = Counter("open" if each.outcome is None else each.outcome.value for each in found.candidates)
    parts = [f"{count} {name}" for name, count in sorted(outcomes.items(), key=lambda item: -item[1])]
    among = f": {', '.join(parts)}" if parts else ""
    search, many = found.search, len(found.candidates)
    if many > search.trials:  # as where it asked for more before
        return (
            f"Explored {many} candidates with seed {search.explore_seed}, more than the {search.trials} that are asked "
            f"for now{among}."
        )
    return f"Explored {many} of {search.trials} candidates with seed {search.explore_seed}{among}."


def _nothing_found(found: SearchResults) -> Iterator[str]:
    if not found.unbeaten:
        return
    others = len({each.confirmed.name for each in found.differences if each.confirmed is not found.winner})
    ways = ["the winner by its 95 % interval"] if found.winner is not None else []
    ways += [f"{counted(others, 'other')} after Holm's correction"] if others else []
    yield (
        f"Nothing found beats {' or '.join(found.unbeaten)}: no confirmed candidate is shown to be better, "
        f"{', '.join(ways)}."
    )


def _winner(found: SearchResults, winner: Confirmed) -> Iterator[str]:
    search, criterion = found.search, found.search.criterion
    held_out = found.held_out_values(winner.cell.config, search.metric)
    values = values_text(winner.candidate.values)
    text = f"Winner, rank 1 of exploring and fixed before confirming: {winner.name} ({values})"
    if not held_out:
        yield f"{text}, {metric_name(search.metric)} {mean_std(winner.cell.summary, len(search.seeds), search.metric)}."
        return
    seeds = ", ".join(map(str, held_out))
    yield (
        f"{text}; held out, with {'seed' if len(held_out) == 1 else 'seeds'} {seeds}, which had no part in the choice: "
        f"{metric_name(search.metric)} {mean_std(summary(held_out.values()), len(held_out), search.metric)}."
    )
    verdicts = {
        Verdict.BETTER: "the winner is better",
        Verdict.WORSE: "the winner is worse",
        Verdict.INCONCLUSIVE: "the difference is inconclusive",
    }
    for each in found.differences:
        if each.confirmed is winner:
            verdict = verdicts[each.paired.verdict(search.metric)]
            yield f"{winner.name} minus {each.baseline}: {in_words(each.paired, search.metric)}; {verdict}."
    if winner.change is not None:
        yield (
            f"{winner.name} was chosen for a {criterion.label} of {criterion_number(winner.explored, criterion)}; "
            f"{counted(winner.summary.n, 'held-out seed')} {'gives' if winner.summary.n == 1 else 'give'} "
            f"{criterion_number(winner.summary.mean, criterion)}: "
            f"{criterion_number(winner.change, criterion, sign=True)}."
        )


def _others(found: SearchResults) -> Iterator[str]:
    """The best of all that were confirmed, where it is another one, and others that are told to be better."""
    winner, best, criterion = found.winner, found.best_selected, found.search.criterion
    if best is not None and best is not winner:
        biased = "upwards" if criterion.larger_is_better else "downwards"
        against = "" if winner is None else f" (the winner's: {criterion_number(winner.summary.mean, criterion)})"
        yield (
            f"Best of {len(found.confirmed)}, selected: {best.name}, {criterion.label} "
            f"{criterion_number(best.summary.mean, criterion)} on held-out seeds{against}. These seeds selected it, so "
            f"its mean is biased {biased}."
        )
    for each in found.differences:
        if each.confirmed is not winner and found.is_better(each):
            yield (
                f"{each.confirmed.name} minus {each.baseline}: {in_words(each.paired, found.search.metric)}; "
                f"better after Holm's correction over all {len(found.differences)} differences."
            )


# --------------------------------------------------------------------------------------------------------------------
# Sections
# --------------------------------------------------------------------------------------------------------------------


def selection_bias(found: SearchResults) -> Section | None:
    """The number that each confirmed config was chosen with, beside its mean on held-out seeds."""
    remeasured: list[Remeasured] = [*found.confirmed, *found.baselines]
    if not found.confirmed:
        return None
    criterion, seeds = found.search.criterion, found.search.seeds
    rows = tuple(
        (
            f"{each.name}{'' if isinstance(each, Confirmed) else ' (not chosen)'}",
            criterion_number(each.explored, criterion),
            _held_out(each, found),
            criterion_number(each.change, criterion, sign=True),
        )
        for each in remeasured
    )
    held_out = [seed for seed in seeds if seed != found.search.explore_seed]
    return Section(
        key="selection-bias",
        title="Selection bias",
        sentences=(
            f"The best of many numbers is partly luck, so a configuration that was chosen for its {criterion.label} "
            f"falls back when it is trained with seeds that had no part in the choice"
            f"{' (' + ', '.join(map(str, held_out)) + ')' if held_out else ''}. The baselines were not chosen: their "
            "change is that of the seeds alone.",
        ),
        headings=("config", f"{criterion.label} while exploring", "held-out seeds: mean ± std (n)", "change"),
        rows=rows,
    )


def _held_out(each: Remeasured, found: SearchResults) -> str:
    held_out, criterion = each.summary, found.search.criterion
    if held_out.mean is None:
        return number(None)
    spread = "" if held_out.std is None else f" ± {criterion_number(held_out.std, criterion)}"
    return f"{criterion_number(held_out.mean, criterion)}{spread} ({held_out.n})"


def _importance(found: SearchResults, importances: Sequence[Importance]) -> Section:
    n, criterion = len(found.finished), found.search.criterion
    title = "Importance of each parameter"
    if not importances:
        too_few = f"{counted(n, 'trial')} finished, and an importance needs {LEAST}"
        text = f"Not told: {too_few if n < LEAST else 'there is one parameter'}. Stopped trials do not count."
        return Section(key="importance", title=title, sentences=(text,))
    sentences = [
        f"How much the best tenth of n = {n} finished trials differ in a parameter from all of them, as a share "
        f"(PED-ANOVA, by {criterion.label}). Stopped trials have no value of the last step and do not count, so this "
        "speaks of the part of the space that survived."
    ]
    if n < FEW:
        sentences.append(
            f"n = {n} is small (the best tenth are {best_tenth(n)} trials): the range when one trial is left "
            "out says how far a share can be trusted."
        )
    return Section(
        key="importance",
        title=title,
        sentences=tuple(sentences),
        headings=("parameter", "explored", "share", "range without one trial"),
        rows=tuple(
            (
                each.name,
                str(found.search.parameters[each.name]),
                number(each.share, 2),
                f"{number(each.low, 2)} to {number(each.high, 2)}",
            )
            for each in importances
        ),
    )


def _slices(found: SearchResults, importances: Sequence[Importance], figures: Sequence[str]) -> Section | None:
    if not any(name.startswith("search-slice-") for name in figures):
        return None
    criterion = found.search.criterion
    sentences = [
        f"Each dot is a finished trial of seed {found.search.explore_seed}. Stopped trials lie in a strip of their own "
        "or are hollow: their numbers are of an earlier step and are not drawn."
    ]
    if any(name.startswith("search-contour-") for name in figures):
        names = ", ".join(each.name for each in importances[:3])
        sentences.append(
            f"Contours are drawn for the pairs of {names}, the most important parameters. The colour is "
            f"{criterion.label}, interpolated between the dots: where they are few it says little, outside of them "
            "nothing is drawn."
        )
    return Section(key="slices", title="Slices and contours", sentences=tuple(sentences))


def _pruning(found: SearchResults) -> Section | None:
    cost, search = found.pruning, found.search
    if cost.saved is None:
        return None
    scheduler = "nothing is stopped early" if search.scheduler is None else str(search.scheduler)
    return Section(
        key="pruning",
        title="Pruning history",
        sentences=(
            f"Sampler: {search.sampler}. Scheduler: {scheduler}.",
            f"{counted(cost.finished, 'trial')} finished and {cost.stopped} were stopped; together they trained "
            f"{cost.spent:,} of {cost.planned:,} planned steps, so {100 * cost.saved:.1f} % were saved. Baselines are "
            "never stopped and are not counted.",
        ),
        headings=("stopped at step", "of", "trials"),
        rows=tuple((f"{step:,}", f"{planned:,}", str(count)) for (step, planned), count in cost.stopped_at.items()),
    )


def selection(found: SearchResults) -> Section:
    """How well each label-free criterion would have chosen."""
    title = "Label-free selection"
    mark = f"{capital(selected_by(found))}."
    if not found.chosen_by:
        none = "Its finished trials report no label-free criterion, so none can be judged."
        return Section(key="selection", title=title, sentences=(mark, none))
    sentences = [
        mark,
        f"Each criterion ranks the finished explore trials (stopped ones have no part); ρ (Spearman) and τ (Kendall) "
        f"say how its ranking agrees with {TARGET_MIOU.label}, turned so that +1 is perfect. Regret is the best "
        f"{TARGET_MIOU.label} among these trials minus that of the trial the criterion ranks first.",
    ]
    n = min(each.n for each in found.chosen_by)
    least = smallest_correlations(n)
    if least is not None:
        sentences.append(
            f"With n = {n} a ρ closer to 0 than ±{number(least[0], 2)} or a τ closer than ±{number(least[1], 2)} is "
            "not distinguishable from none (5 %, one test)."
        )
    missing = [c.label for c in CRITERIA if not c.oracle and c not in {each.criterion for each in found.chosen_by}]
    if missing:
        sentences.append(f"Not reported by these trials: {', '.join(missing)}.")
    return Section(
        key="selection",
        title=title,
        sentences=tuple(sentences),
        headings=("criterion", "n", "ρ", "τ", "its choice", f"its {TARGET_MIOU.label}", "regret"),
        rows=tuple(
            (
                f"{each.criterion.label}{'' if each.criterion.larger_is_better else ' (least)'}",
                str(each.n),
                number(each.spearman, 2),
                number(each.kendall, 2),
                f"trial {each.choice}",
                number(each.choice_miou),
                number(each.regret),
            )
            for each in found.chosen_by
        ),
    )


def _explored(found: SearchResults) -> Section:
    criterion = found.search.criterion
    ranked = ranking(found.candidates, criterion)
    places = {each.number: place for place, each in enumerate(ranked)}
    candidates = sorted(found.candidates, key=lambda each: (places.get(each.number, len(places)), each.number))
    rows = []
    for each in candidates:
        record = each.record
        outcome = outcome_text(record)
        if record is not None and record.outcome is not Outcome.FINISHED and record.planned_steps:
            outcome = f"{outcome} at step {record.step} of {record.planned_steps}"
        value = criterion_number(final(each, criterion), criterion)
        rows.append((each.name, value, outcome, values_text(each.values)))
    return Section(
        key="explored",
        title="Explored candidates",
        sentences=(f"Ranked by {criterion.label}; a stopped trial ranks below every finished one, without a number.",),
        headings=("candidate", criterion.label, "outcome", "values"),
        rows=tuple(rows),
        visible=0,
    )
