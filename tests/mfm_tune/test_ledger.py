"""The ledger: what is written is read again, and a torn last line costs nothing but itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfm_tune.errors import StorageError
from mfm_tune.ledger import LedgerState, LedgerWriter, encoded, read_events, read_ledger
from mfm_tune.program import Outcome

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
    with pytest.raises(StorageError, match=r"Line 2 .*KeyError"):
        read_ledger(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A ledger of another version is neither read nor written."""
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event":"ledger","version":2,"time":0}\n')
    with pytest.raises(StorageError, match="version 1"):
        read_ledger(path)
    with pytest.raises(StorageError, match="version 1"):
        LedgerWriter(path)


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
    """`find` honours reuse, through several steps, but prefers the very code; open ones of other code are not found."""
    state = state_of(
        start("k-a", "a"), end(Outcome.FINISHED, "k-a"), start("k-b", "b"), {"event": "reuse", "from": "a", "to": "b"}
    )
    found = state.find("cafe", 0, "b")
    assert found is not None
    assert found.key == "k-a"  # k-b is open, and a result stands for it
    state.apply({**end(Outcome.OOM, "k-b"), "time": 1})
    assert state.find("cafe", 0, "b") == state.trials["k-b"]
    state.apply({"event": "reuse", "from": "b", "to": "c", "time": 2})
    nearest = state.find("cafe", 0, "c")
    assert nearest is not None
    assert nearest.key == "k-b"
    assert state.find("cafe", 0, "d") is None
    assert state.find("cafe", 1, "c") is None


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
