"""What the mirror reads from a ledger: the same rows however it is cut up, and the numbers of statistics for cells."""

from __future__ import annotations

import json
import math
import posixpath
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm_tune.criteria import TARGET_ENTROPY, Criterion
from mfm_tune.ledger.cells import declared_cells
from mfm_tune.ledger.events import search_event
from mfm_tune.ledger.records import trial_key
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.results.statistics import paired_difference
from mfm_tune.tracking.params import VaryingFields, clean_key, param_name
from mfm_tune.tracking.reader import BrokenLedgerError, LedgerReader, Row
from mfm_tune.tracking.runs import NOTE, RunStatus, axis_tag, cell_run, level_params, trial_run, trial_run_key
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study
from tests.mfm_tune.made_search import BASELINE, MadeSearch, stub_search
from tests.mfm_tune.tracking.tracking_ledger import (
    CLASSES,
    DACS,
    DEFAULT,
    FINGERPRINT,
    Fiction,
    expected,
    number,
    retrained,
    write,
)


def all_rows(reader: LedgerReader) -> dict[str, list[Row]]:
    """Rows by run, of all that a reader has not read yet."""
    batch = reader.read()
    assert reader.read() is None
    return batch.rows if batch is not None else {}


def rows_of_pieces(path: Path, size: int, copy: Path) -> dict[str, list[Row]]:
    """Rows by run, read while a copy of the ledger grows by so many bytes at a time."""
    content, reader = path.read_bytes(), LedgerReader(copy)
    copy.unlink(missing_ok=True)
    rows: dict[str, list[Row]] = {}
    for begin in range(0, len(content), size):
        with copy.open("ab") as file:
            file.write(content[begin : begin + size])
        batch = reader.read()
        for key, new in batch.rows.items() if batch is not None else ():
            rows.setdefault(key, []).extend(new)
    return rows


def comparable(rows: dict[str, list[Row]]) -> dict[str, list[str]]:
    """Rows as text, because NaN is not equal to itself."""
    return {key: [repr(row) for row in values] for key, values in rows.items()}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a failed and an out-of-memory trial."""
    fiction = Fiction(outcomes={(DACS, 1): "failed", (DEFAULT, 2): "oom"})
    return write(tmp_path_factory.mktemp("ledger"), fiction.events())


@settings(max_examples=25)
@given(size=st.integers(20, 9000))
def test_rows_do_not_depend_on_how_the_ledger_is_cut_up(ledger: Path, size: int) -> None:
    """Reading in pieces of any size gives the rows, with their marks and in order, that reading at once gives."""
    pieces = rows_of_pieces(ledger, size, ledger.with_name("copy.jsonl"))
    assert comparable(pieces) == comparable(all_rows(LedgerReader(ledger)))


def test_reports_become_the_rows_that_stand_in_the_ledger(ledger: Path) -> None:
    """Every number of every report is there once, with the ledger's time and step; NaN and infinities too."""
    rows = all_rows(LedgerReader(ledger))
    for key, numbers in expected(ledger).items():
        own = [row for row in rows[trial_run_key(key)] if not row.key.startswith(("final/", "best/"))]
        assert sorted(number(row.key, row.time, row.step, row.value) for row in own) == numbers


def test_the_best_is_the_least_of_a_metric_of_which_less_is_better(tmp_path: Path) -> None:
    made = MadeLedger(stub_study({0: None}, references={"base": 0}, seeds=(0,), metric=TARGET_ENTROPY.key))
    made.trial(stub(0), 0, {TARGET_ENTROPY.key: 0.2})
    reports = [event["metrics"] for event in made.written if event["event"] == "report"]
    for metrics, entropy in zip(reports, (0.1, 0.2), strict=True):
        metrics[TARGET_ENTROPY.key] = entropy
    (rows,) = [rows for key, rows in all_rows(LedgerReader(write(tmp_path, made.written))).items() if "trial" in key]
    last = {row.key: row.value for row in rows if row.key.startswith(("final/", "best/"))}
    assert last == {"final/criterion/entropy": 0.2, "best/criterion/entropy": 0.1}


