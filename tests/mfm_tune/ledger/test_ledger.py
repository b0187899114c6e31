"""The ledger: what is written is read again, and a torn last line costs nothing but itself."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfm_tune.errors import StorageError
from mfm_tune.ledger.file import LedgerWriter, check_ledger, encoded, read_events
from mfm_tune.ledger.records import Status, status_of
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.program import Outcome
from mfm_tune.tracking.reader import BrokenLedgerError, LedgerReader

KEY = "cafe-s0-12345678"


def write(path: Path, *events: dict[str, Any]) -> None:
    """Append events through a writer of their own."""
    writer = LedgerWriter(path)
    for event in events:
        writer.append(event)
    writer.close()


def start(key: str = KEY, fingerprint: str = "12345678ff", **changes: Any) -> dict[str, Any]:
    """A start event."""
    event = {"event": "start", "key": key, "config_id": "cafe", "seed": 0, "fingerprint": fingerprint, "launch": "l"}
    return {**event, "folder": "trials/x", "attempt": 1, "benchmark": "b", "study": "s", "profile": "p", **changes}


def report(step: int, key: str = KEY, executed: int | None = None, **metrics: float) -> dict[str, Any]:
    """A report event."""
    event: dict[str, Any] = {"event": "report", "key": key, "step": step, "planned_steps": 10}
    return {**event, "executed_steps": executed or step, "metrics": metrics}


def end(outcome: Outcome, key: str = KEY, **changes: Any) -> dict[str, Any]:
    """An end event."""
    return {"event": "end", "key": key, "outcome": outcome.value, "step": 10, "error": "", "wall_s": 2.0, **changes}


def state_of(*events: dict[str, Any]) -> LedgerState:
    """What events add up to, one second apart."""
    state = LedgerState()
    for number, event in enumerate(events):
        state.apply({"time": 1000 * number, **event})
    return state


numbers = st.floats() | st.integers(-(2**53), 2**53)


@given(metrics=st.dictionaries(st.text(max_size=8), numbers, max_size=4), error=st.text(max_size=30))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float], error: str
) -> None:
    """Any metric, NaN and infinities included, and any text come back as they were."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(path, start(), {**report(10), "metrics": metrics}, end(Outcome.FAILED, error=error))
    record = read_ledger(path).trials[KEY]
    assert record.error == error
    assert record.metrics.keys() == metrics.keys()
    for name, value in metrics.items():
        assert record.metrics[name] == float(value) or (math.isnan(value) and math.isnan(record.metrics[name]))


@given(cut=st.integers(min_value=0))
def test_a_torn_last_line_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever the last line is cut, earlier lines are read, and the next writer continues with whole lines."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(path, start(), report(5, miou=1.0))
    whole = path.read_bytes()
    last = encoded({**end(Outcome.FINISHED), "time": 1})
    kept = last[: cut % (len(last) + 1)]
    path.write_bytes(whole + kept)
    complete = kept.rstrip(b"\n") == last.rstrip(b"\n")
    before = read_ledger(path).trials[KEY]
    assert before.outcome is (Outcome.FINISHED if complete else None)
    write(path, {"event": "reuse", "from": "a", "to": "b"})
    after = read_ledger(path)
    assert after.reuse == {("a", "b")}
    assert after.trials[KEY] == before
    assert path.read_bytes().startswith(whole)


def test_a_torn_line_is_kept_beside_the_ledger(tmp_path: Path) -> None:
    """Opening changes nothing; the first event moves the torn bytes to a file of their own."""
    path = tmp_path / "ledger.jsonl"
    write(path, start())
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"report","key":"cafe')
    LedgerWriter(path).close()
    assert path.read_bytes() == whole + b'{"event":"report","key":"cafe'
    write(path, report(5))
    assert path.read_bytes().startswith(whole + b'{"event":"report","key":"cafe-s0-12345678",')
    (kept,) = tmp_path.glob("ledger.jsonl.cut-*")
    assert kept.read_bytes() == b'{"event":"report","key":"cafe\n'


