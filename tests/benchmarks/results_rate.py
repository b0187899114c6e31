"""How many results a second the ledger takes: `python -m tests.benchmarks.results_rate`.

A result is what a real trial reports: 40 metrics and two confusion matrices of 7 classes. Measured are the parts of its
way: append (written to the file), apply (added to the state in memory), both with the display told, the end of a trial
(with fsync), and reading the whole file again, as every launch and every `--plan` does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mfm_tune.display.progress import Progress
from mfm_tune.execution.recorder import Recorder
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.plan import Choice, make_plan
from mfm_tune.program import Outcome, Report
from mfm_tune.space import Axis, Study, Table
from tests.mfm_tune.stub_program import StubConfig, StubProgram

CLASSES = 7
METRICS = {f"student/iou/class_{number}": 12.345678901234 + number for number in range(40)}
CONFUSION = {
    name: [[1234 * row + column for column in range(CLASSES)] for row in range(CLASSES)]
    for name in ("student", "teacher")
}


@dataclass(frozen=True)
class Rate:
    """What was measured."""

    what: str
    results: int
    seconds: float
    cpu_s: float

    def __str__(self) -> str:
        rate, cpu = self.results / self.seconds, 1e6 * self.cpu_s / self.results
        return f"{self.what:42} {self.results:8d} {rate:12,.0f} {cpu:16,.0f}"


def timed(what: str, results: int, work: Callable[[], None]) -> Rate:
    """Time some work that takes in so many results."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return Rate(what, results, time.perf_counter() - started, time.process_time() - cpu)


def study(configs: int, seeds: int) -> Study:
    """A table of stub configs."""
    axis = Axis(name="level", levels=tuple((n, None) for n in range(configs)), make=lambda n: StubConfig(level=n))
    tables = (Table(name="a", title="A", axis=axis),)
    return Study(
        name="rate", title="Rate", profile="smoke", program=StubProgram(), tables=tables, seeds=tuple(range(seeds))
    )


def report(step: int, steps: int) -> Report:
    """A report as a real trial makes it."""
    machine = {"device": "cpu", "device_name": "cpu", "torch": "2.11", "threads": "1", "precision": "float32"}
    return Report(
        step=step, planned_steps=steps, executed_steps=step, metrics=METRICS, confusion=CONFUSION, machine=machine
    )


def measure(configs: int, seeds: int, reports: int, folder: Path) -> list[Rate]:
    """All rates, over `configs` x `seeds` trials of `reports` reports each."""
    declared = study(configs, seeds)
    state = LedgerState()
    plan = make_plan(declared, state, TrainingCode(StubProgram().packages), Choice())
    trials, total = plan.to_do, configs * seeds * reports
    storage = Storage(folder)
    writer = LedgerWriter(storage.ledger)
    progress = Progress(plan, state, storage, 2)
    recorder = Recorder(
        Ledger(writer, state),
        storage=folder,
        launch="l",
        study="rate",
        profile="smoke",
        trials=trials,
        display=progress,
    )
    for trial in trials:
        recorder.started(trial.key, 1)
    rates = [
        timed("recorder: append, apply, tell display", total, lambda: _report_all(recorder, trials, reports)),
        timed("end of a trial, with fsync", len(trials), lambda: _end_all(recorder, trials)),
    ]
    events = [{"event": "report", "key": trial.key, **report(1 + reports, reports)} for trial in trials]
    rates.append(timed("append alone", len(events), lambda: [writer.append(event) for event in events] and None))
    timed_events = [{**event, "step": 2 + reports, "time": 0} for event in events]
    rates.append(timed("apply alone", len(events), lambda: [state.apply(event) for event in timed_events] and None))
    writer.close()
    rates.append(timed("read the whole ledger", total + len(events), lambda: read_ledger(storage.ledger) and None))
    return rates


def _report_all(recorder: Recorder, trials: tuple[Trial, ...], reports: int) -> None:
    for step in range(1, reports + 1):
        for trial in trials:
            recorder.reported(trial.key, report(step, reports))


def _end_all(recorder: Recorder, trials: tuple[Trial, ...]) -> None:
    for trial in trials:
        recorder.ended(trial.key, Outcome.FINISHED)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=19)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reports", type=int, default=40, help="reports a trial")
    given = parser.parse_args()
    print(f"{given.configs} configs x {given.seeds} seeds x {given.reports} reports")
    print(f"{'':42} {'results':>8} {'results/s':>12} {'CPU us a result':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for rate in measure(given.configs, given.seeds, given.reports, Path(folder)):
            print(rate)


if __name__ == "__main__":
    main()
