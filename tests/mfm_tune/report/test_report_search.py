"""What a search's report says: hand-worked numbers, and that a stopped trial is in none of them."""

from __future__ import annotations

import csv
import io
import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm_tune.criteria import AGREEMENT, CRITERIA, SOFT_NEIGHBOURHOOD_DENSITY, TARGET_ENTROPY, TARGET_MIOU
from mfm_tune.program import Outcome
from mfm_tune.report.csv_files import explored_csv
from mfm_tune.report.search_sections import ORACLE, search_summary
from mfm_tune.report.terminal import terminal_search
from mfm_tune.report.write import ReportFiles, write_search_report
from mfm_tune.results.search import SearchResults, chosen_by, collect_search, pruning
from mfm_tune.results.statistics import Verdict
from mfm_tune.search.candidates import candidates_of
from mfm_tune.search.importance import LEAST, Importance, importances
from tests.mfm_tune.made_search import BASELINE, STEPS, MadeSearch, full_search, stub_search

MIOU, ENTROPY = TARGET_MIOU.key, TARGET_ENTROPY.key


@pytest.fixture(scope="module")
def made() -> MadeSearch:
    return full_search()


@pytest.fixture(scope="module")
def files(made: MadeSearch, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    folder = tmp_path_factory.mktemp("report")
    return write_search_report(made.search, made.state, folder / "out", storage=folder)


# -- hand-worked values ------------------------------------------------------------------------------------------------


def told(*pairs: tuple[float, float]) -> MadeSearch:
    """Finished points with target mIoU and entropy."""
    made = MadeSearch()
    for number, (miou, entropy) in enumerate(pairs):
        made.point(number, {MIOU: miou, ENTROPY: entropy})
    return made


def test_correlations_and_regret_of_four_trials() -> None:
    """mIoU 50, 40, 30, 20 with entropies 0.2, 0.1, 0.3, 0.4, of which less is better.

    Ranks of mIoU 4 3 2 1, of minus entropy 3 4 2 1: rho = 1 - 6 * (1 + 1) / (4 * 15) = 0.8; five of six pairs agree and
    one does not: tau = 4 / 6. Its choice is trial 1 with 40, ten below the best.
    """
    made = told((50, 0.2), (40, 0.1), (30, 0.3), (20, 0.4))
    judged = chosen_by(candidates_of(made.state, made.search), TARGET_ENTROPY)
    assert judged.n == 4
    assert judged.spearman == pytest.approx(0.8)
    assert judged.kendall == pytest.approx(4 / 6)
    assert (judged.choice, judged.choice_miou, judged.regret) == (1, 40, 10)


def test_ties_share_ranks_and_two_trials_have_no_correlation() -> None:
    """mIoU 50, 40, 30, entropies 0.1, 0.2, 0.2: ranks 3 2 1 and 3 1.5 1.5 give 1.5 / sqrt(2 * 1.5) = 0.866; of three
    pairs two agree and one is tied: 2 / sqrt(3 * 2) = 0.816. Tied choices go to the trial that was proposed first."""
    made = told((50, 0.1), (40, 0.2), (30, 0.2))
    judged = chosen_by(candidates_of(made.state, made.search), TARGET_ENTROPY)
    assert judged.spearman == pytest.approx(math.sqrt(3) / 2)
    assert judged.kendall == pytest.approx(2 / math.sqrt(6))
    two = told((50, 0.2), (40, 0.2))
    judged = chosen_by(candidates_of(two.state, two.search), TARGET_ENTROPY)
    assert (judged.n, judged.spearman, judged.kendall, judged.choice) == (2, None, None, 0)
    nothing = chosen_by(candidates_of(two.state, two.search), AGREEMENT)
    assert (nothing.n, nothing.choice, nothing.regret) == (0, None, None)


def test_the_share_of_steps_saved_is_of_trials_that_finished_or_were_stopped() -> None:
    """8 + 8 + 2 + 4 of 32 steps: 10 of 32 saved. A diverged trial was not stopped by the scheduler: it is left out."""
    made = MadeSearch()
    ends = ((Outcome.FINISHED, 8), (Outcome.FINISHED, 8), (Outcome.STOPPED, 2), (Outcome.STOPPED, 4))
    for number, (outcome, step) in enumerate((*ends, (Outcome.DIVERGED, 3), (None, 2))):
        made.point(number, {MIOU: 50.0}, outcome=outcome, step=step)
    saved = pruning(candidates_of(made.state, made.search))
    assert (saved.finished, saved.stopped, saved.spent, saved.planned) == (2, 2, 22, 32)
    assert saved.saved == pytest.approx(10 / 32)
    assert saved.stopped_at == {(2, STEPS): 1, (4, STEPS): 1}


def test_the_selection_bias_is_the_number_of_the_choice_against_held_out_seeds() -> None:
    """Chosen with 60 by seed 0; seeds 1 and 2 give 50 and 54, a mean of 52: it falls by 8. The seed that it was chosen
    with is in the confirmed mean of the table, and not here."""
    made = MadeSearch(stub_search(confirm=1))
    made.point(0, {MIOU: 60.0})
    made.point(1, {MIOU: 40.0})
    made.select(0)
    for seed, values in enumerate(((60.0, 45.0), (50.0, 46.0), (54.0, 47.0))):
        made.trial(made.config(0), seed, {MIOU: values[0]})
        made.trial(BASELINE, seed, {MIOU: values[1]})
    found = collect_search(made.search, made.state)
    (confirmed,) = found.confirmed
    assert confirmed.explored == 60
    assert confirmed.held_out == {1: 50, 2: 54}
    assert confirmed.change == pytest.approx(-8)
    assert found.winner is confirmed
    assert confirmed.cell.summary.mean == pytest.approx((60 + 50 + 54) / 3)
    (difference,) = found.differences
    assert difference.paired.per_seed == {1: 4, 2: 7}
    (baseline,) = found.baselines
    assert (baseline.explored, baseline.change) == (45, pytest.approx(1.5))


def test_a_stopped_trial_that_is_confirmed_keeps_the_number_it_was_chosen_with() -> None:
    """Confirming goes on with it: the ledger's last word on it is of the end, the choice was made at the rung."""
    made = MadeSearch(stub_search(confirm=1))
    made.point(0, {MIOU: 33.0}, outcome=Outcome.STOPPED, step=2)
    made.select(0)
    made.trial(made.config(0), 0, {MIOU: 70.0})
    (confirmed,) = collect_search(made.search, made.state).confirmed
    assert confirmed.explored == 33
    assert collect_search(made.search, made.state).winner is None  # two seeds are still to come


def confirmed_search(
    explored_with: Sequence[float], held_out: Sequence[Sequence[float]], baseline: Sequence[float]
) -> Any:
    """A search that explored these points with seed 0 and confirmed all with a held-out seed for each number,
    collected."""
    seeds = range(1, len(baseline) + 1)
    count = len(explored_with)
    made = MadeSearch(stub_search(trials=count, confirm=count, seeds=tuple(seeds)))
    for number, miou in enumerate(explored_with):
        made.point(number, {MIOU: miou})
    order = sorted(range(count), key=lambda number: -explored_with[number])
    made.select(*order)
    for config, values in ((BASELINE, baseline), *((made.config(n), held_out[n]) for n in range(count))):
        for seed, value in zip(seeds, values, strict=True):
            made.trial(config, seed, {MIOU: value})
    return collect_search(made.search, made.state)


def test_the_winners_mean_is_unbiased_and_that_of_the_best_of_three_is_not() -> None:
    """Three equal points, seeds with a deviation of 1: the best mean of three is expected 0.85 / sqrt(3) = 0.49 too
    high; 300 searches tell a mean to 0.03."""
    draw, count = random.Random(7), 300
    winner = best = 0.0
    for _ in range(count):
        found = confirmed_search(
            [draw.gauss(50, 1) for _ in range(3)],
            [[draw.gauss(50, 1) for _ in range(3)] for _ in range(3)],
            [50.0] * 3,
        )
        winner += (found.winner.summary.mean - 50) / count
        best += (found.best_selected.summary.mean - 50) / count
    assert abs(winner) < 0.1
    assert 0.4 < best < 0.6


def test_the_winner_is_rank_one_of_exploring_and_a_better_mean_is_called_selected() -> None:
    """Whatever the confirming seeds say; none of the two is told to be better than the baseline."""
    found = confirmed_search([60, 55], [[50.0, 52, 48], [53.0, 55, 51]], [51.0, 50, 52])
    said = search_summary(found)
    assert found.winner.name == "trial 0"
    assert said[0] == (
        "Nothing found beats DACS: no confirmed candidate is shown to be better, the winner by its 95 % interval, "
        "1 other after Holm's correction."
    )
    assert any(
        each.startswith("Winner, rank 1 of exploring and fixed before confirming: trial 0") and "50.0 ± 2.0 (3)" in each
        for each in said
    )
    assert any(
        each.startswith("Best of 2, selected: trial 1, target mIoU 53.0 on held-out seeds (the winner's: 50.0).")
        for each in said
    )


def test_one_held_out_seed_is_spoken_of_as_one() -> None:
    said = search_summary(confirmed_search([60], [[50.0]], [51.0]))
    assert any("; 1 held-out seed gives 50.0: " in each for each in said)


def test_the_winner_is_told_by_its_interval_and_others_after_a_correction() -> None:
    """Differences of 1 to the baseline: p = 0.03 tells the winner and no other one, p = 0.0001 others too."""
    base, equal, other = [50.0, 50, 50, 50], [49.0, 50, 51, 50], [50.0, 51, 49, 50]
    weak, strong = [51.5, 51.4, 50.6, 50.5], [51.02, 51.0, 51.0, 50.98]
    cases = (((weak, equal, other), True), ((equal, weak, other), False), ((equal, strong, other), True))
    for held_out, better in cases:
        found = confirmed_search([60, 59, 58], held_out, base)
        told = next(each for each in found.differences if each.paired.mean > 0.5)
        assert told.paired.verdict(MIOU) is Verdict.BETTER
        assert found.is_better(told) == better
        assert found.unbeaten == (() if better else ("DACS",))
        assert any("Nothing found beats DACS" in each for each in search_summary(found)) != better


def test_a_winner_that_did_not_finish_is_replaced_by_none() -> None:
    made = MadeSearch(stub_search(trials=2, seeds=(1,)))
    for number, miou in enumerate((60.0, 50.0)):
        made.point(number, {MIOU: miou})
    made.select(0, 1)
    made.trial(made.config(0), 1, {}, outcome=Outcome.DIVERGED, step=3)
    made.trial(made.config(1), 1, {MIOU: 52.0})
    made.trial(BASELINE, 1, {MIOU: 51.0})
    found = collect_search(made.search, made.state)
    assert found.winner is None
    assert "No winner: trial 0, rank 1 of exploring, did not finish every seed." in search_summary(found)


def test_the_winner_is_chosen_by_the_searchs_own_criterion() -> None:
    """By entropy the second point is the better one, although its target mIoU is lower: no label has a part in it."""
    made = MadeSearch(stub_search(TARGET_ENTROPY))
    for number, (miou, entropy) in enumerate(((60.0, 0.3), (50.0, 0.1))):
        made.point(number, {MIOU: miou, ENTROPY: entropy})
    made.select(1, 0)
    for number, (miou, entropy) in enumerate(((60.0, 0.3), (50.0, 0.1))):
        for seed in (1, 2):
            made.trial(made.config(number), seed, {MIOU: miou, ENTROPY: entropy})
    found = collect_search(made.search, made.state)
    assert found.winner is not None
    assert found.winner.name == "trial 1"
    assert not any(ORACLE in sentence for sentence in search_summary(found))


def test_less_entropy_is_better_of_what_a_search_found_too() -> None:
    """The winner has less of it than the baseline, the other one more."""
    made = MadeSearch(stub_search(TARGET_ENTROPY, metric=ENTROPY, second_metric=None))
    for number, entropy in enumerate((0.2, 0.4)):
        made.point(number, {ENTROPY: entropy})
    made.select(0, 1)
    for config, entropy in ((BASELINE, 0.3), (made.config(0), 0.2), (made.config(1), 0.4)):
        for seed in (0, 1, 2):
            made.trial(config, seed, {ENTROPY: entropy + 0.01 * seed * entropy})
    found = collect_search(made.search, made.state)
    assert [found.is_better(each) for each in found.differences] == [True, False]
    assert found.unbeaten == ()
    (said,) = (each for each in search_summary(found) if each.startswith("trial 0 minus DACS: −"))
    assert said.endswith("; the winner is better.")


# -- a stopped trial enters no average and no correlation --------------------------------------------------------------


score = st.floats(0, 100).map(lambda value: round(value, 2))
trial = st.tuples(st.sampled_from([Outcome.FINISHED, Outcome.STOPPED, Outcome.DIVERGED, None]), score, score, score)


@settings(max_examples=40)
@given(st.lists(trial, min_size=1, max_size=14))
def test_numbers_are_the_same_whatever_stopped_trials_reported(trials: list[Any]) -> None:
    """The same search with other numbers in every trial that did not finish: what is told of it does not move."""

    def found(moved: bool) -> Any:
        made = MadeSearch(stub_search(trials=20, confirm=1))
        for number, (outcome, miou, entropy, other) in enumerate(trials):
            whole = outcome is Outcome.FINISHED
            shown = {MIOU: miou, ENTROPY: entropy} if whole or not moved else {MIOU: other, ENTROPY: other / 7}
            made.point(number, shown, outcome=outcome, step=STEPS if whole else 2)
        results = collect_search(made.search, made.state)
        judged = [each for each in results.chosen_by if each.criterion in (TARGET_ENTROPY, SOFT_NEIGHBOURHOOD_DENSITY)]
        return [each.number for each in results.finished], judged, shares(results), results.pruning

    plain = found(False)
    assert plain == found(True)
    assert plain[0] == [number for number, (outcome, *_) in enumerate(trials) if outcome is Outcome.FINISHED]
    assert all(judged.n == len(plain[0]) for judged in plain[1])


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_each_thing_that_a_search_tells(files: ReportFiles) -> None:
    page, text = files.html.read_text(encoding="utf-8"), files.markdown.read_text(encoding="utf-8")
    keys = ("summary", "table-confirmed", "selection-bias", "importance", "slices", "pruning", "selection", "explored")
    for key in keys:
        assert f'id="{key}"' in page
    winner, difference = re.findall(r'<p class="answer">(.*?)</p>', page)
    assert winner.startswith("Winner, rank 1 of exploring and fixed before confirming: trial 19 (")
    assert difference.startswith("trial 19 minus DACS: +2.2 (95 % interval")
    for heading in (
        "Selection bias",
        "Importance of each parameter",
        "Pruning history",
        "Label-free selection",
    ):
        assert f"## {heading}" in text
    assert ORACLE in page
    assert ORACLE in text
    names = {path.name for path in files.figures}
    assert {"search-selection-bias.svg", "search-importance.svg", "search-pruning.svg"} <= names
    assert {f"search-slice-{index}.svg" for index in range(4)} <= names
    assert {f"search-contour-{index}.svg" for index in range(3)} <= names
    assert {f"search-criterion-{index}.svg" for index in range(5)} <= names
    for name in names:
        assert f"(figures/{name})" in text
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)


