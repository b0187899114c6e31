"""`python -m mfm_tune.optuna`: a search's ledger as a study in a database."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mfm_tune import optuna as command
from mfm_tune.criteria import TARGET_ENTROPY, TARGET_MIOU, Criterion
from mfm_tune.program import Outcome
from mfm_tune.search.candidates import candidates_of
from mfm_tune.search.sampling import optuna_study
from tests.mfm_tune.made_search import MadeSearch, stub_search
from tests.mfm_tune.tracking.tracking_ledger import write


def made(criterion: Criterion = TARGET_MIOU) -> MadeSearch:
    """Five candidates, each of which ended in another way; the last one is still under way."""
    search = MadeSearch(stub_search(criterion))
    for number in range(3):
        search.point(number, {criterion.key: 50.0 + number, "source/miou": 60.0})
    search.point(3, {criterion.key: 45.0}, outcome=Outcome.STOPPED, step=2)
    search.point(4, {criterion.key: 1.0}, outcome=Outcome.DIVERGED)
    search.point(5, {criterion.key: 44.0}, outcome=None, step=4)
    return search


def loaded(storage: Path, events: list[dict[str, object]], *options: str) -> optuna.Study:
    """The study that the command writes."""
    (storage / "ledger.jsonl").unlink(missing_ok=True)
    write(storage, events)
    url = f"sqlite:///{storage / 'study.db'}"
    assert command.main(["--storage", str(storage), "--out", url, *options]) == 0
    return optuna.load_study(study_name="stub-mini", storage=url)


def test_the_study_in_the_database_is_the_one_that_the_sampler_sees(tmp_path: Path) -> None:
    """Parameters, distributions, values, states and intermediate values, trial by trial."""
    search = made()
    study = loaded(tmp_path, search.written)
    expected = optuna_study(search.search, candidates_of(search.state, search.search))
    assert [each.state for each in study.trials] == [
        *[TrialState.COMPLETE] * 3, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
    ]  # fmt: skip
    for ours, theirs in zip(study.trials, expected.trials, strict=True):
        assert (ours.params, ours.distributions, ours.state) == (theirs.params, theirs.distributions, theirs.state)
        assert ours.intermediate_values == theirs.intermediate_values
        assert ours.values == theirs.values
    assert study.best_trial.number == 2
    for trial in study.trials:
        record = search.state.trials[trial.user_attrs["trial"]]
        assert record.started is not None
        assert trial.datetime_start == datetime.fromtimestamp(record.started / 1000)
        assert (trial.datetime_complete is None) == (record.ended is None)
        assert trial.duration is None or trial.duration.total_seconds() == 2.0  # a report and an end later
    assert study.best_trial.user_attrs["source/miou"] == 60.0
    assert study.user_attrs["criterion"] == "student/miou"


def test_it_is_brought_up_to_date(tmp_path: Path) -> None:
    """Given again after more trials, the study has these as well, and no trial twice."""
    search = made()
    assert len(loaded(tmp_path, search.written).trials) == 6
    search.point(6, {"student/miou": 70.0})
    study = loaded(tmp_path, search.written, "--search", "stub", "--profile", "mini")
    assert [each.user_attrs["number"] for each in study.trials] == list(range(7))
    assert study.best_value == 70.0


@pytest.mark.parametrize("criterion", [TARGET_ENTROPY, Criterion(key="loss", label="loss", larger_is_better=False)])
def test_a_criterion_that_is_better_where_it_is_smaller_is_minimised(tmp_path: Path, criterion: Criterion) -> None:
    """Entropy, and one of the user's own."""
    study = loaded(tmp_path, made(criterion).written)
    assert (study.direction, study.best_trial.number) == (optuna.study.StudyDirection.MINIMIZE, 0)


def test_a_search_of_an_earlier_version_has_the_direction_of_its_criterion(tmp_path: Path) -> None:
    """Its line lacks it, and what it did not know yet can be null."""
    events = made(TARGET_ENTROPY).written
    (search,) = (event for event in events if event["event"] == "search")
    assert search.pop("larger_is_better") is False
    assert loaded(tmp_path, events).direction is optuna.study.StudyDirection.MINIMIZE
    search["larger_is_better"] = None
    assert loaded(tmp_path, events).direction is optuna.study.StudyDirection.MINIMIZE


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--search", "other"], "The ledger has no such search; it has stub at mini"),
        (["--out", "nothing"], "--out must be a database that can be written, such as sqlite:///study.db"),
        (["--out", "sqlite:////nowhere/at/all.db"], "--out must be a database that can be written"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    """Exit code 2, no traceback."""
    write(tmp_path, made().written)
    out = ["--out", f"sqlite:///{tmp_path / 'study.db'}"]
    assert command.main(["--storage", str(tmp_path), *out, *options]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
