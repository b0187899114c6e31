"""The commands of a study: what is left of it is trained, with a display and a tracking mirror, then reported."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mfm_tune.commands.dry_runs import probe_costs, replay
from mfm_tune.commands.sentences import further, stopped
from mfm_tune.commands.session import Session
from mfm_tune.criteria import Criterion, criterion_of, metric_name
from mfm_tune.errors import StorageError, printable, storage_error, typed
from mfm_tune.execution.settings import Stopping
from mfm_tune.execution.signals import Interrupted
from mfm_tune.fields import hyphened
from mfm_tune.ledger.events import study_event
from mfm_tune.ledger.records import Status
from mfm_tune.ledger.storage import Storage, check_writable
from mfm_tune.planning.checks import check_study
from mfm_tune.planning.forecast import estimate_cost, hours_a_trial
from mfm_tune.planning.plan import (
    Plan,
    changed_code,
    counted,
    describe,
    make_plan,
    results_of_other_code,
    selected_tables,
)
from mfm_tune.space import Study

if TYPE_CHECKING:
    from mfm_tune.report.write import ReportFiles

LINES_OF_TRACEBACK = 4


@dataclass(frozen=True)
class StudyCommand:
    """What is done with a study."""

    session: Session
    study: Study

    def check(self) -> None:
        """Raise a `UserError` where --only names no table, or a table prints what trials do not report."""
        selected_tables(self.study, self.session.options.only)
        check_study(self.study)

    def planned(self) -> Plan:
        """The study minus what the ledger has."""
        return make_plan(self.study, self.session.state, self.session.code, self.session.choice)

    def plan(self) -> int:
        """Print what would be trained and what that takes."""
        plan, notice = self.session.previewed(self.planned)
        print("\n".join([*self._described(plan), *([notice] if notice else [])]))
        return 0

    def probe(self) -> int:
        """Measure costs that the ledger does not have, then print the plan."""
        with self.session.writing():
            probe_costs(self.session, self.planned().to_do)
        return self.plan()

    def simulate(self) -> int:
        """Replay finished trials with early stopping and without it. In a table the default is one of the references,
        and a level that can win like any other."""
        plan, notice = self.session.previewed(self.planned)
        if notice:
            print(notice)
        return replay(self.session, plan, Stopping(criterion=self.criterion), self.study.reference_ids.values())

    def train(self) -> int:
        """Train what is left and write the report."""
        with self.session.writing():
            self.session.warn_of_passwords()
            plan = self._declared()
            try:
                with self.session.tracking():
                    return self._carry_out(plan)
            except Interrupted as stop:
                print(self.interruption_summary(stop), flush=True)
                raise

    def continue_training(self) -> int:
        """Train what is left and write the report, in a session that is open already."""
        return self._carry_out(self._declared())

    def report(self) -> int:
        """Write the report from the ledger as it is. Results of other code are shown, marked, and named in a line."""
        storage, state = self.session.storage, self.session.state
        if not storage.ledger.is_file():
            raise StorageError(f"There is no ledger in {storage.root} to report from; give the --storage of a run.")
        plan = self.planned()
        others = results_of_other_code(plan, state)
        if others:
            if not self.session.options.reuse:
                print(f"The report marks results of earlier code: {changed_code(plan, state, others)}")
            state.reuse.update(others)
        check_writable(storage)
        self._write_report()
        return 0

    def interruption_summary(self, stop: Interrupted) -> str:
        """What is printed when a signal stopped the run: what is done, what is open, how to resume and to look."""
        plan = self.planned()
        return stopped(self.session.options, stop, f": of {len(plan.trials)} trials {counted(plan)}", plan)

    @property
    def criterion(self) -> Criterion:
        """What stops trials early and names winners: the study's metric, called as its tables call it."""
        return replace(criterion_of(self.study.metric), label=metric_name(self.study.metric))

    def _declared(self) -> Plan:
        """The plan, after what the study declares is in the ledger."""
        session = self.session
        plan = session.resolve_code_change(self.planned)
        declared = study_event(self.study, session.state, session.code.digests(self.study.configs()))
        if declared is not None:
            session.ledger.append(declared)
        return plan

    def _described(self, plan: Plan) -> list[str]:
        """What `plan` prints."""
        hours = hours_a_trial([each.trial for each in plan.trials], self.session.state, self.study.program)
        return describe(plan, *self._cost(plan), hours)

    def _carry_out(self, plan: Plan) -> int:
        """Run a plan's trials, write the report, name what failed."""
        self._train_all(plan)
        try:
            self._write_report()
        except BrokenPipeError:
            raise
        except Exception as error:  # the trials are in the ledger, and the exit code is theirs
            why = str(error) if isinstance(error, StorageError) else f"The report cannot be made: {typed(error)};"
            print(f"{why} The trials are kept: --report-only writes it from them.", file=sys.stderr)
        return print_failures(self.planned(), self.session.storage)

    def _train_all(self, plan: Plan) -> None:
        """Run what is left of a plan."""
        print(self._headline(plan), flush=True)
        if plan.to_do:
            self._run_trials(plan)

    def _headline(self, plan: Plan) -> str:
        address, slots = self.session.options.address, self.session.slots
        where = f"on {address}" if address else f"{slots.count} at a time"
        return (
            f"{self.study.name}, profile {hyphened(self.study.profile)}: {len(plan.cells)} cells, "
            f"{plan.distinct} configs, {len(plan.trials)} trials ({counted(plan)}), {where}; expected time: "
            f"{self._cost(plan)[0]}"
        )

    def _cost(self, plan: Plan) -> tuple[str, str]:
        return estimate_cost(plan.to_do, self.session.state, self.session.slots, self.study.program)

    def _run_trials(self, plan: Plan) -> None:
        from mfm_tune.display.progress import Progress
        from mfm_tune.display.table import LiveTable

        session = self.session
        progress = session.progress(Progress, plan, part=self._part)
        options = session.engine_options(self._stopping(plan))
        with session.recording(plan, progress, LiveTable) as recorder:
            session.run(plan.to_do, recorder, options)

    @property
    def _part(self) -> str:
        """What a plan is a part of, where trials follow that nobody knows yet."""
        return ""

    def _stopping(self, plan: Plan) -> Stopping | None:
        """Early stopping of a table, which only the user asks for, never of a reference: every cell is compared with
        them."""
        if not self.session.options.asha:
            return None
        keys = [planned.record.key for planned in plan.trials if planned.record is not None]
        references = set(self.study.reference_ids.values())
        return Stopping(
            criterion=self.criterion,
            never=frozenset(planned.trial.key for planned in plan.trials if planned.trial.config_id in references),
            history=self.session.state.history(keys),
        )

    def _write_report(self) -> None:
        """Write the whole study's report, and print its tables and where it lies."""
        storage = self.session.storage
        folder = storage.report(self.study.name, self.study.profile)
        with storage_error(f"The report cannot be written to {folder}"):
            files = self._report_files(folder)
        print(self._tables())
        print(files)
        print(further(self.session.options, self.planned(), self.session.state))
        for sentence in files.lost:
            print(sentence, file=sys.stderr)

    def _tables(self) -> str:
        """The study's tables as far as they are filled."""
        try:
            return self._terminal_text()
        except Exception as error:  # what is printed of a result must not cost what is said of the others
            return f"The tables cannot be printed: {typed(error)}"

    def _report_files(self, folder: Path) -> ReportFiles:
        from mfm_tune.report.write import write_report

        session = self.session
        prints = session.code.digests(self.study.configs())
        return write_report(
            self.study,
            session.state,
            folder,
            storage=session.storage.root,
            fingerprints=prints,
            paper=session.options.paper,
        )

    def _terminal_text(self) -> str:
        from mfm_tune.report.terminal import terminal_table

        prints = self.session.code.digests(self.study.configs())
        return terminal_table(self.study, self.session.state, fingerprints=prints)


def print_failures(plan: Plan, storage: Storage) -> int:
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
        print(f"Not finished, for no reason of their own: {left} trials; the same command resumes.", file=sys.stderr)
    if not failed:
        return 1 if left else 0
    many = (
        "1 trial failed; the same command tries it again."
        if len(failed) == 1
        else (f"{len(failed)} trials failed; the same command tries them again.")
    )
    print(many, file=sys.stderr)
    return 1