def test_every_drawing_says_its_numbers_in_words(files: ReportFiles) -> None:
    for path in files.figures:
        svg = path.read_text(encoding="utf-8")
        assert re.search(r"<title>[^<]+</title><desc>[^<]+</desc>", svg), path.name
    slice_ = next(path for path in files.figures if path.name == "search-slice-0.svg").read_text(encoding="utf-8")
    titles = re.findall(r"<title>trial \d+, [^<]+</title>", slice_)
    assert len(titles) == 12 + 7  # finished trials and stopped ones, each a mark
    assert len([title for title in titles if ": stopped early at step" in title]) == 7
    contour = next(path for path in files.figures if path.name == "search-contour-0.svg").read_text(encoding="utf-8")
    for opacity in ("0.06", "0.18", "0.32", "0.48", "0.68"):  # in the legend, and as an area
        assert len(re.findall(rf'<path d="[^"]+" style="[^"]*fill-opacity: {opacity}"', contour)) == 2


def test_the_csv_has_all_explored_trials_and_says_which_are_comparable(made: MadeSearch) -> None:
    rows = list(csv.DictReader(io.StringIO(explored_csv(collect_search(made.search, made.state)))))
    assert [int(row["trial"]) for row in rows] == list(range(20))
    assert {row["at the last step"] for row in rows if row["outcome"] == "stopped"} == {"no"}
    assert sum(row["at the last step"] == "yes" for row in rows) == 12
    assert all(row["ratio"] and row["objective"] for row in rows)
    assert {criterion.key for criterion in CRITERIA} <= rows[0].keys()