def test_the_best_of_a_search_is_by_its_own_criterion(tmp_path: Path) -> None:
    """Which way one of the user's own is better is known to the search alone."""
    made = MadeSearch(stub_search(Criterion(key="loss", label="loss", larger_is_better=False), metric="loss"))
    made.trial(BASELINE, 0, {"loss": 0.5}, outcome=None, step=4)
    made.trial(BASELINE, 0, {"loss": 0.75})
    (rows,) = all_rows(LedgerReader(write(tmp_path, made.written))).values()
    assert {row.key: row.value for row in rows if "/" in row.key} == {"final/loss": 0.75, "best/loss": 0.5}


def test_a_report_that_is_repeated_after_a_resume_counts_once(tmp_path: Path) -> None:
    """The first report of a step is the one that MLflow gets."""
    fiction = Fiction(seeds=1)
    events = list(fiction.events())
    path = write(tmp_path, events)
    before = comparable(all_rows(LedgerReader(path)))
    write(tmp_path, [fiction.report(trial_key(DACS, 0, FINGERPRINT), 10)])
    assert comparable(all_rows(LedgerReader(path))) == before


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    """Only lines with an end are read, and the reader goes on where it stopped."""
    path = write(tmp_path, Fiction(seeds=1).events())
    whole = path.read_bytes()
    reader = LedgerReader(path)
    path.write_bytes(whole[:-20])
    first = all_rows(reader)
    assert reader.offset == whole[:-20].rindex(b"\n") + 1
    path.write_bytes(whole)
    second = all_rows(reader)
    merged = {key: first.get(key, []) + second.get(key, []) for key in (first | second)}
    assert comparable(merged) == comparable(all_rows(LedgerReader(path)))


def test_a_broken_line_is_named_by_its_place(tmp_path: Path) -> None:
    """A line that ends and is no event stops the reader with the byte at which it begins, once what is before it was
    read."""
    path = write(tmp_path, list(Fiction(seeds=1).events())[:9])
    size = path.stat().st_size
    whole = comparable(all_rows(LedgerReader(path)))
    with path.open("ab") as file:
        file.write(b'{"event": "rep\n')
    reader = LedgerReader(path)
    before = reader.read()
    assert before is not None
    assert (reader.offset, comparable(before.rows)) == (size, whole)
    for _ in range(2):
        with pytest.raises(BrokenLedgerError, match=f"byte {size} "):
            reader.read()


def test_cells_have_mean_std_and_paired_interval(ledger: Path) -> None:
    """The last row of each of a cell's numbers is what `statistics` says of the finished seeds."""
    rows = rows_of_pieces(ledger, 2000, ledger.with_name("copy.jsonl"))
    state = read_ledger(ledger)
    study = state.studies["fiction", "smoke"]
    finals = {
        config: {
            record.seed: record.metrics["student/miou"]
            for record in state.trials.values()
            if record.config_id == config and record.outcome is not None and record.outcome.value == "finished"
        }
        for config in state.configs
    }
    for cell in declared_cells(study):
        last = {row.key: row.value for row in sorted(rows[cell.key], key=lambda row: (row.step, row.time))}
        values = finals[cell.config_id]
        assert last["n_seeds"] == len(values)
        assert last["mean"] == fmean(values.values())
        assert last["std"] == stdev(values.values())
        if cell.config_id != DACS:
            paired = paired_difference(values, finals[DACS])
            found = (last["minus DACS"], last.get("minus DACS/low"), last.get("minus DACS/high"))
            assert found == (paired.mean, paired.low, paired.high)


