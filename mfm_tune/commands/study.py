"""Running a study: what is left of it, with a display and a tracking mirror, then the report."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mfm_tune.commands.options import Options
from mfm_tune.criteria import Criterion
from mfm_tune.errors import StorageError, printable, typed
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.resources import local_gpus, local_slots
from mfm_tune.execution.settings import EngineOptions, Stopping
from mfm_tune.execution.signals import RESUME, Interrupted
from mfm_tune.ledger.events import code_events, launch_event, study_event
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.records import Status
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.ledger.storage import Storage, check_writable
from mfm_tune.ledger.uri import announced_uri, resolved_uri, without_password
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.loading import Loaded
from mfm_tune.planning.outlook import Outlook, Places, outlook
from mfm_tune.planning.plan import (
    Choice,
    Plan,
    Trial,
    changed_code,
    counted,
    make_plan,
    results_of_other_code,
)
from mfm_tune.planning.profiles import PAPER
from mfm_tune.program import Program
from mfm_tune.search_space import Search
from mfm_tune.space import Study

if TYPE_CHECKING:
    from mfm_tune.tracking.mirror import Mirror

REPOSITORY = Path(__file__).resolve().parents[2]
MIRROR_S = 20.0  # how long the end of a run waits for the tracking mirror; the rest is mirrored by the next run
MIRROR_INTERRUPTED_S = 3.0
LINES_OF_TRACEBACK = 4
CLEAN = r"""sed -i -E '/"event":"launch"/s#(://[^:/@"]*):[^"]*@#\1:***@#g'"""  # passwords out of a ledger
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Job:
    """What one command is about; `search` is the one whose best the study confirms."""

    options: Options
    loaded: Loaded
    study: Study
    code: TrainingCode
    storage: Storage
    search: Search | None = None

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
        """How many trials run at once: as the user says for a forecast, else as far as this machine knows."""
        if self.options.slots is not None:
            return self.options.slots
        return 1 if self.options.inline else local_slots(self.options.cpus_per_trial, self.gpus_per_trial)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Config id -> fingerprint of its code, for every config of the study."""
        return self.code.digests(self.study.configs())

    def plan(self, state: LedgerState) -> Plan:
        """The study minus what the ledger has."""
        return make_plan(self.study, state, self.code, self.choice)


def outlook_of(job: Job, plan: Plan, state: LedgerState) -> Outlook:
    """What a plan takes, in words."""
    return outlook(plan.to_do, state, places_of(job))


def places_of(job: Job) -> Places:
    """Where a job's trials will run, as far as it is known before."""
    guessed = job.options.address is not None and job.options.slots is None
    return Places(slots=job.slots, cpus=job.options.cpus_per_trial, gpus=job.gpus_per_trial, guessed=guessed)


# --------------------------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------------------------


def train_study(job: Job, argv: Sequence[str]) -> int:
    """Run what is left and write the report. The storage is held by this driver. Returns the exit code."""
    with closing(LedgerWriter(job.storage.ledger)) as writer:
        state = read_ledger(job.storage.ledger)
        say_passwords(state, job.storage)
        plan = settled(job.options, job.plan, state, writer)
        launch = declare(job, plan, state, writer, argv)
        try:
            with tracking(job.options) as mirror:
                return carry_out(job, plan, state, writer, launch, mirror)
        except Interrupted as stop:
            print(interruption_summary(job, state, stop), flush=True)
            raise


def carry_out(
    job: Job, plan: Plan, state: LedgerState, writer: LedgerWriter, launch: str, mirror: Mirror | None
) -> int:
    """Run a plan's trials, write the report, name what failed. Returns the exit code."""
    print(_headline(job, plan, state), flush=True)
    if plan.to_do:
        _run_trials(job, plan, state, writer, launch, mirror)
    try:
        write_study_report(job, state)
    except BrokenPipeError:
        raise
    except Exception as error:  # the trials are in the ledger, and the exit code is theirs
        why = str(error) if isinstance(error, StorageError) else f"The report cannot be made: {typed(error)};"
        print(f"{why} The trials are kept: --report-only writes it from them.", file=sys.stderr)
    return say_failures(job.plan(state), job.storage)


