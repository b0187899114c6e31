"""The command line: plan, run, report.

    python -m mfm_tune.run                                     lists the search spaces there are
    python -m mfm_tune.run search_spaces/table2.py --plan      says what would be done
    python -m mfm_tune.run search_spaces/table2.py             does what is left, and writes the report

Exit codes: 0 done, 1 a trial failed, 2 bad input (one sentence on stderr), 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
import secrets
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mfm_tune.engine import EngineOptions, Interrupted, local_gpus, local_slots, signals_as_interruption
from mfm_tune.errors import StorageError, UserError
from mfm_tune.events import code_events, launch_event, study_event
from mfm_tune.fingerprint import TrainingCode
from mfm_tune.forecast import StepTimes, duration, expected_seconds
from mfm_tune.ledger import LedgerState, LedgerWriter, read_ledger
from mfm_tune.loading import Loaded, load_search_space, summaries
from mfm_tune.options import Options, parse_options
from mfm_tune.plan import (
    Choice,
    Plan,
    Status,
    Trial,
    all_configs,
    changed_code,
    counted,
    describe,
    make_plan,
    results_of_other_code,
    selected_tables,
)
from mfm_tune.profiles import PAPER, check_data, choose_study
from mfm_tune.program import Program
from mfm_tune.recorder import Recorder, error_file
from mfm_tune.space import Study
from mfm_tune.storage import Storage, check_writable, driver

if TYPE_CHECKING:
    from mfm_tune.live import LiveTable, PlainLines, Progress
    from mfm_tune.tracking import Mirror

REPOSITORY = Path(__file__).resolve().parents[1]
MIRROR_S = 20.0  # how long the end of a run waits for the tracking mirror; the rest is mirrored by the next run
MIRROR_INTERRUPTED_S = 3.0
LINES_OF_TRACEBACK = 4


@dataclass(frozen=True)
class Job:
    """What one command is about."""

    options: Options
    loaded: Loaded
    study: Study
    code: TrainingCode
    storage: Storage

    @property
    def choice(self) -> Choice:
        """Which trials are wanted."""
        return Choice(only=self.options.only, retry=self.options.retry, asha=self.options.asha)

    @property
    def gpus_per_trial(self) -> float:
        """GPUs of a trial: as asked for, else one for the paper profile, where there is one or a cluster is named."""
        if self.options.gpus_per_trial is not None:
            return self.options.gpus_per_trial
        return 1.0 if self.study.profile == PAPER and (self.options.address or local_gpus()) else 0.0

    @property
    def slots(self) -> int:
        """How many trials run at once, as far as this machine knows."""
        return 1 if self.options.inline else local_slots(self.options.cpus_per_trial, self.gpus_per_trial)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Config id -> fingerprint of its code, for every config of the study."""
        return {name: self.code.fingerprint(config).digest for name, config in all_configs(self.study).items()}

    def plan(self, state: LedgerState) -> Plan:
        """The study minus what the ledger has."""
        return make_plan(self.study, state, self.code, self.choice)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(parse_options(given), given)
    except UserError as error:
        if "-v" in given or "--verbose" in given:
            traceback.print_exc()
        print(error, file=sys.stderr)
        return 2
    except Interrupted as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(options: Options, argv: Sequence[str]) -> int:
    if options.file is None:
        return _list_search_spaces()
    loaded = load_search_space(options.file)
    chosen = choose_study(loaded, options.profile, options.data)
    study = chosen.study if options.seeds is None else replace(chosen.study, seeds=options.seeds)
    selected_tables(study, options.only)  # an unknown name is refused before anything is written
    check_data(loaded, study, options.data, to_train=not (options.plan or options.report_only))
    job = Job(options, loaded, study, TrainingCode(study.program.packages), Storage(options.storage))
    if chosen.notice:
        print(chosen.notice)
    if options.plan:
        return _print_plan(job)
    if options.report_only:
        return _report_only(job)
    with signals_as_interruption(), driver(job.storage):
        return _train(job, argv)


def _list_search_spaces() -> int:
    """Those in `search_spaces` here, else those that come with the project, each with its first sentence."""
    here = Path("search_spaces")
    found = summaries(here if here.is_dir() else REPOSITORY / here)
    width = max((len(str(path)) for path, _ in found), default=0)
    for path, summary in found:
        print(f"{path!s:{width}}  {summary}")
    return 0


