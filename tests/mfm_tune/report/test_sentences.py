"""The sentences of a report: what is claimed, and how carefully."""

from __future__ import annotations

from mfm_tune.program import Outcome
from mfm_tune.report.first_page import answers
from mfm_tune.report.sections import study_text
from mfm_tune.report.sentences import best_level, caveats, how_to_read, missing, status, two_levels_in_words
from mfm_tune.report.tables import printed
from mfm_tune.report.terminal import terminal_table
from mfm_tune.results.study import collect
from mfm_tune.space import OOM, Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, results_of, stub, stub_study


def test_the_number_of_intervals_and_what_chance_alone_gives_are_said() -> None:
    levels = dict.fromkeys(range(5), 50.0)
    numbers = {level: (50.0 + level, 51.3 + level * level, 52.0 - level) for level in levels}
    said = how_to_read(results_of(levels, numbers))
    assert "7 different 95 % intervals" in said  # 4 to base, 3 more to default
    assert "about 0.4 of them would exclude zero by chance alone" in said
    assert "Holm" in said


def test_without_intervals_no_significance_is_hinted_at() -> None:
    assert "takes two seeds" in how_to_read(results_of({0: 50.0, 1: 54.0}, {0: (50.0,), 1: (60.0,)}))


def test_the_best_level_is_compared_with_the_papers() -> None:
    (same,) = results_of({0: 50.0, 1: 54.0}, {0: (50.0,) * 3, 1: (51.0,) * 3}).tables
    assert best_level(same) == "The paper's best is 1 (54.0), and it has the highest mean here too."
    (other,) = results_of({0: 50.0, 1: 54.0}, {0: (52.0, 52.5, 53.0), 1: (51.0, 51.0, 51.0)}).tables
    said = best_level(other) or ""
    assert said.startswith("The paper's best is 1 (54.0); the highest mean here is at 0 (52.5), a difference of")


def test_configs_without_any_difference_name_each_other() -> None:
    numbers = {0: (50.0, 51.0, 52.0), 1: (50.0, 51.0, 52.0), 2: (50.0, 51.0, 52.5), 3: (50.0, 51.0)}
    results = results_of(dict.fromkeys(numbers), numbers)
    said = [[note for note in caveats(results, cell) if "Exactly" in note] for cell in results.cells]
    effect = "on every seed: what tells them apart had no effect."
    assert said == [[f"Exactly the numbers of default {effect}"], [f"Exactly the numbers of base {effect}"], [], []]


def test_a_table_that_is_not_measured_has_no_best_level() -> None:
    (table,) = results_of({0: 50.0, 1: 54.0}, {}).tables
    assert best_level(table) is None


def test_out_of_memory_is_a_result_beside_the_papers() -> None:
    study = stub_study({0: None, 1: OOM, 2: OOM, 3: OOM, 4: 50.0}, seeds=(0,))
    ledger = MadeLedger(study)
    ledger.trial(stub(1), 0, None, outcome=Outcome.OOM, error="Out of memory.")
    ledger.trial(stub(2), 0, {"student/miou": 50.0})
    ledger.trial(stub(4), 0, None, outcome=Outcome.OOM, error="Out of memory.")
    results = collect(study, ledger.state)
    said = [note for cell in results.cells for note in caveats(results, cell) if "OOM" in note or "memory here" in note]
    assert said == [
        "The paper prints OOM; here too.",
        "The paper prints OOM; here it fits.",
        "The paper prints OOM; here it is not measured yet.",
        "It ran out of memory here.",
    ]


def test_what_is_missing_is_named_once_with_the_reason() -> None:
    results = results_of({0: None, 1: None, 2: None}, {0: (1.0, 2.0, 3.0), 1: (1.0,)})
    assert missing(results) == ("default: seeds 1, 2 not started", "level 2: seeds 0, 1, 2 not started")


def test_a_baseline_that_is_no_row_is_missed_and_its_pairs_are_counted() -> None:
    study = stub_study({1: None}, references={"base": 0})
    ledger = MadeLedger(study)
    for seed, number in enumerate((51.0, 52.0, 53.5)):
        ledger.trial(stub(1), seed, {"student/miou": number, "teacher/miou": number})
        if seed:
            ledger.trial(stub(0), seed, {"student/miou": 50.0, "teacher/miou": 50.0})
    results = collect(study, ledger.state)
    assert missing(results) == ("base: seed 0 not started",)
    ((row,),) = (printed(results, table).rows for table in results.tables)
    assert row.entries[1].text == "+2.8 [−6.8, +12.3] (2 seeds)"


