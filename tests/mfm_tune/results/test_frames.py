"""`mfm_tune.load`: a ledger as pandas frames, by the rules of the reports."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import mfm_tune
from mfm_tune.errors import StorageError
from mfm_tune.identity import config_id
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome
from mfm_tune.results.frames import CELL_COLUMNS, CONFIG_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS, frames
from mfm_tune.results.statistics import paired_difference
from mfm_tune.results.study import collect
from mfm_tune.space import OOM
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study
from tests.mfm_tune.tracking.tracking_ledger import DACS, retrained, write


@pytest.fixture
def made() -> MadeLedger:
    """Levels 2 and 3 of three seeds, one of them out of memory, and a trial that no table has."""
    made = MadeLedger(stub_study({2: 51.5, 3: OOM}))
    for level in (0, 1, 2):
        for seed in range(3):
            made.trial(stub(level), seed, {"student/miou": 50.0 + level * seed, "loss": 1.0 / (1 + seed)})
    made.trial(stub(3), 0, {"student/miou": 40.0}, outcome=Outcome.OOM)
    made.trial(stub(7), 0, {"teacher/miou": 41.0}, outcome=None)
    return made


def test_means_and_intervals_are_those_of_the_report(made: MadeLedger, tmp_path: Path) -> None:
    """Cell by cell, from the written file."""
    write(tmp_path, made.written)
    cells = mfm_tune.load(tmp_path).cells
    assert tuple(cells.columns) == CELL_COLUMNS
    (table,) = collect(made.study, made.state).tables
    for (_, row), cell in zip(cells.iterrows(), table.cells, strict=True):
        assert (row["level"], row["n"], row["baseline"]) == (cell.cell.level, cell.summary.n, "base")
        comparison = cell.comparisons[0]
        assert comparison is not None
        expected = (cell.summary.mean, cell.summary.std, comparison.paired.mean, comparison.paired.low)
        assert [None if math.isnan(row[name]) else row[name] for name in ("mean", "std", "difference", "low")] == list(
            expected
        )
    assert cells["paper"].tolist()[0] == 51.5
    assert math.isnan(cells["paper"].tolist()[1])


def test_a_metric_that_is_called_as_a_column_does_not_replace_it(made: MadeLedger) -> None:
    made.trial(stub(8), 0, {"seconds": 0.25, "student/miou": 50.0})
    last = frames(made.state).trials.iloc[-1]
    assert (last["seconds"], last["metric/seconds"], last["student/miou"]) == (9.5, 0.25, 50.0)


def test_a_row_a_trial_with_its_last_numbers(made: MadeLedger) -> None:
    """Every trial, whatever its end; a metric that it did not report is NaN."""
    trials = frames(made.state).trials.set_index("key")
    assert len(trials) == len(made.state.trials)
    assert trials["counts"].all()
    assert trials["status"].value_counts().to_dict() == {"finished": 9, "out of memory": 1, "under way": 1}
    last = trials[trials["config_id"] == config_id(stub(7))].iloc[0]
    assert (last["teacher/miou"], last["name"]) == (41.0, config_id(stub(7)))
    assert pd.isna(last["student/miou"])
    assert pd.isna(last["ended"])
    assert str(trials["started"].dtype).endswith("UTC]")


def test_curves_pair_as_the_report_does(made: MadeLedger) -> None:
    """One row a number; the paired difference worked out of the frame is the platform's."""
    curves = frames(made.state).curves
    assert tuple(curves.columns) == CURVE_COLUMNS
    last = curves[(curves["metric"] == "student/miou") & (curves["step"] == 4)]
    wide = last.pivot(index="seed", columns="name", values="value")
    by_hand = paired_difference(
        made.state.finals(config_id(stub(2)), (0, 1, 2), "student/miou"),
        made.state.finals(config_id(stub(0)), (0, 1, 2), "student/miou"),
    )
    assert (wide["level 2"] - wide["base"]).mean() == by_hand.mean


def test_results_of_other_code_are_rows_that_do_not_count(tmp_path: Path) -> None:
    """The rule is the ledger's: of DACS, seed 0 of the new code counts, and its mean is that one's."""
    write(tmp_path, retrained(declared=True))
    loaded = mfm_tune.load(tmp_path)
    dacs = loaded.trials[loaded.trials["config_id"] == DACS]
    assert dacs["counts"].tolist() == [False, False, False, True]
    cell = loaded.cells[loaded.cells["config_id"] == DACS].iloc[0]
    assert (cell["n"], cell["mean"]) == (1, 90.0)


def test_configs_have_their_names_and_their_form(made: MadeLedger) -> None:
    """The first label is the name."""
    configs = frames(made.state).configs.set_index("config_id")
    assert tuple(configs.reset_index().columns) == CONFIG_COLUMNS
    assert configs.loc[config_id(stub(0)), "name"] == "base"
    assert configs.loc[config_id(stub(2)), "config"]["level"] == 2


def test_an_empty_ledger_has_the_columns() -> None:
    """So that a notebook's code runs before the first trial."""
    empty = frames(LedgerState())
    shown = [tuple(frame.columns) for frame in (empty.trials, empty.cells, empty.curves, empty.configs)]
    assert shown == [TRIAL_COLUMNS, CELL_COLUMNS, CURVE_COLUMNS, CONFIG_COLUMNS]


def test_a_folder_without_a_ledger_is_one_sentence(tmp_path: Path) -> None:
    """As from the commands."""
    with pytest.raises(StorageError, match="There is no ledger in"):
        mfm_tune.load(tmp_path)


def test_pandas_is_imported_late() -> None:
    """Importing the platform costs nothing; loading a ledger imports neither torch, Ray nor MLflow."""
    code = (
        "import sys, mfm_tune\nassert 'pandas' not in sys.modules\nimport mfm_tune.results.frames\n"
        "print(any(name in sys.modules for name in ('torch', 'ray', 'mlflow', 'optuna')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
