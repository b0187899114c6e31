"""What is printed when a command ends, finished or stopped: how far it came, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from mfm_tune.commands.options import DEFAULT_STORAGE, Options
from mfm_tune.errors import UserError
from mfm_tune.execution.signals import RESUME, Interrupted
from mfm_tune.fields import hyphened
from mfm_tune.ledger.records import Status
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.plan import Plan
from mfm_tune.program import ExportsModels


def stopped(options: Options, stop: Interrupted, how_far: str, plan: Plan) -> str:
    """Three lines for a run that a signal stopped: how far it came, how to resume it, how to see what there is."""
    under_way = sum(planned.status is Status.OPEN for planned in plan.trials)
    resuming = f"The {under_way} under way resume from their last checkpoints. " if under_way else ""
    return (
        f"Stopped by {stop.number.name}{how_far}.\n"
        f"{resuming}{RESUME}\n"
        f"To see the tables so far: {typed(options, 'mfm_tune.run', [*_declared(options), '--report-only'])}"
    )


def further(options: Options, plan: Plan, state: LedgerState) -> str:
    """Where to look next: the runs, two configs against each other, a trained model."""
    ui = [f"{typed(options, 'mfm_tune.ui')} (runs and curves)"] if options.tracking else []
    diff = typed(options, "mfm_tune.diff", _compared(plan, state))
    lines = [", ".join([*ui, f"{diff} (two configs, paired)"])]
    records = (planned.record for planned in plan.trials if planned.status is Status.FINISHED)
    finished = next((record for record in records if record is not None), None)  # of other code, where that counts
    if finished is not None and isinstance(plan.study.program, ExportsModels):
        folder = _shown(options.storage / finished.folder)
        lines.append(f"{plan.study.program.export_command(folder, 'MODEL')} (a trained model)")
    return "Next: " + "\n      ".join(lines)


def _compared(plan: Plan, state: LedgerState) -> list[str]:
    """What `diff` takes for the first two configs: their names, with study and profile where the ledger has others that
    are called so."""
    from mfm_tune.results.comparison import find  # with statistics, which a plan need not

    trained = {plan.name_of(planned.trial.config_id): planned.trial.config_id for planned in plan.trials}
    configs = dict(list({**plan.study.reference_ids, **trained}.items())[:2])
    if len(configs) < 2:
        return [*configs, "A", "B"][:2]
    try:
        alone = all(find(state, name).result.config_id == config for name, config in configs.items())
    except UserError:
        alone = False
    return [*configs, *([] if alone else ["--study", plan.study.name, "--profile", hyphened(plan.study.profile)])]


def typed(options: Options, module: str, words: Iterable[str] = ()) -> str:
    """A command as it is typed where this one was."""
    storage = [] if options.storage == DEFAULT_STORAGE.absolute() else ["--storage", _shown(options.storage)]
    return shlex.join(["python", "-m", module, *words, *storage])


def _declared(options: Options) -> list[str]:
    """The options that say which study it is."""
    words = [] if options.file is None else [str(options.file)]
    words += [] if options.profile is None else ["--profile", options.profile]
    words += [] if options.seeds is None else ["--seeds", ",".join(map(str, options.seeds))]
    words += ["--only", *options.only] if options.only else []
    return words + (["--data", *(f"{name}={path}" for name, path in options.data.items())] if options.data else [])


def _shown(path: Path) -> str:
    """Relative to the working directory, for what lies in it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
