"""Running a search: explore with one seed, confirm the best with all seeds, report. Each goes on where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mfm_tune.commands.options import Options
from mfm_tune.commands.study import (
    Job,
    begin_launch,
    carry_out,
    declare,
    display_class,
    engine_of,
    engine_options,
    interruption_summary,
    places_of,
    report_only,
    say_failures,
    say_passwords,
    settled,
    tracking,
)
from mfm_tune.errors import OptionError
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.signals import RESUME, Interrupted
from mfm_tune.ledger.events import search_event
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.records import Status
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.forecast import StepTimes, duration, makespan, resource_hours
from mfm_tune.planning.loading import Loaded
from mfm_tune.planning.outlook import side_by_side
from mfm_tune.planning.plan import Choice as Wanted
from mfm_tune.planning.plan import Trial, changed_code, results_of_other_code
from mfm_tune.search.candidates import (
    best,
    confirmed_study,
    explored,
    selected,
    selection_event,
    selection_of,
)
from mfm_tune.search.proposals import ExplorationPlan, Explorer, plan_exploration, stopping
from mfm_tune.search_space import Choice, Search

if TYPE_CHECKING:
    from mfm_tune.tracking.mirror import Mirror


@dataclass(frozen=True)
class SearchJob:
    """What one command about a search is about."""

    options: Options
    loaded: Loaded
    search: Search
    code: TrainingCode
    storage: Storage

    def confirmation(self, state: LedgerState) -> Job:
        """The study of the best so far, as a job of its own."""
        study = confirmed_study(self.search, state, self.code)
        return Job(self.options, self.loaded, study, self.code, self.storage, self.search)

    def exploration(self, state: LedgerState) -> ExplorationPlan:
        """The trials of exploring, minus what the ledger has."""
        return plan_exploration(self.search, self.code, state, Wanted(retry=self.options.retry))


def check_options(options: Options) -> None:
    """Refuse what a search has no use for.

    Raises:
        OptionError: --only or --asha is given.
    """
    if options.only:
        raise OptionError("--only picks axes of a study, and a search has none; leave it out.")
    if options.asha:
        raise OptionError(
            "--asha is for tables; a search stops trials by the scheduler that its file declares, so leave it out."
        )


# --------------------------------------------------------------------------------------------------------------------
# --plan and --report-only
# --------------------------------------------------------------------------------------------------------------------


def print_search_plan(job: SearchJob) -> int:
    """Say what would be done. Imports neither torch, ray nor optuna. Returns the exit code."""
    state = read_ledger(job.storage.ledger)
    exploration = job.exploration(state)
    others = results_of_other_code(exploration, state)
    if others and job.options.reuse:
        state.reuse.update(others)  # in memory only
        exploration = job.exploration(state)
    search, study = job.search, job.confirmation(state)
    plan = study.plan(state)
    missing = (search.confirm - len(selected(state, search, job.code))) * len(search.seeds)
    seeds = ", ".join(map(str, search.seeds))
    lines = [
        f"{search.title} (search {search.name}, profile {search.profile})",
        f"  search   {len(search.parameters)} parameters: {', '.join(search.parameters)}",
        f"           {search.sampler}; {search.scheduler or 'nothing stopped early'}; {_chosen_by(search)}",
        f"  explore  {_counted_exploration(exploration)}",
        f"  confirm  the best {search.confirm} and {len(search.baselines)} baselines (seeds {seeds}): "
        f"{len(plan.trials) + missing} trials, {len(plan.to_do) + missing} to do",
        f"  time     {_expected(study, exploration, [*exploration.to_do, *plan.to_do], missing, state)}",
    ]
    print("\n".join(lines))
    if others and not (job.options.reuse or job.options.retrain):
        print(changed_code(exploration, state, others))
    return 0


def report_search(job: SearchJob) -> int:
    """The report from the ledger as it is. Returns the exit code."""
    return report_only(job.confirmation(read_ledger(job.storage.ledger)))


def _chosen_by(search: Search) -> str:
    return f"chosen by {search.criterion.label}{' (oracle selection)' if search.criterion.oracle else ''}"


def _counted_exploration(plan: ExplorationPlan) -> str:
    """`40 points and 2 baselines (seed 0): 12 finished, 1 under way, 29 to propose, 30 trials to do`."""
    search = plan.search
    statuses = Counter(planned.status for planned in plan.trials)
    parts = [f"{statuses[status]} {status.value}" for status in Status if statuses[status] and status is not Status.NEW]
    parts += [f"{plan.to_propose} to propose"] if plan.to_propose else []
    return (
        f"{search.trials} points and {len(search.baselines)} baselines (seed {search.explore_seed}): "
        f"{', '.join([*parts, f'{len(plan.to_do) + plan.to_propose} trials to do'])}"
    )


def _expected(job: Job, plan: ExplorationPlan, trials: Sequence[Trial], missing: int, state: LedgerState) -> str:
    """Time for trials, those to propose, and those of the best that are not chosen yet, each run in full."""
    unknown = plan.to_propose + missing
    if not trials and not unknown:
        return "nothing to do"
    times = StepTimes(state)
    like = plan.trials[-1].trial
    distinct = {trial.key: trial for trial in trials}.values()
    seconds = [(times.seconds(trial), trial.planned_steps - trial.step) for trial in distinct]
    seconds += [(times.seconds(like), like.planned_steps)] * unknown
    known = [each * steps for each, steps in seconds if each is not None]
    if len(known) < len(seconds):
        return "unknown: the ledger has no step time for some of these trials; --probe measures them"
    hours = resource_hours(sum(known), cpus=job.options.cpus_per_trial, gpus=job.gpus_per_trial)
    wall = duration(makespan(known, job.slots))
    saved = "; early stopping saves some" if plan.search.scheduler is not None else ""
    return f"at most about {wall}, {side_by_side(places_of(job))}, {hours}{saved}"


# --------------------------------------------------------------------------------------------------------------------
# The stages
# --------------------------------------------------------------------------------------------------------------------


def train_search(job: SearchJob, argv: Sequence[str]) -> int:
    """Explore, confirm, report, whatever of it is left. The storage is held by this driver. Returns the exit code."""
    with closing(LedgerWriter(job.storage.ledger)) as writer:
        state = read_ledger(job.storage.ledger)
        say_passwords(state, job.storage)
        settled(job.options, job.exploration, state, writer)
        declared = search_event(job.search, state)
        if declared is not None:
            state.apply(writer.append(declared))
        try:
            with tracking(job.options) as mirror:
                return _stages(job, state, writer, argv, mirror)
        except Interrupted as stop:
            print(_interruption_summary(job, state, stop), flush=True)
            raise


def _stages(
    job: SearchJob, state: LedgerState, writer: LedgerWriter, argv: Sequence[str], mirror: Mirror | None
) -> int:
    if not _explore(job, state, writer, argv, mirror):
        return say_failures(job.exploration(state), job.storage)
    return max(_confirm(job, state, writer, argv, mirror), say_failures(job.exploration(state), job.storage))


def _explore(
    job: SearchJob, state: LedgerState, writer: LedgerWriter, argv: Sequence[str], mirror: Mirror | None
) -> bool:
    """Run what is left of exploring, and write down what is to be confirmed. Whether exploring is complete."""
    plan = job.exploration(state)
    print(f"{job.search.name}, profile {job.search.profile}: exploring {_counted_exploration(plan)}", flush=True)
    if plan.to_do or plan.to_propose:
        if _run_exploration(job, plan, writer, argv, mirror):
            print(f"All points of the search that differ are explored: {len(plan.points)} of {job.search.trials}.")
        plan = job.exploration(state)
        if _explores(plan):
            return False
    if selection_of(state, job.search, job.code) is None:
        state.apply(writer.append(selection_event(job.search, plan.points, best(plan.points, job.search))))
    return True


def _explores(plan: ExplorationPlan) -> bool:
    """Whether a trial of exploring has not ended."""
    return any(planned.to_do and planned.status in (Status.NEW, Status.OPEN) for planned in plan.trials)


def _run_exploration(
    job: SearchJob, plan: ExplorationPlan, writer: LedgerWriter, argv: Sequence[str], mirror: Mirror | None
) -> bool:
    """Whether the search ran out of points."""
    from mfm_tune.display.lines import PlainLines
    from mfm_tune.display.search import ExploreProgress, ExploreTable

    study = job.confirmation(plan.state)
    launch = begin_launch(study, plan, plan.state, writer, argv)
    progress = ExploreProgress(plan, plan.state, job.storage, study.slots, mirror.lag if mirror is not None else None)
    with display_class(ExploreTable, PlainLines)(progress, job.storage) as display:
        recorder = Recorder(
            writer,
            plan.state,
            storage=job.storage.root,
            launch=launch,
            study=job.search.name,
            profile=job.search.profile,
            trials=plan.to_do,
            display=display,
        )
        explorer = Explorer(plan, writer, recorder)
        options = replace(engine_options(study, stopping(plan)), representative_configs=_representative_configs(plan))
        engine_of(study)(job.search.program, explorer, recorder, options)
    return explorer.exhausted


def _representative_configs(plan: ExplorationPlan) -> tuple[Any, ...]:
    """Configs that stand for those of points to come, and the options that these choose among."""
    choices = [each for each in plan.search.parameters.values() if isinstance(each, Choice)]
    return (*(each.trial.config for each in plan.trials), *(option for each in choices for option in each.options))


def _confirm(
    job: SearchJob, state: LedgerState, writer: LedgerWriter, argv: Sequence[str], mirror: Mirror | None
) -> int:
    """Train the best and the baselines with all seeds, in full, and write the report. Returns the exit code."""
    from mfm_tune.display.search import explored_text

    points = selected(state, job.search, job.code)
    print(explored_text(job.search, explored(state, job.search, job.code)))
    print(
        f"To confirm: {', '.join(point.name for point in points) or 'no point has a score'}, and the baselines.",
        flush=True,
    )
    study = job.confirmation(state)
    plan = settled(job.options, study.plan, state, writer)
    launch = declare(study, plan, state, writer, argv)
    return carry_out(study, plan, state, writer, launch, mirror)


def _interruption_summary(job: SearchJob, state: LedgerState, stop: Interrupted) -> str:
    """What is said when a signal stopped the search: what is done at this stage, what is open, how to resume."""
    from mfm_tune.display.search import explored_text

    plan = job.exploration(state)
    if selection_of(state, job.search, job.code) is not None and not _explores(plan):
        return interruption_summary(job.confirmation(state), state, stop)
    open_now = sum(planned.status is Status.OPEN for planned in plan.trials)
    going_on = f" The {open_now} in progress go on from their last checkpoints." if open_now else ""
    return (
        f"{explored_text(job.search, plan.points)}\n"
        f"Stopped by {stop.number.name} while exploring {_counted_exploration(plan)}.{going_on} "
        f"{RESUME}"
    )