@pytest.mark.parametrize("declared", [True, False])
def test_results_of_other_code_leave_a_cell_when_its_config_is_trained_anew(tmp_path: Path, *, declared: bool) -> None:
    """The newest row of each number is that of the code which counts; what it does not give is no number any more."""
    path = write(tmp_path, retrained(declared=declared))
    rows = rows_of_pieces(path, 500, tmp_path / "copy.jsonl")
    last = {key: {row.key: row.value for row in of} for key, of in rows.items()}
    baseline = last["cell/fiction/smoke/b/Baseline"]
    assert (baseline["n_seeds"], baseline["mean"]) == (1, 90.0)
    assert math.isnan(baseline["std"])
    wide = last["cell/fiction/smoke/a/128"]
    assert (wide["n_seeds"], wide["mean"]) == ((0, pytest.approx(math.nan, nan_ok=True)) if declared else (3, 11.0))
    assert comparable(all_rows(LedgerReader(path))) == comparable(rows)
    steps = [(row.step, row.time) for row in rows["cell/fiction/smoke/b/Baseline"]]
    assert steps == sorted(steps)
    state = read_ledger(path)
    runs = [cell_run(state, cell, "ledger", {}) for cell in declared_cells(state.studies["fiction", "smoke"])]
    others = "0/3" if declared else "3/3"
    assert [run.tags["mfm.seeds"] for run in runs if run] == [others, others, "1/3", others]


def test_the_number_that_counts_is_the_latest_where_the_clock_was_put_back(tmp_path: Path) -> None:
    """MLflow shows the row of the greatest step, time and value; the next driver's machine may be an hour behind."""
    events = list(retrained(declared=True))
    behind = max(number for number, event in enumerate(events) if event["event"] == "study")
    for event in events[behind:]:
        event["time"] -= 3_600_000
        event |= {"metrics": {"student/miou": 5.0}} if "metrics" in event else {}
    rows = all_rows(LedgerReader(write(tmp_path, events)))["cell/fiction/smoke/b/Baseline"]
    means = [row for row in rows if row.key == "mean"]
    shown = max(means, key=lambda row: (row.step, row.time, 0 if math.isnan(row.value) else row.value))
    assert shown.value == means[-1].value == 5.0


def test_results_that_the_user_lets_count_come_back(tmp_path: Path) -> None:
    """A `reuse` line counts the cells again."""
    fiction = list(retrained(declared=True))
    reuse = {"event": "reuse", "from": "a" * 64, "to": "b" * 64, "time": fiction[-1]["time"] + 1}
    rows = all_rows(LedgerReader(write(tmp_path, [*fiction, reuse])))
    last = {row.key: row.value for row in rows["cell/fiction/smoke/b/Baseline"]}
    assert (last["n_seeds"], last["mean"]) == (3, fmean([90.0, 11.0, 12.0]))


def test_only_finished_trials_have_final_numbers(ledger: Path) -> None:
    """A trial that failed or ran out of memory has no `final/` metric, so a group's average cannot take it in."""
    rows = all_rows(LedgerReader(ledger))
    finals = {key for key, values in rows.items() if any(row.key.startswith("final/") for row in values)}
    state = read_ledger(ledger)
    finished = {key for key, record in state.trials.items() if record.outcome and record.outcome.value == "finished"}
    assert finals == {trial_run_key(key) for key in finished}
    assert len(finished) == 10


def test_trials_that_finish_while_a_search_explores_have_final_numbers(tmp_path: Path) -> None:
    """They are those of the search, whose study is declared when exploring is over; a stopped trial has none."""
    search = search_event(stub_search(TARGET_ENTROPY, name="fiction", profile="smoke"), LedgerState())
    assert search is not None
    fiction = Fiction(seeds=1, outcomes={(DEFAULT, 0): "stopped"})
    head, _, *others = fiction.events()
    path = write(tmp_path, [head, {**search, "time": head["time"]}, *others])
    rows = all_rows(LedgerReader(path))
    for key, record in read_ledger(path).trials.items():
        values = [report["metrics"] for report in record.reports]
        found = {row.key: row.value for row in rows[trial_run_key(key)] if row.key.startswith(("final/", "best/"))}
        metrics = ("student/miou", "teacher/miou") if record.config_id != DEFAULT else ()
        final = {f"final/{metric}": values[-1][metric] for metric in metrics}
        assert found == final | {f"best/{metric}": max(each[metric] for each in values) for metric in metrics}