def test_an_event_after_a_half_line_that_could_not_be_taken_back_is_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of the network may refuse both the rest of a line and its removal; what comes next is not glued to it."""
    path = tmp_path / "ledger.jsonl"
    writer = LedgerWriter(path)
    write_whole = os.write

    def half(file: int, data: bytes) -> int:
        return write_whole(file, data[: len(data) // 2])

    def refuse(*_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", half)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(StorageError, match="cannot be written"):
            writer.append(start())
    writer.append(start("other"))
    writer.close()
    assert set(read_ledger(path).trials) == {"other"}
    assert len(list(tmp_path.glob("ledger.jsonl.cut-*"))) == 1


def test_a_torn_first_line_is_replaced(tmp_path: Path) -> None:
    """The very first write may be cut off, too."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"event":"ledger","ver')
    assert not read_ledger(path).trials
    write(path, start())
    assert KEY in read_ledger(path).trials


WHOLE = b"".join(map(encoded, [{"event": "ledger", "version": 1, "time": 0}, {**start(), "time": 1}]))


@pytest.mark.parametrize(
    "content",
    [
        WHOLE.replace(b"\n", b"\r"),
        WHOLE.replace(b"\n", b""),
        WHOLE.replace(b"\n", b"\n\r"),
        WHOLE + b"\0" * 300,
        WHOLE + bytes(range(128, 256)),
        WHOLE + b'{"a":1',
        WHOLE + b'{"event":"future","x":"' + b"y" * 100_000,
        b"a file of another program",
        b'{"event":"start"',
    ],
    ids=["cr", "no line ends", "lf cr", "nul", "not ascii", "no event", "too long", "other file", "no head"],
)
def test_what_cannot_be_a_torn_line_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """Only the beginning of a line of ours is moved away; readers and writers say the same of anything else."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(content)
    for use in (read_ledger, LedgerWriter):
        with pytest.raises(StorageError, match="no line of a ledger that was cut off"):
            use(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_ledger_of_another_version_stays_as_it_is(tmp_path: Path) -> None:
    """The version is read first, and its number is no other kind of value."""
    path = tmp_path / "ledger.jsonl"
    for head in (b'{"event":"ledger","version":2}', b'{"event":"ledger","version":true}', b""):
        path.write_bytes(head + b'\n{"event":"st')
        for use in (read_ledger, LedgerWriter):
            with pytest.raises(StorageError, match="must begin with version 1"):
                use(path)
        assert path.read_bytes() == head + b'\n{"event":"st'


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    """A broken line that is not the last is no torn write: the sentence says which line it is."""
    path = tmp_path / "ledger.jsonl"
    write(path, start())
    path.write_bytes(path.read_bytes() + b'{"event": "sta\n' + encoded({**report(5), "time": 1}))
    with pytest.raises(StorageError, match="Line 3 of the ledger"):
        read_ledger(path)


def test_a_line_that_contradicts_the_rest_is_named(tmp_path: Path) -> None:
    """A report of a trial that never started is a broken ledger, not a Python error."""
    path = tmp_path / "ledger.jsonl"
    write(path, report(5))
    with pytest.raises(StorageError, match=r"Line 2 .*report of trial .cafe-s0-12345678., of which there is no start"):
        read_ledger(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A ledger of another version is neither read nor written."""
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event":"ledger","version":2,"time":0}\n')
    with pytest.raises(StorageError, match="version 1"):
        read_ledger(path)
    with pytest.raises(StorageError, match="version 1"):
        LedgerWriter(path)


def test_a_ledger_that_may_not_be_read_is_a_sentence(unprivileged: Path) -> None:
    """Whatever opens it: commands that read it all, and those that look at its version first."""
    path = unprivileged / "ledger.jsonl"
    path.touch(mode=0)
    for reader in (check_ledger, read_ledger):
        with pytest.raises(StorageError, match=r"cannot be read: Permission denied; give a readable --storage\.$"):
            reader(path)


