"""What the stages of one command share: options, code, storage, the ledger, and the mirror while trials run.

A command reads its ledger once, here. One that trains holds the storage and writes to the ledger through `ledger`.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mfm_tune.commands.options import Options
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.resources import local_gpus, local_slots
from mfm_tune.execution.settings import EngineOptions, Stopping
from mfm_tune.ledger.events import code_events, launch_event
from mfm_tune.ledger.ledger import Ledger, open_ledger
from mfm_tune.ledger.records import Trial
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.ledger.storage import Storage, driver
from mfm_tune.ledger.uri import announced_uri, resolved_uri, without_password
from mfm_tune.planning.fingerprint import TrainingCode
from mfm_tune.planning.forecast import Slots, StepTable, step_table
from mfm_tune.planning.loading import REPOSITORY, Loaded
from mfm_tune.planning.plan import Choice, Plan, changed_code, results_of_other_code
from mfm_tune.planning.profiles import PAPER
from mfm_tune.planning.weights import copied_into, find_weights, weights_of
from mfm_tune.program import Program
from mfm_tune.search_space import Search
from mfm_tune.space import Study

if TYPE_CHECKING:
    from mfm_tune.display.lines import PlainLines
    from mfm_tune.display.progress import Progress
    from mfm_tune.display.table import LiveTable
    from mfm_tune.tracking.mirror import Mirror

MIRROR_S = 20.0  # how long the end of a run waits for the tracking mirror; the rest is mirrored by the next run
MIRROR_INTERRUPTED_S = 3.0
CLEAN = r"""sed -i -E '/"event":"launch"/s#(://[^:/@"]*):[^"]*@#\1:***@#g'"""  # passwords out of a ledger
P = TypeVar("P", bound=Plan)
T = TypeVar("T")
U = TypeVar("U")
G = TypeVar("G", bound="Progress")


class Command(Protocol):
    """What `python -m mfm_tune.run` does with a study or a search. Each method returns the exit code."""

    def check(self) -> None:
        """Raise a `UserError` where options or the declaration cannot be, before anything is written."""

    def plan(self) -> int:
        """Print what would be trained and what that takes."""

    def probe(self) -> int:
        """Measure costs that the ledger does not have, then print the plan."""

    def simulate(self) -> int:
        """Replay finished trials with early stopping and without it."""

    def train(self) -> int:
        """Train what is left and write the report."""

    def report(self) -> int:
        """Write the report from the ledger as it is."""


class Session:
    """One run of a command.

    Args:
        options: The command line, parsed.
        loaded: The search-space file.
        declared: The study or search that it declares at the chosen profile.
        argv: The command line as it was given, for the ledger.

    Raises:
        SearchSpaceError: The training code cannot be found or parsed.
    """

    def __init__(self, options: Options, loaded: Loaded, declared: Study | Search, argv: Sequence[str] = ()) -> None:
        self.options = options
        self.path = loaded.path
        self.declared = declared
        self.storage = Storage(options.storage)
        self.code = TrainingCode(declared.program.packages)
        self.choice = Choice(only=options.only, retry=options.retry, asha=options.asha)
        self.mirror: Mirror | None = None
        self._argv = argv
        self._import_paths = tuple(dict.fromkeys((str(loaded.root), str(REPOSITORY))))
        self._ledger: Ledger | None = None
        self._weights: Mapping[str, str] = {}  # found on this machine, by name

    # The ledger

    @cached_property
    def state(self) -> LedgerState:
        """What the ledger holds."""
        return read_ledger(self.storage.ledger)

    @property
    def ledger(self) -> Ledger:
        """The ledger, inside of `writing`."""
        assert self._ledger is not None, "the session is not open for writing"
        return self._ledger

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the storage, and its ledger open for writing.

        Raises:
            StorageBusyError: Another driver holds the storage.
            StorageError: The storage or its ledger cannot be used.
        """
        with driver(self.storage), open_ledger(self.storage.ledger) as self._ledger:
            self.state = self._ledger.state
            yield

    def previewed(self, plan_of: Callable[[], P]) -> tuple[P, str]:
        """A plan for a command that writes nothing, and a sentence on results of earlier code, or an empty one. With
        --reuse such results are accepted in memory."""
        plan = plan_of()
        others = results_of_other_code(plan, self.state)
        if others and self.options.reuse:
            self.state.reuse.update(others)
            return plan_of(), ""
        return plan, "" if not others or self.options.retrain else str(changed_code(plan, self.state, others))

    def resolve_code_change(self, plan_of: Callable[[], P]) -> P:
        """The plan, once it is clear what happens to results of other code. From here on the ledger is written.

        Raises:
            ChangedCodeError: There are such results, and neither --reuse nor --retrain is given.
        """
        plan = plan_of()
        others = results_of_other_code(plan, self.state)
        if others and not (self.options.reuse or self.options.retrain):
            raise changed_code(plan, self.state, others)
        torn = self.ledger.writer.mend()
        if torn is not None:
            print(f"The ledger's last line was torn; what there was of it lies in {torn}.", flush=True)
        if not others or self.options.retrain:
            return plan
        for before, today in others:
            self.ledger.append({"event": "reuse", "from": before, "to": today})
        return plan_of()

    def warn_of_passwords(self) -> None:
        """Say that the ledger holds passwords, which launches of an early version took from tracking URIs."""
        words = (str(word) for launch in self.state.launches for word in launch.get("argv", ()))
        if any(without_password(word) != word for word in words):
            print(
                f"The ledger {self.storage.ledger} holds the password of a --tracking-uri; when no run is on, take it "
                f"out: {CLEAN} {shlex.quote(str(self.storage.ledger))}",
                flush=True,
            )

    # Weights

    def find_weights(self) -> None:
        """Find the published weights that trials start from, or get them with --download, as if they were given.

        Raises:
            OptionError: Some are not on this machine, or cannot be got.
        """
        options, weights = self.options, weights_of(self.declared)
        missing = [each for name, each in weights.items() if name not in options.data]
        say = partial(print, flush=True)
        self._weights = find_weights(missing, download=options.download, only_say=options.plan, say=say)

    @property
    def _data_of_trials(self) -> dict[str, str]:
        """What was given and found. Other machines have no cache of the hub's, and read copies in the storage."""
        found = self._weights
        if self.options.address is not None:
            found = copied_into(self.storage.root / "shared" / "weights", found)
        return {**self.options.data, **found}

    # The mirror

    def check_tracking(self) -> None:
        """Refuse, before anything is written, a storage folder or a URI that cannot be mirrored to."""
        if self.options.tracking and not self.options.probe:
            from mfm_tune.tracking.mirror import Target

            Target(self.options.storage, resolved_uri(self.options.tracking_uri))

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Run the process that carries the ledger to MLflow. What it leaves at its end, the next run's carries."""
        if not self.options.tracking:
            yield
            return
        from mfm_tune.tracking.mirror import start_mirror

        self.mirror = start_mirror(self.options.storage, announced_uri(self.options.tracking_uri))
        patience_s = MIRROR_INTERRUPTED_S
        try:
            yield
            patience_s = MIRROR_S
        finally:
            self.mirror.finish(patience_s)

    @property
    def step_table(self) -> StepTable | None:
        """Step times that come with the program, of the kind of device that trials take."""
        return step_table(self.declared.program, gpu=self.gpus_per_trial > 0)

    def progress(self, kind: Callable[..., G], plan: Plan, part: str = "") -> G:
        """How far a launch is, as `Progress` shows it."""
        ray = "starting Ray" if self.options.address is None else f"joining Ray at {self.options.address}"
        return kind(
            plan,
            self.state,
            self.storage,
            self.slots.count,
            mirror=self.lag,
            part=part,
            elsewhere=self.step_table,
            opening="" if self.options.inline else ray,
        )

    @property
    def lag(self) -> Callable[[], str] | None:
        """How far the mirror is behind; None without one."""
        return None if self.mirror is None else self.mirror.lag

    # Where and how trials run

    @property
    def gpus_per_trial(self) -> float:
        """GPUs of a trial: as asked for, else one for the paper profiles, where there is one or a cluster is named."""
        if self.options.gpus_per_trial is not None:
            return self.options.gpus_per_trial
        return 1.0 if self.declared.profile.startswith(PAPER) and (self.options.address or local_gpus()) else 0.0

    @property
    def unused_gpus(self) -> str:
        """A sentence where trials would leave this machine's GPUs alone and nobody asked for that; else nothing."""
        asked = self.options.gpus_per_trial is not None or self.options.address is not None
        gpus = 0 if asked or self.gpus_per_trial else local_gpus()
        if not gpus:
            return ""
        which = "1 GPU here is" if gpus == 1 else f"{gpus} GPUs here are"
        return f"{which} not used; --gpus-per-trial 1 uses one for each trial."

    @property
    def slots(self) -> Slots:
        """How many trials run at once: as the user says for an estimate, else as far as this machine knows."""
        count = self.options.slots
        if count is None:
            count = 1 if self.options.inline else local_slots(self.options.cpus_per_trial, self.gpus_per_trial)
        guessed = self.options.address is not None and self.options.slots is None
        return Slots(count=count, cpus=self.options.cpus_per_trial, gpus=self.gpus_per_trial, guessed=guessed)

    def engine_options(
        self, stopping: Stopping | None = None, representative_configs: Iterable[Any] = ()
    ) -> EngineOptions:
        """How trials are run."""
        return EngineOptions(
            storage=self.storage.root,
            data=self._data_of_trials,
            cpus_per_trial=self.options.cpus_per_trial,
            gpus_per_trial=self.gpus_per_trial,
            address=self.options.address,
            stopping=stopping,
            representative_configs=tuple(representative_configs),
            import_paths=self._import_paths,
            verbose=self.options.verbose,
        )

    @contextmanager
    def recording(
        self, plan: Plan, progress: Progress, table: Callable[..., PlainLines | LiveTable]
    ) -> Iterator[Recorder]:
        """Write the launch and its code, and show progress within.

        Args:
            progress: What is shown.
            table: The display of a terminal.
        """
        from mfm_tune.display.lines import PlainLines

        launch = self._begin_launch(plan)
        with display_class(table, PlainLines)(progress, self.storage) as display:
            yield Recorder(
                self.ledger,
                storage=self.storage.root,
                launch=launch,
                study=self.declared.name,
                profile=self.declared.profile,
                trials=plan.to_do,
                display=display,
            )

    def run(self, trials: Iterable[Trial], recorder: Recorder, options: EngineOptions) -> None:
        """Run trials in order."""
        engine_of(self.options)(self.declared.program, trials, recorder, options)

    def _begin_launch(self, plan: Plan) -> str:
        launch = secrets.token_hex(4)
        slots = 0 if self.options.address else self.slots.count
        self.ledger.append(launch_event(self.declared, launch, self._argv, slots))
        files = {digest: fingerprint.files for digest, fingerprint in plan.fingerprints.items()}
        for event in list(code_events(files, self.state)):
            self.ledger.append(event)
        return launch


def display_class(on_terminal: T, elsewhere: U) -> T | U:
    """Which of two displays suits the standard output."""
    return on_terminal if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else elsewhere


def engine_of(options: Options) -> Callable[[Program, Iterable[Trial], Recorder, EngineOptions], None]:
    """The engine that runs trials: in this process, or Ray."""
    if options.inline:
        from mfm_tune.execution.inline import run_inline

        return run_inline
    from mfm_tune.tune.engine import run_with_ray

    return run_with_ray