def check_tracking(options: Options) -> None:
    """Refuse, before anything is written, a storage folder or a URI that cannot be mirrored to."""
    if options.tracking and not options.probe:
        from mfm_tune.tracking.mirror import Target

        Target(options.storage, resolved_uri(options.tracking_uri))


@contextmanager
def tracking(options: Options) -> Iterator[Mirror | None]:
    """The process that carries the ledger to MLflow. What it has not carried when it ends, the next run's will."""
    if not options.tracking:
        yield None
        return
    from mfm_tune.tracking.mirror import start_mirror

    mirror = start_mirror(options.storage, announced_uri(options.tracking_uri))
    patience_s = MIRROR_INTERRUPTED_S
    try:
        yield mirror
        patience_s = MIRROR_S
    finally:
        mirror.finish(patience_s)


def say_passwords(state: LedgerState, storage: Storage) -> None:
    """Say that passwords stand in the ledger, where launches of an early version left those of tracking URIs."""
    words = (str(word) for launch in state.launches for word in launch.get("argv", ()))
    if any(without_password(word) != word for word in words):
        print(
            f"The ledger {storage.ledger} holds the password of a --tracking-uri; when no run is on, take it out: "
            f"{CLEAN} {shlex.quote(str(storage.ledger))}",
            flush=True,
        )


def settled(options: Options, plan_of: Callable[[LedgerState], Plan], state: LedgerState, writer: LedgerWriter) -> Plan:
    """The plan, once it is clear what happens to results of other code. From here on the ledger is written.

    Raises:
        ChangedCodeError: There are such results, and neither --reuse nor --retrain is given.
    """
    plan = plan_of(state)
    others = results_of_other_code(plan, state)
    if others and not (options.reuse or options.retrain):
        raise changed_code(plan, state, others)
    torn = writer.mend()
    if torn is not None:
        print(f"The ledger's last line was torn; what there was of it lies in {torn}.", flush=True)
    if not others or options.retrain:
        return plan
    for before, today in others:
        state.apply(writer.append({"event": "reuse", "from": before, "to": today}))
    return plan_of(state)


def declare(job: Job, plan: Plan, state: LedgerState, writer: LedgerWriter, argv: Sequence[str]) -> str:
    """Write what the study declares, and, where trials follow, the launch and its code. Returns the launch's name."""
    declared = study_event(job.study, state, job.fingerprints)
    if declared is not None:
        state.apply(writer.append(declared))
    return begin_launch(job, plan, state, writer, argv) if plan.to_do else ""


def begin_launch(job: Job, plan: Plan, state: LedgerState, writer: LedgerWriter, argv: Sequence[str]) -> str:
    """Write the launch and its code. Returns the launch's name."""
    launch = secrets.token_hex(4)
    slots = 0 if job.options.address else job.slots
    state.apply(writer.append(launch_event(job.study, launch, argv, slots)))
    for event in list(code_events({digest: each.files for digest, each in plan.fingerprints.items()}, state)):
        state.apply(writer.append(event))
    return launch


def _headline(job: Job, plan: Plan, state: LedgerState) -> str:
    where = f"on {job.options.address}" if job.options.address else f"{job.slots} at a time"
    return (
        f"{job.study.name}, profile {job.study.profile}: {len(plan.cells)} cells, {plan.distinct} configs, "
        f"{len(plan.trials)} trials ({counted(plan)}), {where}; expected time: {outlook_of(job, plan, state).time}"
    )


def _run_trials(
    job: Job, plan: Plan, state: LedgerState, writer: LedgerWriter, launch: str, mirror: Mirror | None
) -> None:
    from mfm_tune.display.lines import PlainLines
    from mfm_tune.display.progress import Progress
    from mfm_tune.display.table import LiveTable

    progress = Progress(plan, state, job.storage, job.slots, mirror.lag if mirror is not None else None)
    with display_class(LiveTable, PlainLines)(progress, job.storage) as display:
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
        engine_of(job)(job.study.program, plan.to_do, recorder, engine_options(job, _stopping(job, plan, state)))


def display_class(on_terminal: T, elsewhere: U) -> T | U:
    """Which of two displays suits the standard output."""
    return on_terminal if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else elsewhere