def test_a_repeat_after_a_resume_is_counted_but_not_read_twice() -> None:
    """A step that was reported before keeps its first report; the steps executed count on."""
    again = {**report(5, executed=8), "metrics": {"miou": 2.0}}
    state = state_of(start(), report(5, miou=1.0), start(attempt=2), again, report(10, executed=13))
    record = state.trials[KEY]
    assert [(each["step"], each["metrics"]) for each in record.reports] == [(5, {"miou": 1.0}), (10, {})]
    assert record.executed_steps == 13
    assert record.attempts == 2


def test_scores_replace_the_report_of_an_evaluation_that_ran_out_of_memory() -> None:
    """Tried again, the trial reports the same step with its scores: these are its result, whichever came first."""
    poor = {**report(10, peak=900.0), "confusion": {}}
    scored = {**report(10, miou=50.0), "confusion": {"student": [[1]]}}
    state = state_of(start(), poor, end(Outcome.OOM), start(attempt=2), scored, end(Outcome.FINISHED))
    assert state.trials[KEY].metrics == {"miou": 50.0}
    state.apply({**poor, "time": 9000})
    assert state.trials[KEY].metrics == {"miou": 50.0}


def test_a_start_opens_an_ended_trial_again() -> None:
    """A failed trial that is tried again is open, keeps its reports, and its seconds add up."""
    state = state_of(start(), report(5), end(Outcome.FAILED, error="boom"), start(attempt=2))
    record = state.trials[KEY]
    assert (record.outcome, record.error, record.ended) == (None, "", None)
    assert record.step == 10
    state.apply({**end(Outcome.FINISHED), "time": 9000})
    assert state.trials[KEY].wall_s == 4.0


def test_seconds_of_an_attempt_without_an_end_count_up_to_its_last_sign_of_life() -> None:
    """A killed attempt took the time up to its last report."""
    state = state_of(start(), report(5), start(attempt=2))
    assert state.trials[KEY].wall_s == 1.0


def test_a_result_of_this_code_comes_before_one_that_stands_for_it() -> None:
    """`counts` honours reuse, through several steps, but prefers the very code; none that other code left open."""
    state = state_of(
        start("k-a", "a"), end(Outcome.FINISHED, "k-a"), start("k-b", "b"), {"event": "reuse", "from": "a", "to": "b"}
    )
    found = state.counts("cafe", 0, "b")
    assert found is not None
    assert found.key == "k-a"  # k-b is open, and a result stands for it
    state.apply({**end(Outcome.OOM, "k-b"), "time": 1})
    assert state.counts("cafe", 0, "b") == state.trials["k-b"]
    state.apply({"event": "reuse", "from": "b", "to": "c", "time": 2})
    nearest = state.counts("cafe", 0, "c")
    assert nearest is not None
    assert nearest.key == "k-b"
    assert state.counts("cafe", 0, "d") is None
    assert state.counts("cafe", 1, "c") is None