def test_trials_have_the_final_numbers_that_the_pages_of_every_study_show(tmp_path: Path) -> None:
    """Those of a table's own metric, and of a study that shares the config and is declared when they have finished."""
    fiction = Fiction(seeds=1)
    events = list(fiction.events())
    tables = [{**table, "metric": "metric/0"} for table in fiction.study()["tables"]]
    path = write(tmp_path, [*events, fiction.study(study="later", metric="metric/1", tables=tables)])
    rows, state = rows_of_pieces(path, 700, tmp_path / "copy.jsonl"), read_ledger(path)
    assert comparable(rows) == comparable(all_rows(LedgerReader(path)))
    for key, record in state.trials.items():
        last = [row for row in rows[trial_run_key(key)] if row.key.startswith("final/")]
        shown = ("student/miou", "teacher/miou", "metric/1", "metric/0")
        assert [(row.key, row.value) for row in last] == [(f"final/{name}", record.metrics[name]) for name in shown]


def test_another_study_that_declares_new_code_takes_the_results_of_the_old_one_from_all_cells(tmp_path: Path) -> None:
    """As every reader of the ledger does: the numbers of a cell are those of its seeds."""
    events = list(retrained(declared=True))
    anew = max(number for number, event in enumerate(events) if event["event"] == "study")
    reader = LedgerReader(write(tmp_path, events[:anew]))
    assert reader.read() is not None
    write(tmp_path, [{**events[anew], "study": "other"}])
    batch = reader.read()
    assert batch is not None
    assert set(batch.studies) == {("other", "smoke"), ("fiction", "smoke")}
    assert reader.numbers["cell/fiction/smoke/a/128"] == {"n_seeds": 0}
    assert {row.key for row in batch.rows["cell/fiction/smoke/a/128"] if math.isnan(row.value)} >= {"mean", "std"}


def test_outcomes_have_a_status_and_tags(ledger: Path) -> None:
    """Finished, failed and out of memory can be told apart; a config's tables and axes are tags."""
    state = read_ledger(ledger)
    runs = {key: trial_run(state, record, "ledger", ()) for key, record in state.trials.items()}
    failed = runs[trial_key(DACS, 1, FINGERPRINT)]
    assert (failed.status, failed.tags["mfm.outcome"]) == (RunStatus.FAILED, "failed")
    assert "StubError: failed" in failed.tags["mlflow.note.content"]
    assert failed.tags["mfm.in.fiction.b"] == "Baseline"
    assert failed.tags["mfm.case"] == "Baseline"
    assert "mfm.in.fiction.a" not in failed.tags
    oom = runs[trial_key(DEFAULT, 2, FINGERPRINT)]
    assert (oom.status, oom.tags["mfm.outcome"]) == (RunStatus.FAILED, "oom")
    wide = runs[trial_key("000000000128", 0, FINGERPRINT)]
    assert (wide.status, wide.tags["mlflow.runName"]) == (RunStatus.FINISHED, "a/dim 128/s0")


def test_a_cell_that_is_not_complete_says_so(ledger: Path) -> None:
    """A cell with a failed trial is still open, and names its outcomes; one with an out-of-memory trial is over."""
    state = read_ledger(ledger)
    cells = {cell.level: cell for cell in declared_cells(state.studies["fiction", "smoke"])}
    baseline = cell_run(state, cells["Baseline"], "ledger", {})
    assert baseline is not None
    assert baseline.status is RunStatus.RUNNING
    assert (baseline.tags["mfm.outcome"], baseline.tags["mfm.seeds"]) == ("failed, finished", "2/3")
    assert baseline.tags[NOTE].startswith("**no number** (student/miou, 2 of 3 seeds")
    default = cell_run(state, cells["Masking + Rebuilding"], "ledger", {})
    assert default is not None
    assert default.status is RunStatus.FINISHED
    assert default.tags["mfm.outcome"] == "finished, oom"


