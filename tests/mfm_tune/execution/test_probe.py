"""`--probe` measures each unknown cost once, tells the plan, and is no result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mfm_tune.ledger.file import read_events
from mfm_tune.ledger.state import read_ledger
from mfm_tune.run import main
from tests.mfm_tune.stub_space import forgotten_after, write_space

TWO_COSTS = """
STUDY = study("smoke", levels=((1, None), (2, None), (3, None)),
              make=lambda v: StubConfig(level=v, sleep_s=0.02 if v == 3 else 0.01))
"""
OUT_OF_MEMORY = 'STUDY = study("smoke", make=lambda v: StubConfig(level=v, oom_at=1))'
REFUSED = 'STUDY = study("smoke", make=lambda v: StubConfig(level=v, refuse=True))'


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder that does not exist yet."""
    return tmp_path / "storage"


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path) -> Iterator[None]:
    """Each test has a search space of its own."""
    with forgotten_after(tmp_path):
        yield


def test_each_unknown_cost_is_measured_once_and_the_plan_knows_it(
    tmp_path: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three configs of two costs: two measurements, after which the time is known. The second time, nothing is left."""
    command = [str(write_space(tmp_path, TWO_COSTS)), "--storage", str(storage)]
    assert main([*command, "--plan"]) == 0
    assert (
        "time     unknown: there is no step time of 9 trials of 2 cost classes, such as stub, 0.01 s"
        in capsys.readouterr().out
    )
    assert main([*command, "--probe", "--slots", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 of 2  stub, 0.01 s a step: 0.01 s a step, 0.5 s an evaluation, peak 1 MiB" in said
    assert "2 of 2  stub, 0.02 s a step" in said
    # 4 steps and 2 evaluations of 0.5 s a trial: 6 trials x 1.04 s and 3 x 1.08 s
    assert "time     about 9 s, one trial after the other" in said
    assert [event["event"] for _, event in read_events(storage / "ledger.jsonl")] == ["ledger", "probe", "probe"]
    assert read_ledger(storage / "ledger.jsonl").trials == {}
    assert sorted(path.name for path in storage.iterdir()) == ["driver.lock", "ledger.jsonl"]
    before = (storage / "ledger.jsonl").read_bytes()
    assert main([*command, "--probe"]) == 0
    assert "nothing to measure" in capsys.readouterr().out
    assert (storage / "ledger.jsonl").read_bytes() == before
    assert main([*command, "--plan", "--slots", "9"]) == 0
    assert "time     about 1 s, 9 trials side by side" in capsys.readouterr().out


def test_what_does_not_fit_into_memory_is_said_and_stays_unknown(
    tmp_path: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a trial can have out of memory as its result."""
    assert main([str(write_space(tmp_path, OUT_OF_MEMORY)), "--storage", str(storage), "--probe"]) == 0
    said = capsys.readouterr().out
    assert "1 of 1  stub, 0 s a step: Out of memory at step 1." in said
    assert "time     unknown" in said
    assert read_ledger(storage / "ledger.jsonl").probes == {}


def test_a_program_that_refuses_its_data_is_one_sentence(
    tmp_path: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when trials run."""
    assert main([str(write_space(tmp_path, REFUSED)), "--storage", str(storage), "--probe"]) == 2
    assert capsys.readouterr().err.startswith("The folder of data set 'stub' has no images")
    assert not (storage / "probe").exists()