def engine_of(job: Job) -> Callable[[Program, Iterable[Trial], Recorder, EngineOptions], None]:
    if job.options.inline:
        from mfm_tune.execution.inline import run_inline

        return run_inline
    from mfm_tune.tune.engine import run_with_ray

    return run_with_ray


def engine_options(job: Job, stopping: Stopping | None = None) -> EngineOptions:
    """How trials of a job are run."""
    return EngineOptions(
        storage=job.storage.root,
        data=job.options.data,
        cpus_per_trial=job.options.cpus_per_trial,
        gpus_per_trial=job.gpus_per_trial,
        address=job.options.address,
        stopping=stopping,
        import_paths=tuple(dict.fromkeys((str(job.loaded.root), str(REPOSITORY)))),
        verbose=job.options.verbose,
    )


def _stopping(job: Job, plan: Plan, state: LedgerState) -> Stopping | None:
    """Early stopping of a table, which only the user asks for. References go on: every cell is compared with them."""
    if not job.options.asha:
        return None
    keys = [planned.record.key for planned in plan.trials if planned.record is not None]
    references = set(job.study.reference_ids.values())
    return Stopping(
        criterion=Criterion(key=job.study.metric, label=job.study.metric),
        never=frozenset(each.trial.key for each in plan.trials if each.trial.config_id in references),
        history=state.history(keys),
    )


def report_only(job: Job) -> int:
    """The report from the ledger as it is. Results of other code are shown, marked, and named in a line here. Returns
    the exit code."""
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
    write_study_report(job, state)
    return 0


# --------------------------------------------------------------------------------------------------------------------
# The end
# --------------------------------------------------------------------------------------------------------------------


def write_study_report(job: Job, state: LedgerState) -> None:
    """Write the whole study's report, and print its tables and where it lies."""
    from mfm_tune.report.write import write_report, write_search_report

    folder, storage = job.storage.report(job.study.name, job.study.profile), job.storage.root
    try:
        files = (
            write_report(job.study, state, folder, storage=storage, fingerprints=job.fingerprints)
            if job.search is None
            else write_search_report(job.search, state, folder, storage=storage, code=job.code)
        )
    except OSError as error:
        raise StorageError(
            f"The report cannot be written to {folder}: {error.strerror}; free space, or give another --storage."
        ) from error
    print(_tables(job, state))
    print(files)
    for sentence in files.lost:
        print(sentence, file=sys.stderr)


def _tables(job: Job, state: LedgerState) -> str:
    """The study's tables as far as they are filled."""
    from mfm_tune.report.write import terminal_search, terminal_table

    try:
        if job.search is not None:
            return terminal_search(job.search, state, code=job.code)
        return terminal_table(job.study, state, fingerprints=job.fingerprints)
    except Exception as error:  # what is printed of a result must not cost what is said of the others
        return f"The tables cannot be printed: {typed(error)}"


def interruption_summary(job: Job, state: LedgerState, stop: Interrupted) -> str:
    """What is said when a signal stopped the run: the tables so far, what is open, how to resume."""
    plan = job.plan(state)
    open_now = sum(planned.status is Status.OPEN for planned in plan.trials)
    going_on = f" The {open_now} in progress go on from their last checkpoints." if open_now else ""
    return (
        f"{_tables(job, state)}\n"
        f"Stopped by {stop.number.name}: of {len(plan.trials)} trials {counted(plan)}.{going_on} "
        f"{RESUME}"
    )


def say_failures(plan: Plan, storage: Storage) -> int:
    """Name the trials that failed, with the last lines of their tracebacks. Returns the exit code."""
    failed = [planned for planned in plan.trials if planned.status is Status.FAILED]
    for planned in failed:
        record = planned.record
        if record is None:
            continue
        lines = [line for line in printable(record.error).splitlines() if line.strip()][-LINES_OF_TRACEBACK:]
        print(f"{plan.name_of(record.config_id)}, seed {record.seed} failed:", *lines, sep="\n    ", file=sys.stderr)
        print(f"    all of it: {storage.error_file(record.folder)}", file=sys.stderr)
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
