"""The code that the pages show runs as it is."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mfm_tune import run
from mfm_tune.identity import config_id
from mfm_tune.planning.loading import load_search_space
from mfm_tune.search.sampling import grid
from tests.docs.pages import block
from trainables.recipes import SMOKE, dacs
from trainables.running.trial import Trial


def test_the_search_space_of_ones_own_loads_and_plans(tmp_path: Path) -> None:
    """Three levels, each a config of its own with a baseline of its own."""
    path = tmp_path / "threshold.py"
    path.write_text(block("search space"))
    study = load_search_space(path).declared["mini"]
    assert [cell.level for cell in study.cells()] == ["0.9", "0.95", "0.99"]
    assert len({cell.config_id for cell in study.cells()}) == 3
    assert len({cell.against for cell in study.cells()}) == 3  # each is compared with DACS at its own threshold


def test_the_study_of_ones_own_folders_plans_at_full_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without data, as all plans."""
    path = tmp_path / "mine_paper.py"
    path.write_text(block("own folders at full size"))
    assert run.main([str(path), "--plan", "--storage", str(tmp_path / "none")]) == 0
    assert "trials   6 (seeds 0, 1, 2): 6 to do" in capsys.readouterr().out


def test_the_search_of_ones_own_loads_and_draws(tmp_path: Path) -> None:
    """Its points are configs, and none of its baselines."""
    path = tmp_path / "three.py"
    path.write_text(block("search"))
    search = load_search_space(path).declared["mini"]
    values = next(grid(search, 2))
    assert config_id(search.make(search.values(values))) not in map(config_id, search.baselines.values())


def test_the_task_of_ones_own_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss is in the log, finite and positive, and it changes the student."""
    (tmp_path / "entropy_task.py").write_text(block("auxiliary task"))
    monkeypatch.syspath_prepend(str(tmp_path))
    from entropy_task import Entropy  # type: ignore[import-not-found]

    scale = replace(SMOKE, schedule=replace(SMOKE.schedule, steps=4))
    shared = str(tmp_path / "shared")
    with_task = Trial(dacs(scale, Entropy()), seed=0, folder=str(tmp_path / "a"), shared=shared, data={}).advance()
    without = Trial(dacs(scale), seed=0, folder=str(tmp_path / "b"), shared=shared, data={}).advance()
    assert 0 < with_task["metrics"]["loss/entropy"] < 0.01 * 2.5  # the weight times at most log 12
    assert with_task["metrics"]["loss/mixed"] != without["metrics"]["loss/mixed"]
    sys.modules.pop("entropy_task")