ODD = [None, -1, 1.5, 10**400, 2**70, "abc", "", True, [], [1], {}, {"a": {"b": []}}, "../../x", "\ud800", [[["x"]]]]
SOUND: list[dict[str, Any]] = [
    {"event": "launch", "study": "s", "profile": "p", "host": "h", "versions": {"torch": "2"}, "slots": 2},
    {"event": "code", "fingerprint": "12345678ff", "files": {"a.py": "1"}},
    {
        "event": "study", "study": "s", "profile": "p", "title": "S", "benchmark": "b", "metric": "miou",
        "second_metric": None, "seeds": [0], "references": {"base": "cafe"},
        "tables": [{"name": "t", "title": "T", "axis": "a", "metric": "miou", "plot": False, "cells": [
            {"level": "1", "trained": None, "paper": 50.0, "config_id": "cafe", "against": None}]}],
    },
    {"event": "search", "search": "s", "profile": "p", "baselines": {"base": "cafe"}, "criterion": "miou",
     "larger_is_better": True, "explore_seed": 0},
    {"event": "proposal", "search": "s", "profile": "p", "number": 0, "values": {"x": 1.0}, "config_id": "cafe",
     "seed": 0, "key": KEY, "sampler": {"a": [1]}},
    {"event": "selection", "search": "s", "profile": "p", "criterion": "miou", "seed": 0, "numbers": [0],
     "scores": [1.0], "scored": ["cafe"]},
    {"event": "config", "config_id": "cafe", "config": {"class": "C", "x": 1}, "benchmark": "b", "classes": ["road"],
     "planned_steps": 10, "cost_class": "c"},
    {"event": "reuse", "from": "a", "to": "b"},
    {"event": "probe", "benchmark": "b", "cost_class": "c", "step_s": 0.1, "evaluation_s": 1.0, "evaluations": 1,
     "planned_steps": 10},
    {**start(), "data": [{"name": "d", "use": "evaluation", "digest": "1f", "origin": "/d", "facts": {"images": 3}}]},
    {**report(5, miou=1.0), "confusion": {"student": [[1]]}, "pictures": {"a": "a.png"}, "machine": {"device": "cpu"}},
    end(Outcome.STOPPED, rung=1),
]  # fmt: skip


