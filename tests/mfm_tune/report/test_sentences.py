"""The sentences of a report: what is claimed, and how carefully."""

from __future__ import annotations

from mfm_tune.program import Outcome
from mfm_tune.report.sentences import best_level, caveats, how_to_read, missing, status
from mfm_tune.results.study import collect
from mfm_tune.space import OOM
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


def test_the_status_counts_every_trial() -> None:
    results = results_of({0: None, 1: None}, {0: (1.0, 2.0, 3.0), 1: (1.0,)})
    assert status(results) == ("2 cells, 2 distinct configs, 6 trials with seeds 0, 1, 2: 4 finished, 2 not started.")
