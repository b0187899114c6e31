"""The recorder: what an engine tells reaches the ledger first, and nothing that only shows can cost a result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfm_tune.errors import StorageError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.ledger.storage import Storage
from mfm_tune.program import Outcome, Report
from tests.mfm_tune.stub_launch import stub_trials
from tests.mfm_tune.stub_program import StubConfig

(TRIAL,) = stub_trials([StubConfig()])
REPORT = Report(step=2, planned_steps=4, executed_steps=2, metrics={"student/miou": 50.0})


class Seen:
    """A display that checks that the ledger on the disk knows already what it is shown."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.words: list[str] = []

    def update(self, trial: Trial, record: TrialRecord) -> None:
        assert read_ledger(self.ledger).trials[trial.key] == record
        self.words.append("ended" if record.outcome else "reported" if record.reports else "started")


class Broken(Seen):
    """A display that raises."""

    def update(self, trial: Trial, record: TrialRecord) -> None:
        raise RuntimeError("no terminal")


def recorder(storage: Path, display: Seen | None = None) -> Recorder:
    """A recorder of the one trial."""
    writer = LedgerWriter(storage / "ledger.jsonl")
    about = {"launch": "l", "study": "stub", "profile": "smoke"}
    return Recorder(Ledger(writer, LedgerState()), storage=storage, trials=[TRIAL], display=display, **about)


def test_the_ledger_knows_before_the_display(tmp_path: Path) -> None:
    """Every event is on the file when it is shown, and the state in memory is what the file adds up to."""
    display = Seen(tmp_path / "ledger.jsonl")
    told = recorder(tmp_path, display)
    told.started(TRIAL.key, 1)
    told.reported(TRIAL.key, REPORT)
    told.ended(TRIAL.key, Outcome.FINISHED)
    assert display.words == ["started", "reported", "ended"]
    read = read_ledger(tmp_path / "ledger.jsonl")
    assert read.trials == told.state.trials
    assert read.configs == told.state.configs
    assert read.trials[TRIAL.key].is_final


def test_a_notice_of_a_trial_is_said_once_and_stands_in_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes from another process, whose own words nobody sees; a report without one says nothing."""
    told = recorder(tmp_path)
    told.started(TRIAL.key, 1)
    told.reported(TRIAL.key, {**REPORT, "notice": "The checkpoint is damaged."})
    told.reported(TRIAL.key, {**REPORT, "step": 4})
    assert capsys.readouterr().err == "The checkpoint is damaged.\n"
    assert (tmp_path / "ledger.jsonl").read_text().count('"notice":"The checkpoint is damaged."') == 1


def test_a_display_that_fails_costs_no_result(tmp_path: Path) -> None:
    """The trial ends in the ledger all the same."""
    told = recorder(tmp_path, Broken(tmp_path / "ledger.jsonl"))
    told.started(TRIAL.key, 1)
    told.reported(TRIAL.key, REPORT)
    told.ended(TRIAL.key, Outcome.FINISHED)
    assert read_ledger(tmp_path / "ledger.jsonl").trials[TRIAL.key].metrics == {"student/miou": 50.0}


def test_the_traceback_of_a_failed_trial_lies_in_its_folder_and_in_the_ledger(tmp_path: Path) -> None:
    """Where a person looks for it, also where it holds what is no text."""
    told = recorder(tmp_path)
    told.started(TRIAL.key, 1)
    told.ended(TRIAL.key, Outcome.FAILED, error="Traceback\nStubError: \udcff")
    assert Storage(tmp_path).error_file(TRIAL.folder).read_text() == "Traceback\nStubError: \\udcff"
    assert read_ledger(tmp_path / "ledger.jsonl").trials[TRIAL.key].error.startswith("Traceback\nStubError")


def test_a_config_is_written_once(tmp_path: Path) -> None:
    """However often its trials start."""
    told = recorder(tmp_path)
    told.started(TRIAL.key, 1)
    told.started(TRIAL.key, 2)
    assert (tmp_path / "ledger.jsonl").read_text().count('"event":"config"') == 1
    assert told.state.trials[TRIAL.key].attempts == 2


def test_a_ledger_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Results that cannot be kept are not produced: the engine hears of it. /dev/full is the kernel's full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which only Linux has")
    told = recorder(tmp_path)
    told.started(TRIAL.key, 1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, told._ledger.writer._file)
    os.close(full)
    with pytest.raises(StorageError, match="No space left on device; free space, or give another --storage"):
        told.reported(TRIAL.key, REPORT)
    assert told.state.trials[TRIAL.key].step == 0  # what is not on the disk did not happen
