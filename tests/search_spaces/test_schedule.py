"""How the embedded benchmark's lengths were chosen, and the study of what the gain depends on."""

from __future__ import annotations

from mfm_tune.identity import config_id
from search_spaces import initial_weights, schedule, table2


def test_no_trial_that_leads_to_the_choice_trains_mfm() -> None:
    """Nor any other auxiliary task."""
    assert {cell.config.auxiliary for cell in schedule.STUDY.cells()} == {()}


def test_the_chosen_lengths_are_among_those_that_were_compared() -> None:
    """DACS of mini and midi are rows of the schedule, so that their trials count for it."""
    compared = {cell.config_id for cell in schedule.STUDY.cells()}
    assert {table2.STUDIES[profile].reference_ids["DACS"] for profile in ("mini", "midi")} <= compared


def test_the_first_set_of_weights_is_that_of_all_studies() -> None:
    """What Table 2 has trained is not trained again; every set is a config of its own."""
    rows = [cell.config_id for cell in initial_weights.STUDIES["mini"].cells()]
    assert {config_id(table2.STUDIES[profile].references["MFM"]) for profile in ("mini", "midi")} <= set(rows)
    assert len(set(rows)) == len(rows)
