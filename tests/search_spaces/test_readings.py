"""The study of the paper's open points follows the page that lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mfm_tune.identity import canonical, difference
from mfm_tune.space import Study
from search_spaces.readings import DEFAULT, STUDIES
from trainables.config import Experiment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "readings.md"
PROFILES = tuple(STUDIES)


def rows_of(study: Study, table: str) -> dict[str, Experiment]:
    """Level -> config."""
    found = next(one for one in study.tables if one.name == table)
    return {level: found.axis.make(level) for level, _ in found.axis.levels}


def switches() -> dict[int, str]:
    """Number of a point -> the fields that the page names for it."""
    lines = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): fields for number, fields in lines}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("table", "default"), [("readings", DEFAULT), ("readings-hrda", "HRDA w/ MFM")])
def test_a_row_reads_one_point_otherwise_by_the_field_that_the_page_names(
    profile: str, table: str, default: str
) -> None:
    """One field of MFM moves, and it is the one under the row's number."""
    rows = rows_of(STUDIES[profile], table)
    others = {row: config for row, config in rows.items() if row not in (default, "HRDA")}
    assert others
    for row, config in others.items():
        (change,) = difference(canonical(rows[default]), canonical(config))
        assert change.field.startswith("auxiliary[Mfm].")
        assert change.field.rpartition(".")[2] in switches()[int(row.partition(":")[0])]


def test_statistics_are_a_point_where_the_network_has_some() -> None:
    """ResNet-101 has BatchNorm; the embedded benchmark's network has GroupNorm, where the row would train the same."""
    shown = {profile: "18: statistics stay" in rows_of(STUDIES[profile], "readings") for profile in PROFILES}
    assert shown == {"smoke": False, "mini": False, "midi": False, "paper": True, "paper_bf16": True}


def test_weights_of_both_networks_must_be_given_at_the_papers_scale() -> None:
    """HRDA's encoder is another one than DACS's."""
    assert set(STUDIES["paper"].needs) == {"gta", "cityscapes", "resnet101-v1c", "mit-b5"}
    assert STUDIES["mini"].needs == ()