@given(data=st.data())
def test_a_field_of_a_wrong_type_is_read_or_named_by_every_reader(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever a field of a line holds, readers take it or say a sentence about its line, and both say the same."""
    events = [{"event": "ledger", "version": 1, "time": 0}, *({**each, "time": 1} for each in SOUND)]
    number = data.draw(st.integers(1, len(SOUND)))
    field = data.draw(st.sampled_from(sorted(set(events[number]) - {"event"})))
    value = data.draw(st.sampled_from(ODD))
    events[number] = {**events[number], field: value}
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    path.write_bytes(b"".join(map(encoded, events)))
    reader = LedgerReader(path)
    refused = refusal(partial(read_ledger, path))
    assert bool(refused) == bool(refusal(reader.read) or refusal(reader.read))
    assert not refused or re.match(
        rf"Line ({number + 1} of the ledger|\d+ .*(of which there is no start|scores))", refused
    )
    assert len(refused) < 500


def refusal(use: Callable[[], object]) -> str:
    """The sentence with which a reader refuses a ledger; empty where it takes it."""
    try:
        use()
    except (StorageError, BrokenLedgerError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("number", "changes", "fault"),
    [
        (10, {"seed": "abc"}, "start.seed must be an integer from 0 to 2147483647, got 'abc'"),
        (10, {"folder": "../../etc"}, "start.folder must be a relative path without '..', got '../../etc'"),
        (10, {"data": [{"name": "d"}]}, r"start.data\[0\].use must be a string of valid characters, got nothing"),
        (11, {"metrics": {"miou": []}}, "report.metrics.miou must be a number, 'nan', 'inf' or '-inf', got list"),
        (11, {"step": 10**400}, "report.step must be .*, got an integer of more than 60 digits"),
        (11, {"confusion": {"student": [[1, 2]]}}, "report.confusion.student must be a square matrix"),
        (3, {"tables": [{"name": 1}]}, r"study.tables\[0\].name must be a string of valid characters, got 1"),
        (12, {"outcome": "great"}, "end.outcome must be one of diverged, failed, finished, oom, stopped, got 'great'"),
        (7, {"config": {"a": json.loads("[" * 60 + "]" * 60)}}, "config.config.a must be nested at most 50 deep"),
        (1, {"event": ["launch"]}, "its 'event' must be a string, got list"),
        (1, {"time": 2**63}, "launch.time must be an integer from 0 to"),
    ],
)
def test_a_fault_is_named_by_its_innermost_field(
    tmp_path: Path, number: int, changes: dict[str, Any], fault: str
) -> None:
    """The sentence has the field, what it must hold, and what it holds, in few characters."""
    events = [{"event": "ledger", "version": 1, "time": 0}, *({**each, "time": 1} for each in SOUND)]
    events[number] = {**events[number], **changes}
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(map(encoded, events)))
    with pytest.raises(StorageError, match=f"Line {number + 1} .*{fault}"):
        read_ledger(path)


@pytest.mark.parametrize("line", [b"[" * 200_000, b'{"event":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001])
def test_a_line_nested_without_end_is_named(tmp_path: Path, line: bytes) -> None:
    """It is no event, whatever a parser makes of it."""
    path = tmp_path / "ledger.jsonl"
    write(path, start())
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(StorageError, match="Line 3 of the ledger"):
        read_ledger(path)


def test_what_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    """A program that reports nonsense ends its run with a sentence, and the ledger stays readable."""
    path = tmp_path / "ledger.jsonl"
    with pytest.raises(StorageError, match=r"report.metrics.miou must be a number"):
        write(path, start(), {**report(5), "metrics": {"miou": "high"}})
    assert KEY in read_ledger(path).trials


def test_a_newer_driver_may_add_keys_and_leave_values_out(tmp_path: Path) -> None:
    """Keys that are unknown are read over, in tables and cells too; optional ones may be null."""
    path = tmp_path / "ledger.jsonl"
    newer = {**report(5, miou=1.0), "confusion": None, "pictures": None, "machine": {"threads": 4}, "weather": [{}]}
    write(path, {**start(), "weather": 1}, newer, {**end(Outcome.FINISHED), "error": None, "wall_s": None})
    record = read_ledger(path).trials[KEY]
    assert (record.outcome, record.machine) == (Outcome.FINISHED, {"threads": "4"})


def test_the_trial_that_counts_is_of_the_code_that_a_driver_last_declared() -> None:
    """In a `study` event; in ledgers without such declarations, by starting a trial of the config."""
    old = [start("k-a", "a"), report(10, "k-a", miou=10.0), end(Outcome.FINISHED, "k-a")]
    declared = {**SOUND[2], "fingerprints": {"cafe": "b"}}
    assert state_of(*old).finals("cafe", (0, 1), "miou") == {0: 10.0}
    assert state_of(*old, declared).counts("cafe", 0) is None
    begun = state_of(*old, start("k-b", "b")).counts("cafe", 0)
    assert begun is not None
    assert (begun.key, status_of(begun), begun.final("miou")) == ("k-b", Status.OPEN, None)
    assert state_of(*old, declared, {"event": "reuse", "from": "a", "to": "b"}).finals("cafe", (0,), "miou") == {
        0: 10.0
    }
    again = state_of(*old, start("k-b", "b"), {**declared, "fingerprints": {"cafe": "a"}})
    assert again.finals("cafe", (0,), "miou") == {0: 10.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, 10**300])
def test_what_cannot_be_averaged_is_no_final_number(value: float) -> None:
    """A square of it would be no number either."""
    record = state_of(start(), report(10, miou=value, loss=1e100), end(Outcome.FINISHED)).trials[KEY]
    assert (record.final("miou"), record.final("loss"), record.final("other")) == (None, 1e100, None)


def test_unknown_events_are_left_out(tmp_path: Path) -> None:
    """A newer driver may write events that this reader does not know."""
    path = tmp_path / "ledger.jsonl"
    write(path, {"event": "weather", "sun": True}, start())
    assert KEY in read_ledger(path).trials


def test_every_line_carries_the_time_and_is_plain_json(tmp_path: Path) -> None:
    """Other programs can read the ledger: strict JSON a line, time in milliseconds."""
    path = tmp_path / "ledger.jsonl"
    write(path, start(), report(5, miou=math.nan, loss=-math.inf))
    for line in path.read_text().splitlines():
        event = json.loads(line, parse_constant=pytest.fail)
        assert isinstance(event["time"], int)
        assert event["time"] > 1_600_000_000_000
    assert [number for number, _ in read_events(path)] == [1, 2, 3]


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """Before the first launch there is nothing, and that is no error."""
    assert not read_ledger(tmp_path / "ledger.jsonl").trials