def _print_plan(job: Job) -> int:
    state = read_ledger(job.storage.ledger)
    plan = job.plan(state)
    others = results_of_other_code(plan, state)
    if others and job.options.reuse:
        state.reuse.update(others)  # in memory only
        plan = job.plan(state)
    print("\n".join(describe(plan, _expected(job, plan, state))))
    if others and not (job.options.reuse or job.options.retrain):
        print(changed_code(plan, state, others))
    return 0


def _report_only(job: Job) -> int:
    """The report from the ledger as it is. Results of other code are shown, marked, and named in a line here."""
    if not job.storage.ledger.is_file():
        raise StorageError(f"There is no ledger in {job.storage.root} to report from; give the --storage of a run.")
    state = read_ledger(job.storage.ledger)
    plan = job.plan(state)
    others = results_of_other_code(plan, state)
    if others:
        if not job.options.reuse:
            print(f"The report marks results of earlier code: {changed_code(plan, state, others)}")
        state.reuse.update(others)
    check_writable(job.storage)
    _write_report(job, state)
    return 0


def _expected(job: Job, plan: Plan, state: LedgerState) -> str:
    if not plan.to_do:
        return "nothing to do"
    seconds = expected_seconds(plan.to_do, StepTimes(state), job.slots)
    if seconds is None:
        return "unknown: the ledger has no step time for some of these trials yet"
    return f"about {duration(seconds)}, {_side_by_side(job)}"


def _side_by_side(job: Job) -> str:
    if job.options.address:
        return f"if as many trials run side by side on the cluster as would here ({job.slots})"
    return "one trial after the other" if job.slots == 1 else f"{job.slots} trials side by side"


# --------------------------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------------------------


def _train(job: Job, argv: Sequence[str]) -> int:
    """Run what is left and write the report. The storage is held by this driver."""
    with closing(LedgerWriter(job.storage.ledger)) as writer:
        state = read_ledger(job.storage.ledger)
        plan = _settled(job, state, writer)
        launch = _declare(job, plan, state, writer, argv)
        print(_headline(job, plan, state), flush=True)
        with _tracking(job) as mirror:
            try:
                if plan.to_do:
                    _run_trials(job, plan, state, writer, launch, mirror)
                after = job.plan(state)
                _write_report(job, state)
            except Interrupted as stop:
                print(_farewell(job, state, stop), flush=True)
                raise
    return _say_failures(job, after)


@contextmanager
def _tracking(job: Job) -> Iterator[Mirror | None]:
    """The process that carries the ledger to MLflow. What it has not carried when it ends, the next run's will."""
    if not job.options.tracking:
        yield None
        return
    from mfm_tune.tracking import start_mirror

    mirror = start_mirror(job.storage.root, job.options.tracking_uri)
    patience_s = MIRROR_INTERRUPTED_S
    try:
        yield mirror
        patience_s = MIRROR_S
    finally:
        mirror.finish(patience_s)


def _settled(job: Job, state: LedgerState, writer: LedgerWriter) -> Plan:
    """The plan, once it is clear what happens to results of other code.

    Raises:
        ChangedCodeError: There are such results, and neither --reuse nor --retrain is given.
    """
    plan = job.plan(state)
    others = results_of_other_code(plan, state)
    if not others or job.options.retrain:
        return plan
    if not job.options.reuse:
        raise changed_code(plan, state, others)
    for before, today in others:
        state.apply(writer.append({"event": "reuse", "from": before, "to": today}))
    return job.plan(state)


def _declare(job: Job, plan: Plan, state: LedgerState, writer: LedgerWriter, argv: Sequence[str]) -> str:
    """Write what the study declares, and, where trials follow, the launch and its code. Returns the launch's name."""
    launch = secrets.token_hex(4)
    declared = study_event(job.study, state)
    if declared is not None:
        state.apply(writer.append(declared))
    if plan.to_do:
        slots = 0 if job.options.address else job.slots
        state.apply(writer.append(launch_event(job.study, launch, argv, slots)))
        for event in list(code_events(plan, state)):
            state.apply(writer.append(event))
    return launch


def _headline(job: Job, plan: Plan, state: LedgerState) -> str:
    where = f"on {job.options.address}" if job.options.address else f"{job.slots} at a time"
    return (
        f"{job.study.name}, profile {job.study.profile}: {len(plan.cells)} cells, {plan.distinct} configs, "
        f"{len(plan.trials)} trials ({counted(plan)}), {where}; expected time: {_expected(job, plan, state)}"
    )