def test_the_terminal_tells_the_winner_the_selection_bias_and_the_criteria(made: MadeSearch) -> None:
    shown = terminal_search(made.search, made.state, width=100)
    assert all(len(line) <= 100 for line in shown.splitlines())
    for words in ("Oracle selection", "Winner", "trial 19", "Selection bias", "mean target entropy", "DACS"):
        assert words in shown


def test_the_same_ledger_gives_the_same_report(made: MadeSearch, files: ReportFiles, tmp_path: Path) -> None:
    again = write_search_report(made.search, made.state, tmp_path / "again", storage=tmp_path)
    for one, other in ((files.html, again.html), (files.markdown, again.markdown)):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("points", [0, 1, 2, 5])
def test_a_search_that_has_just_begun_has_a_report(points: int, tmp_path: Path) -> None:
    made = MadeSearch()
    for number in range(points):
        outcome = (Outcome.FINISHED, Outcome.STOPPED, None)[number % 3]
        made.point(number, {MIOU: 40.0 + number}, outcome=outcome, step=STEPS if number % 3 == 0 else 2)
    files = write_search_report(made.search, made.state, tmp_path / "out", storage=tmp_path)
    text = files.markdown.read_text(encoding="utf-8")
    assert f"Explored {points} of 20 candidates" in text
    assert "Winner" not in text
    assert ("The baselines; no candidate of the search has a score by target mIoU" in text) is (points == 0)
    assert terminal_search(made.search, made.state)
    said = " ".join(search_summary(collect_search(replace(made.search, trials=2), made.state)))
    more = f"Explored {points} candidates with seed 0, more than the 2 that are asked for now"
    assert (more in said) is (points > 2)