def test_the_papers_best_row_must_be_complete_and_any_of_those_it_prints_alike() -> None:
    numbers = {0: (50.0,) * 3, 1: (51.0,) * 3, 2: (53.0, 53.0)}
    (short,) = results_of({0: 50.0, 1: 54.0, 2: 55.0}, numbers).tables
    assert best_level(short) is None
    (tied,) = results_of({0: 54.0, 1: 54.0}, {0: (50.0,) * 3, 1: (51.0,) * 3}).tables
    assert best_level(tied) == "The paper's best is 1 (54.0), and it has the highest mean here too."


def test_draws_that_share_a_baseline_are_not_analysed() -> None:
    axis = Axis(name="set", levels=(1, 2), make=stub, against=lambda _: stub(0))
    study = stub_study({}, tables=(Table(name="t", title="T", axis=axis, draws_of="weights"),), references={})
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0 + config.level * seed)
    (table,) = collect(study, ledger.state).tables
    assert two_levels_in_words(table) == (
        "Rows share a baseline, whose noise is in all of their differences: no analysis of weights."
    )


def test_tables_without_a_trial_are_a_line_on_a_terminal() -> None:
    axes = {name: Axis(name=name, levels=(level,), make=stub) for name, level in (("a", 1), ("b", 2), ("c", 3))}
    tables = tuple(Table(name=name, title=f"Table {name}", axis=axis) for name, axis in axes.items())
    study = stub_study({}, tables=tables, references={})
    ledger = MadeLedger(study)
    ledger.trial(stub(2), 0, {"student/miou": 50.0})
    shown = terminal_table(study, ledger.state, width=100)
    assert "Table b" in shown
    assert "Table a" not in shown
    assert "Without a trial yet: a, c." in shown


def test_the_status_counts_every_trial() -> None:
    results = results_of({0: None, 1: None}, {0: (1.0, 2.0, 3.0), 1: (1.0,)})
    assert status(results) == ("2 cells, 2 distinct configs, 6 trials with seeds 0, 1, 2: 4 finished, 2 not started.")


def test_rows_that_are_draws_of_one_thing_are_analysed_on_two_levels() -> None:
    """Of differences to the rows' own baselines 1, 2, 3 | 2, 3, 4 | 6, 7, 8; a table of other rows has no such line."""
    numbers = {1: (51.0, 52.0, 53.0), 2: (52.0, 53.0, 54.0), 3: (56.0, 57.0, 58.0)}
    axis = Axis(name="set", levels=(1, 2, 3), make=stub, against=lambda level: stub(10 + level))
    drawn = Table(name="drawn", title="Drawn", axis=axis, draws_of="initial weights")
    study = stub_study({0: None}, tables=(drawn, Table(name="plain", title="Plain", axis=axis)))
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: numbers.get(config.level, (50.0,) * 3)[seed])
    results = collect(study, ledger.state)
    remarks, plain = (printed(results, table).remarks for table in results.tables)
    assert plain == ()
    assert remarks == (
        "Over 3 draws of initial weights with 3 seeds each: +4.0 [−2.6, +10.6]. Standard deviation between initial "
        "weights 2.6 [1.1, 16.6], between seeds of one of them 1.0 [0.6, 2.2].",
    )
    (section,) = (each for each in study_text(results).first if each.key == "levels")
    assert section.sentences[0].startswith("Rows are 3 draws of initial weights, 3 seeds each. ")
    line = ("Drawn", "+4.0 [−2.6, +10.6]", "2.6 [1.1, 16.6]", "1.0 [0.6, 2.2]")
    assert section.rows == (line,)
    assert answers(results)[1:] == (
        "Of the 1 mean difference over draws of initial weights: 1 inconclusive (the interval contains 0).",
        "Of the 3 differences to the row's baseline: 2 with the whole interval above 0, "
        "1 inconclusive (the interval contains 0).",
    )
    assert " ".join(line[1:3]) in " ".join(terminal_table(study, ledger.state, width=200).split())
