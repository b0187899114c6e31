"""`--half-width` from end to end: the seeds that a study adds, the interval that it ends with, kills and restarts."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from mfm_tune import diff
from mfm_tune.ledger.cells import declared_cells
from mfm_tune.ledger.file import read_events
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import read_ledger
from mfm_tune.results.frames import frames
from mfm_tune.run import REPOSITORY, main
from mfm_tune.tracking.reader import LedgerReader
from mfm_tune.tracking.runs import cell_run
from tests.mfm_tune.stub_space import forgotten_after, write_space

HALF_WIDTH = 0.5
SIX = """
STUDY = study("smoke", levels=(1, 2, 3, 4, 5, 6), references={"base": StubConfig(level=0)})
"""
ODD = """
from dataclasses import replace

class Odd(StubProgram):
    def open(self, config, *, seed, **places):
        diverges = (config.level, seed) in {(1, 0), (2, 5)}
        return super().open(replace(config, nan_at=2) if diverges else config, seed=seed, **places)

STUDY = study("smoke", seeds=(0, 1, 2, 3), references={"base": StubConfig(level=0)}, program=Odd())
"""
ASKED = ("--half-width", str(HALF_WIDTH), "--max-seeds", "70")


def run(space: Path, storage: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of a command in this process, without Ray."""
    out = io.StringIO()
    with forgotten_after(space.parent), redirect_stdout(out):
        code = main([str(space), "--storage", str(storage), "--inline", "--no-tracking", *options])
    return code, out.getvalue()


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search space of six cells and a baseline."""
    return write_space(tmp_path_factory.mktemp("six"), SIX)


@pytest.fixture(scope="module")
def done(six: Path) -> Path:
    """The storage of that study after both stages, undisturbed."""
    storage = six.parent / "undisturbed"
    code, out = run(six, storage, *ASKED)
    assert code == 0
    first, _, second = out.partition("Two-stage 95 %")
    assert " left of the first stage" in first
    assert " left of" not in second
    return storage


def table(storage: Path) -> list[dict[str, str]]:
    """The rows of its only table, as the report's CSV has them."""
    with (storage / "reports" / "spaced-smoke" / "tables" / "a.csv").open() as file:
        return list(csv.DictReader(file))


def stages(storage: Path) -> list[Event]:
    """The lines of first stages, without their times."""
    events = (event for _, event in read_events(storage / "ledger.jsonl"))
    return [{**event, "time": 0} for event in events if event["event"] == "first_stage"]


def before_the_line(storage: Path, copy: Path) -> Path:
    """A storage as a kill leaves it when the first stage is over, and its line is not written yet."""
    lines = (storage / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if b'"event":"first_stage"' in line)
    copy.mkdir()
    (copy / "ledger.jsonl").write_bytes(b"".join(lines[:at]))
    return copy


def test_six_cells_end_with_intervals_no_wider_than_asked_for(done: Path) -> None:
    """Each cell has its own number of seeds, the baseline the largest of them; CSV, frames, MLflow and diff have the
    same interval, which is named."""
    rows, state = table(done), read_ledger(done / "ledger.jsonl")
    seeds = Counter(record.config_id for record in state.trials.values())
    assert len(rows) == 6
    framed = frames(state).cells.set_index("config_id")
    reader = LedgerReader(done / "ledger.jsonl")
    reader.read()
    for row in rows:
        low, high = (float(row[f"minus base {end}"]) for end in ("low", "high"))
        assert (high - low) / 2 <= HALF_WIDTH * (1 + 1e-12)
        assert row["minus base interval"] == "two-stage"
        assert int(row["minus base n"]) == int(row["n"]) == seeds[row["config_id"]]
        cell = framed.loc[row["config_id"]]
        mirrored = reader.numbers[f"cell/spaced/smoke/a/{row['level']}"]
        assert (cell["low"], cell["high"], cell["pairs"]) == (low, high, int(row["n"]))
        assert (mirrored["minus base/low"], mirrored["minus base/high"]) == (low, high)
        (declared,) = (each for each in declared_cells(state.studies["spaced", "smoke"]) if each.level == row["level"])
        in_mlflow = cell_run(state, declared, "ledger", {})
        assert in_mlflow is not None
        tags = (in_mlflow.tags["mfm.interval"], in_mlflow.tags["mfm.seeds"])
        assert tags == ("two-stage", f"{row['n']}/{row['n']}")
    assert len(set(seeds.values())) > 3
    assert sorted(seeds.values())[-2:] == [max(seeds.values())] * 2  # the baseline, and the cell that needs the most

    out = io.StringIO()
    with redirect_stdout(out):
        assert diff.main(["level 1", "base", "--storage", str(done)]) == 0
    ends = rf"two-stage 95 % \S+ to \S+, {rows[0]['n']} seeds"
    assert re.search(ends, out.getvalue().splitlines()[0])
    assert f"two-stage interval over {rows[0]['n']} of the {rows[0]['n']} seeds" in out.getvalue()
    report = (done / "reports" / "spaced-smoke" / "report.md").read_text()
    assert "Two-stage 95 % intervals (Stein's procedure) of 6 differences in student mIoU" in report
    assert report.count("; two-stage interval") == 6
    assert f"| level 1 minus base | 0, 1, 2 | {stages(done)[0]['differences'][0]['std']:.2f} |" in report


