"""What looks ahead for a study or a search: measuring costs, and replaying finished trials. Nothing is trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial

from mfm_tune.commands.session import Session
from mfm_tune.errors import StorageError
from mfm_tune.execution.probe import Measure, in_this_process, probe
from mfm_tune.execution.settings import EngineOptions, Stopping
from mfm_tune.execution.signals import RESUME, Interrupted
from mfm_tune.fields import hyphened
from mfm_tune.ledger.records import Trial
from mfm_tune.planning.plan import Plan
from mfm_tune.program import Program


def probe_costs(session: Session, trials: Sequence[Trial]) -> None:
    """Measure what the ledger has no times of. The session is open for writing."""
    options = session.engine_options(representative_configs=(trial.config for trial in trials))
    measurer = _measurer(session.declared.program, options)
    try:
        on_gpu, say = options.gpus_per_trial > 0, partial(print, flush=True)
        probe(measurer, trials, session.ledger, storage=session.storage.root, gpu=on_gpu, say=say)
    except Interrupted as stop:
        print(f"Stopped by {stop.number.name}; the ledger keeps what was measured. {RESUME}", flush=True)
        raise


def _measurer(program: Program, options: EngineOptions) -> AbstractContextManager[Measure]:
    if options.address is None:
        return in_this_process(program, options)
    from mfm_tune.tune.environment import check_process, set_environment

    check_process()
    set_environment(options.address, verbose=options.verbose)  # before ray is imported
    from mfm_tune.tune.probe import on_cluster

    return on_cluster(program, options)


def replay(
    session: Session,
    plan: Plan,
    stopping: Stopping,
    baselines: Collection[str],
    *,
    baselines_win: bool = True,
) -> int:
    """Replay a plan's finished trials on a virtual clock without early stopping and with it. Returns the exit code.

    Args:
        baselines: Config ids of those that start first.
        baselines_win: Whether one of them can be the best.
    """
    from mfm_tune.execution.simulation import curves_of, describe_simulation, simulate

    name, slots = session.declared.name, session.slots.count
    curves = curves_of([planned.record for planned in plan.trials if planned.record is not None])
    configs = {curve.config_id for curve in curves}
    if len(configs) < 2:
        raise StorageError(
            f"--simulate compares the finished trials of at least two configs, and the ledger has {len(configs)} of "
            f"'{name}', profile {hyphened(plan.study.profile)}; run it first, without early stopping."
        )
    if not configs.difference(baselines):
        raise StorageError(
            f"--simulate stops no baseline and no reference, and the ledger has a finished trial of no other config of "
            f"'{name}', profile {hyphened(plan.study.profile)}; run it first, without early stopping."
        )
    where = "1 slot" if slots == 1 else f"{slots} slots"
    print(
        f"{name}, profile {hyphened(plan.study.profile)}: {len(curves)} of {len(plan.trials)} trials replayed from the "
        f"ledger on {where}, {stopping.scheduler}"
    )
    winners = configs if baselines_win else configs.difference(baselines)
    results = simulate(curves, stopping, slots, first=list(baselines), winners=winners)
    print("\n".join(describe_simulation(results, {config: plan.name_of(config) for config in configs}, stopping)))
    return 0