def test_params_are_printed_levels_and_the_fields_that_differ(ledger: Path) -> None:
    """Few params: the level as printed and as trained, what no config has in common; never a field that all share."""
    reader = LedgerReader(ledger)
    all_rows(reader)
    (fields,) = reader.varying.values()
    assert sorted(fields.names) == ["auxiliary[Masking].class", "auxiliary[Masking].dim"]
    record = reader.state.trials[trial_key("000000000128", 0, FINGERPRINT)]
    params = trial_run(reader.state, record, "ledger", fields.names).params
    assert params == {
        "dim": "128",
        "dim_trained": "8",
        "config_id": "000000000128",
        "seed": "0",
        "auxiliary.Masking.class": "Masking",
        "auxiliary.Masking.dim": "128",
    }


def test_a_config_of_several_tables_has_the_level_of_each_axis() -> None:
    """Also where an axis has the name of a param of ours, and where two studies print a config at two levels."""

    def study(name: str, **levels: tuple[str, str | None]) -> Event:
        cells = {
            axis: {"level": level, "trained": trained, "config_id": DEFAULT}
            for axis, (level, trained) in levels.items()
        }
        tables = [{"name": axis, "axis": axis, "metric": "m", "cells": [cell]} for axis, cell in cells.items()]
        return Fiction().study(study=name, tables=tables)

    first, second = study("first", dim=("512", "32"), seed=("2", None)), study("other", dim=("64", None))
    assert level_params([*declared_cells(first), *declared_cells(second)]) == {
        "dim": "512",
        "dim_trained": "32",
        "axis_seed": "2",
        "dim_other": "64",
    }


configs = st.dictionaries(st.sampled_from("abcdef"), st.one_of(st.integers(0, 2), st.booleans()), min_size=1)


@given(st.lists(configs, min_size=1, max_size=6))
def test_differing_fields_only_grow(given_configs: list[dict[str, Any]]) -> None:
    """MLflow's params cannot be taken back, so a field that differs once stays."""
    fields = VaryingFields()
    for index, config in enumerate(given_configs):
        before = list(fields.names)
        grew = fields.add(str(index), config)
        assert fields.names[: len(before)] == before
        assert grew == (len(fields.names) > len(before))
    for name in fields.names:
        assert len({json.dumps(config[name]) for config in given_configs if name in config}) > 1


@given(st.lists(st.text(max_size=300) | st.text("ab./_", max_size=8), unique=True, max_size=8))
def test_names_are_made_valid_and_stay_different(names: list[str]) -> None:
    """Whatever a metric is called, MLflow takes its key, and no two names become one."""
    keys = [clean_key(name) for name in names]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_\-. :/]{1,250}", key)
        assert posixpath.normpath(key) == key
        assert not key.startswith(("/", ".."))


@pytest.mark.parametrize("name", ["student/miou", f"student/iou/{CLASSES[1]}", "time/step_ms", "minus DACS/low"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    """Keys of the program's own metrics are MLflow's keys."""
    assert clean_key(name) == name


def test_an_axis_cannot_overwrite_a_tag_of_ours() -> None:
    """An axis called `seed` has a tag of its own."""
    assert axis_tag("dim") == "mfm.dim"
    assert axis_tag("seed") == "mfm.axis.seed"
    assert param_name("auxiliary[Mfm].rebuilder.dim") == "auxiliary.Mfm.rebuilder.dim"


def test_a_study_that_is_declared_anew_retires_cells(tmp_path: Path) -> None:
    """A cell that its study no longer declares is named once; one that stays is not."""
    fiction = Fiction(seeds=1)
    path = write(tmp_path, fiction.events())
    reader = LedgerReader(path)
    all_rows(reader)
    fiction.widths = (128,)
    write(tmp_path, [fiction.study()])
    batch = reader.read()
    assert batch is not None
    assert list(batch.former) == ["cell/fiction/smoke/a/256"]
    assert not math.isnan(reader.numbers["cell/fiction/smoke/a/128"]["mean"])
