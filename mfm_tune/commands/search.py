"""The commands of a search: explore with one seed, confirm the best with all seeds, report. Each stage resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm_tune.commands.dry_runs import probe_costs, replay
from mfm_tune.commands.sentences import stopped
from mfm_tune.commands.session import Session
from mfm_tune.commands.study import StudyCommand, print_failures
from mfm_tune.errors import OptionError
from mfm_tune.execution.settings import Stopping
from mfm_tune.execution.signals import Interrupted
from mfm_tune.fields import hyphened
from mfm_tune.ledger.events import search_event
from mfm_tune.ledger.records import Status, Trial
from mfm_tune.planning.checks import check_search
from mfm_tune.planning.forecast import ALONE, StepTimes, duration, forecast, measured_alone, resource_hours, source
from mfm_tune.planning.loading import errors_with_place
from mfm_tune.planning.plan import Choice as Wanted
from mfm_tune.planning.plan import by_status, in_brackets
from mfm_tune.search.candidates import best, candidates_of, confirmed_study, selected, selection_event, selection_of
from mfm_tune.search.proposals import ExplorationPlan, Explorer, plan_exploration, stopping
from mfm_tune.search_space import Asha, Choice, Search

if TYPE_CHECKING:
    from mfm_tune.report.write import ReportFiles


@dataclass(frozen=True)
class Confirmation(StudyCommand):
    """The study of a search's best so far; its report is the search's."""

    search: Search

    def _report_files(self, folder: Path) -> ReportFiles:
        from mfm_tune.report.write import write_search_report

        session = self.session
        return write_search_report(
            self.search,
            session.state,
            folder,
            storage=session.storage.root,
            code=session.code,
            paper=session.options.paper,
        )

    def _terminal_text(self) -> str:
        from mfm_tune.report.terminal import terminal_search

        return terminal_search(self.search, self.session.state, code=self.session.code)


@dataclass(frozen=True)
class SearchCommand:
    """What is done with a search."""

    session: Session
    search: Search

    def check(self) -> None:
        """Raise a `UserError` where an option is a study's, or trials do not report what the search compares."""
        if self.session.options.only:
            raise OptionError("--only picks axes of a study, and a search has none; leave it out.")
        if self.session.options.asha:
            raise OptionError(
                "--asha is for tables; a search stops trials by the scheduler that its file declares, so leave it out."
            )
        if self.session.options.half_width is not None:
            raise OptionError(
                "--half-width is for the tables of a study; a search confirms its best with the seeds of its file, so "
                "leave it out."
            )
        with errors_with_place(self.session.path):
            check_search(self.search)

    def confirmation(self) -> Confirmation:
        """The study of the best so far."""
        study = confirmed_study(self.search, self.session.state, self.session.code)
        return Confirmation(self.session, study, self.search)

    def exploration(self) -> ExplorationPlan:
        """The trials of exploring, minus what the ledger has."""
        session = self.session
        return plan_exploration(self.search, session.code, session.state, Wanted(retry=session.options.retry))

    def plan(self) -> int:
        """Print what would be trained and what that takes. Imports neither torch, ray nor optuna."""
        exploration, notice = self.session.previewed(self.exploration)
        search, plan = self.search, self.confirmation().planned()
        missing = (search.confirm - len(selected(self.session.state, search, self.session.code))) * len(search.seeds)
        seeds = ", ".join(map(str, search.seeds))
        chosen_by = f"chosen by {search.criterion.label}{' (oracle selection)' if search.criterion.oracle else ''}"
        lines = [
            f"{search.title} (search {search.name}, profile {hyphened(search.profile)})",
            f"  search   {len(search.parameters)} parameters: {', '.join(search.parameters)}",
            f"           {search.sampler}; {search.scheduler or 'nothing stopped early'}; {chosen_by}",
            f"  explore  {_counted_exploration(exploration)}",
            f"  confirm  the best {search.confirm} and {len(search.baselines)} baselines (seeds {seeds}): "
            f"{len(plan.trials) + missing} trials, {len(plan.to_do) + missing} to do",
            f"  time     {self._expected(exploration, [*exploration.to_do, *plan.to_do], missing)}",
            *([notice] if notice else []),
        ]
        print("\n".join(lines))
        return 0

    def probe(self) -> int:
        """Measure costs that the ledger does not have, then print the plan. Candidates that are still to be proposed
        are like those that are known."""
        with self.session.writing():
            known = [planned.trial for planned in self.exploration().trials]
            probe_costs(self.session, [*self.confirmation().planned().to_do, *known])
        return self.plan()

    def simulate(self) -> int:
        """Replay finished trials with early stopping and without it. The best is chosen among candidates alone:
        baselines are confirmed anyhow."""
        plan, notice = self.session.previewed(self.exploration)
        if notice:
            print(notice)
        rule = Stopping(scheduler=self.search.scheduler or Asha(), criterion=self.search.criterion)
        return replay(self.session, plan, rule, self.search.baseline_ids.values(), baselines_win=False)

    def train(self) -> int:
        """Explore, confirm, report, whatever of it is left."""
        with self.session.writing():
            self.session.warn_of_passwords()
            self.session.resolve_code_change(self.exploration)
            declared = search_event(self.search, self.session.state)
            if declared is not None:
                self.session.ledger.append(declared)
            try:
                with self.session.tracking():
                    confirmed = self._confirm() if self._explore() else 0
                    return max(confirmed, print_failures(self.exploration(), self.session.storage))
            except Interrupted as stop:
                print(self._interruption_summary(stop), flush=True)
                raise

    def report(self) -> int:
        """Write the report from the ledger as it is."""
        return self.confirmation().report()

    @property
    def _is_selected(self) -> bool:
        return selection_of(self.session.state, self.search, self.session.code) is not None

    def _expected(self, plan: ExplorationPlan, trials: Sequence[Trial], missing: int) -> str:
        """Time for trials, those to propose, and those of the best that are not chosen yet, each run in full."""
        unknown = plan.to_propose + missing
        if not trials and not unknown:
            return "nothing to do"
        slots, like = self.session.slots, replace(plan.trials[-1].trial, step=0)
        distinct = {trial.key: trial for trial in trials}.values()
        table = self.session.step_table
        times = StepTimes(self.session.state, table, gpu=slots.gpus > 0)
        all_trials = [*distinct, *[like] * unknown]
        expected = forecast(all_trials, times, slots.count)
        if expected.wall_s is None:
            return "unknown: there is no step time for some of these trials; --probe measures them"
        hours = resource_hours(expected.busy_s, cpus=slots.cpus, gpus=slots.gpus)
        saved = "; early stopping saves some" if plan.search.scheduler is not None else ""
        as_if = ALONE if measured_alone(all_trials, times, slots) else ""
        measured = source(all_trials, times, table)
        return f"at most about {duration(expected.wall_s)}, {slots}, {hours}{as_if}{measured}{saved}"

    def _explore(self) -> bool:
        """Run what is left of exploring, and write down what is to be confirmed. Whether exploring is complete."""
        plan = self.exploration()
        print(
            f"{self.search.name}, profile {hyphened(self.search.profile)}: exploring {_counted_exploration(plan)}",
            flush=True,
        )
        if plan.to_do or plan.to_propose:
            if self._run_exploration(plan):
                explored = f"{len(plan.candidates)} of {self.search.trials}"
                print(f"All candidates of the search that differ are explored: {explored}.")
            plan = self.exploration()
            if _explores(plan):
                return False
        if not self._is_selected:
            self.session.ledger.append(
                selection_event(self.search, plan.candidates, best(plan.candidates, self.search))
            )
        return True

    def _run_exploration(self, plan: ExplorationPlan) -> bool:
        """Whether the search ran out of candidates."""
        from mfm_tune.display.search import ExploreProgress, ExploreTable

        session = self.session
        progress = session.progress(ExploreProgress, plan)
        options = session.engine_options(stopping(plan), _representative(plan))
        with session.recording(plan, progress, ExploreTable) as recorder:
            explorer = Explorer(plan, session.ledger, recorder)
            session.run(explorer, recorder, options)
        return explorer.exhausted

    def _confirm(self) -> int:
        """Train the best and the baselines with all seeds, in full, and write the report. Returns the exit code."""
        from mfm_tune.display.search import explored_text

        session = self.session
        names = [candidate.name for candidate in selected(session.state, self.search, session.code)]
        print(explored_text(self.search, candidates_of(session.state, self.search, session.code)))
        print(f"To confirm: {', '.join(names) or 'no candidate has a score'}, and the baselines.", flush=True)
        return self.confirmation().continue_training()

    def _interruption_summary(self, stop: Interrupted) -> str:
        """What is printed when a signal stopped the search: what is done at this stage, what is open, how to resume."""
        plan = self.exploration()
        if self._is_selected and not _explores(plan):
            return self.confirmation().interruption_summary(stop)
        return stopped(self.session.options, stop, f" while exploring {_counted_exploration(plan)}", plan)


def _counted_exploration(plan: ExplorationPlan) -> str:
    """`40 candidates and 2 baselines (seed 0): 12 finished, 30 to do (1 under way, 29 to propose)`."""
    search = plan.search
    begun = [*by_status(plan, to_do=True), *([f"{plan.to_propose} to propose"] if plan.to_propose else [])]
    left = f"{len(plan.to_do) + plan.to_propose} to do{in_brackets(begun)}"
    return (
        f"{search.trials} candidates and {len(search.baselines)} baselines (seed {search.explore_seed}): "
        f"{', '.join([*by_status(plan, to_do=False), left])}"
    )


def _explores(plan: ExplorationPlan) -> bool:
    """Whether a trial of exploring has not ended."""
    return any(planned.to_do and planned.status in (Status.NEW, Status.OPEN) for planned in plan.trials)


def _representative(plan: ExplorationPlan) -> tuple[Any, ...]:
    """Configs like those of candidates to come, and the options that these choose among."""
    choices = [distribution for distribution in plan.search.parameters.values() if isinstance(distribution, Choice)]
    return (
        *(planned.trial.config for planned in plan.trials),
        *(option for each in choices for option in each.options),
    )
