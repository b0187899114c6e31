"""A study of one table, whose rows are configs by name."""

from __future__ import annotations

import pytest

from mfm_tune.comparison import compare
from mfm_tune.errors import SearchSpaceError
from mfm_tune.identity import config_id
from tests.mfm_tune.stub_program import StubConfig, StubProgram

CONFIGS = {"small": StubConfig(level=1), "large": StubConfig(level=2)}
BASELINES = {"none": StubConfig(level=0)}


def test_each_config_is_a_row_in_order_and_compared_with_the_baselines() -> None:
    """None of them has a number of a paper."""
    study = compare("sizes", CONFIGS, BASELINES, profile="mini", program=StubProgram(), needs=("pictures",))
    assert [(cell.level, cell.config, cell.paper) for cell in study.cells()] == [
        (name, config, None) for name, config in CONFIGS.items()
    ]
    assert study.reference_ids == {"none": config_id(BASELINES["none"])}
    assert (study.name, study.title, study.profile, study.needs) == ("sizes", "sizes", "mini", ("pictures",))
    titled = compare("sizes", CONFIGS, BASELINES, profile="mini", program=StubProgram(), title="Which size?")
    assert titled.title == titled.tables[0].title == "Which size?"


def test_rows_that_train_one_config_are_refused() -> None:
    """As in any study."""
    twice = {"one": StubConfig(level=1), "other": StubConfig(level=1)}
    with pytest.raises(SearchSpaceError, match="levels one and other train the same config"):
        list(compare("twice", twice, {}, profile="mini", program=StubProgram()).cells())