def _run_trials(
    job: Job, plan: Plan, state: LedgerState, writer: LedgerWriter, launch: str, mirror: Mirror | None
) -> None:
    from mfm_tune.live import Progress

    progress = Progress(plan, state, job.storage, job.slots, mirror.lag if mirror is not None else None)
    with _display(progress, job.storage) as display:
        recorder = Recorder(
            writer,
            state,
            storage=job.storage.root,
            launch=launch,
            study=job.study.name,
            profile=job.study.profile,
            trials=plan.to_do,
            display=display,
        )
        _engine(job)(job.study.program, plan.to_do, recorder, _engine_options(job, plan))


def _display(progress: Progress, storage: Storage) -> LiveTable | PlainLines:
    from mfm_tune.live import LiveTable, PlainLines

    on_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return LiveTable(progress, storage) if on_terminal else PlainLines(progress, storage)


def _engine(job: Job) -> Callable[[Program, Sequence[Trial], Recorder, EngineOptions], None]:
    if job.options.inline:
        from mfm_tune.inline import run_inline

        return run_inline
    from mfm_tune.tuning import run_with_ray

    return run_with_ray


def _engine_options(job: Job, plan: Plan) -> EngineOptions:
    return EngineOptions(
        storage=job.storage.root,
        data=job.options.data,
        cpus_per_trial=job.options.cpus_per_trial,
        gpus_per_trial=job.gpus_per_trial,
        address=job.options.address,
        asha=job.options.asha,
        metric=job.study.metric,
        history=tuple(planned.record for planned in plan.trials if planned.record is not None),
        import_paths=tuple(dict.fromkeys((str(job.loaded.root), str(REPOSITORY)))),
        verbose=job.options.verbose,
    )


# --------------------------------------------------------------------------------------------------------------------
# The end
# --------------------------------------------------------------------------------------------------------------------


def _write_report(job: Job, state: LedgerState) -> None:
    """Write the whole study's report, and print its tables and where it lies."""
    from mfm_tune.report import write_report

    folder = job.storage.report(job.study.name, job.study.profile)
    try:
        files = write_report(job.study, state, folder, storage=job.storage.root, fingerprints=job.fingerprints)
    except OSError as error:
        raise StorageError(
            f"The report cannot be written to {folder}: {error.strerror}; free space, or give another --storage."
        ) from error
    print(_tables(job, state))
    print(files)


def _tables(job: Job, state: LedgerState) -> str:
    """The study's tables as far as they are filled."""
    from mfm_tune.report import terminal_table

    return terminal_table(job.study, state, fingerprints=job.fingerprints)


def _farewell(job: Job, state: LedgerState, stop: Interrupted) -> str:
    """What is said when a signal stopped the run: the tables so far, what is open, how to carry on."""
    plan = job.plan(state)
    open_now = sum(planned.status is Status.OPEN for planned in plan.trials)
    going_on = f" The {open_now} in progress go on from their last checkpoints." if open_now else ""
    return (
        f"{_tables(job, state)}\n"
        f"Stopped by {stop.number.name}: of {len(plan.trials)} trials {counted(plan)}.{going_on} "
        "To carry on, give the same command again."
    )


def _say_failures(job: Job, plan: Plan) -> int:
    """Name the trials that failed, with the last lines of their tracebacks. Returns the exit code."""
    failed = [planned for planned in plan.trials if planned.status is Status.FAILED]
    for planned in failed:
        record = planned.record
        if record is None:
            continue
        lines = [line for line in record.error.splitlines() if line.strip()][-LINES_OF_TRACEBACK:]
        print(f"{plan.name_of(record.config_id)}, seed {record.seed} failed:", *lines, sep="\n    ", file=sys.stderr)
        print(f"    all of it: {error_file(job.storage.root, record.folder)}", file=sys.stderr)
    left = sum(planned.status in (Status.NEW, Status.OPEN) for planned in plan.trials)
    if left:
        print(f"Not finished, for no reason of their own: {left} trials; the same command goes on.", file=sys.stderr)
    if not failed:
        return 1 if left else 0
    many = (
        "1 trial failed; the same command tries it again."
        if len(failed) == 1
        else (f"{len(failed)} trials failed; the same command tries them again.")
    )
    print(many, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