def shares(found: SearchResults) -> tuple[Importance, ...]:
    return importances(found.candidates, found.search.parameters, found.search.criterion)


def test_importance_needs_enough_trials_and_finds_the_parameter_that_matters() -> None:
    made = MadeSearch()
    for number in range(LEAST - 1):
        made.point(number, {MIOU: 40.0 + number})
    assert shares(collect_search(made.search, made.state)) == ()
    for number in range(LEAST - 1, 20):
        made.point(number, {MIOU: 40.0 + number})
    first, *others = shares(collect_search(made.search, made.state))
    assert first.name == "ratio"
    assert first.share + sum(each.share for each in others) == pytest.approx(1)
    assert all(each.low <= each.share + 0.5 and each.low <= each.high for each in (first, *others))


@pytest.mark.parametrize("seed", range(3))
def test_the_range_without_one_trial_is_that_of_the_number_beside_it(seed: int) -> None:
    """Of eleven trials the best tenth are two, and of the ten that are left too: one would have no distribution."""
    made, draw = MadeSearch(), random.Random(seed)
    for number in range(11):
        made.point(number, {MIOU: draw.gauss(50, 1)}, ratio=round(draw.uniform(0.1, 0.9), 4), blocks=draw.randint(1, 4))
    found = shares(collect_search(made.search, made.state))
    assert len(found) == 4
    assert all(each.low - 0.01 <= each.share <= each.high + 0.01 for each in found)