def test_a_restart_trains_nothing_and_the_plan_names_what_is_left(six: Path, done: Path, tmp_path: Path) -> None:
    """Before the first stage it decides, after it the plan has the number; neither writes anything."""
    assert "The first stage decides how many more seeds a half-width of 0.5 takes, up to 70" in plan(six, tmp_path)
    copy = before_the_line(done, tmp_path / "copy")
    second = len(read_ledger(done / "ledger.jsonl").trials) - 21
    before = (copy / "ledger.jsonl").read_bytes()
    text = plan(six, copy)
    assert f"(seeds 0, 1, 2, and {second} with further ones): 21 finished, {second} to do" in text
    assert f"The second stage takes {second} trials more." in text
    assert re.search(r"Two-stage 95 % .* takes: level 1 minus base \d+, ", text)
    assert (copy / "ledger.jsonl").read_bytes() == before

    before, rows = (done / "ledger.jsonl").read_bytes(), table(done)
    assert run(six, done, *ASKED)[0] == 0
    assert table(done) == rows
    assert (done / "ledger.jsonl").read_bytes() == before


def plan(space: Path, storage: Path) -> str:
    """What `--plan` prints."""
    code, out = run(space, storage, *ASKED, "--plan")
    assert code == 0
    return out


def test_the_largest_number_of_seeds_cuts_and_a_larger_one_goes_on(six: Path, done: Path, tmp_path: Path) -> None:
    """The report says so; the spread stays that of the first stage, which a kill before its line does not change."""
    copy = before_the_line(done, tmp_path / "copy")
    assert run(six, copy, "--half-width", str(HALF_WIDTH), "--max-seeds", "5")[0] == 0
    seeds = Counter(record.config_id for record in read_ledger(copy / "ledger.jsonl").trials.values())
    assert max(seeds.values()) == 5
    report = (copy / "reports" / "spaced-smoke" / "report.md").read_text()
    assert re.search(
        r"Wider than the half-width of 0\.5 .* 5 seeds at most: level 1 minus base ±0\.\d\d \(5 of", report
    )
    assert run(six, copy, *ASKED)[0] == 0
    assert stages(copy)[1] == stages(done)[0]
    assert table(copy) == table(done)


def test_a_seed_that_diverges_is_followed_by_the_next_one(tmp_path: Path) -> None:
    """In the first stage it is left out of the spread, in the second one another seed comes, for the baseline too."""
    space = write_space(tmp_path, ODD)
    assert run(space, tmp_path / "s", "--half-width", "0.4", "--max-seeds", "60")[0] == 0
    (line,) = stages(tmp_path / "s")
    pairs = {tuple(each["pairs"]): each["needed"] for each in line["differences"]}
    assert pairs.keys() == {(1, 2, 3), (0, 1, 2, 3)}  # of level 1, and of level 2
    rows = {row["level"]: row for row in table(tmp_path / "s")}
    assert [int(rows[level]["minus base n"]) for level in "12"] == [pairs[1, 2, 3], pairs[0, 1, 2, 3]]
    assert pairs[0, 1, 2, 3] > 6  # so that the seed which diverged was asked for
    assert rows["2"]["seed 5"] == ""
    state = read_ledger(tmp_path / "s" / "ledger.jsonl")
    seeds = Counter(record.config_id for record in state.trials.values())
    assert seeds[rows["2"]["config_id"]] == pairs[0, 1, 2, 3] + 1


def test_a_study_that_compares_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no interval to be narrowed."""
    space = write_space(tmp_path, 'STUDY = study("smoke")')
    assert run(space, tmp_path / "s", "--half-width", "1")[0] == 2
    assert "study 'spaced' compares no configs in it; give it references" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--seeds", "4"), "one seed has none; give two at least"),
        (("--max-seeds", "2"), "--max-seeds must be at least 3, the number of the study's seeds, got 2"),
    ],
)
def test_a_study_that_has_no_first_stage_is_refused(
    six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    """In one sentence, before anything is written."""
    assert run(six, tmp_path / "s", "--half-width", "1", *options)[0] == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_kill_between_the_stages_and_other_seeds_change_nothing(six: Path, done: Path, tmp_path: Path) -> None:
    """kill -9 as soon as the line of the first stage is there; then the same command with other seeds: the first stage
    is that of the ledger, and every interval the same."""
    storage = tmp_path / "s"
    command = [sys.executable, "-m", "mfm_tune.run", str(six), "--storage", str(storage), "--inline", "--no-tracking"]
    driver = subprocess.Popen([*command, *ASKED], cwd=REPOSITORY, stdout=subprocess.DEVNULL, start_new_session=True)
    ledger = storage / "ledger.jsonl"
    wait_for(lambda: ledger.exists() and b"first_stage" in ledger.read_bytes())
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait(timeout=30)
    assert len(read_ledger(ledger).trials) < len(read_ledger(done / "ledger.jsonl").trials)
    assert run(six, storage, *ASKED, "--seeds", "1,2,3,4")[0] == 0
    assert stages(storage) == stages(done)
    kept = [key for key in table(done)[0] if key.startswith("minus base")]
    assert [[row[key] for key in kept] for row in table(storage)] == [[row[key] for key in kept] for row in table(done)]


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, or for a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.slow
def test_two_stages_through_ray_are_those_of_one_process(done: Path, tmp_path: Path, ray_head: str) -> None:
    """The first of the six cells alone, side by side with the baseline: the same first stage and the same interval."""
    storage, space = tmp_path / "s", write_space(tmp_path, SIX.replace("(1, 2, 3, 4, 5, 6)", "(1,)"))
    with forgotten_after(tmp_path):
        assert main([str(space), "--storage", str(storage), "--no-tracking", "--address", ray_head, *ASKED]) == 0
    (alone,), (first, *_) = (stages(each)[0]["differences"] for each in (storage, done))
    assert alone == first
    assert table(storage)[0].items() <= table(done)[0].items()
