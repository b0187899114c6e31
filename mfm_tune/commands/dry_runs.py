"""The commands that look ahead: --plan of a study, --probe, --simulate. None of them trains."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial

from mfm_tune.commands.options import Options
from mfm_tune.commands.search import SearchJob, print_search_plan
from mfm_tune.commands.study import Job, engine_options, outlook_of
from mfm_tune.criteria import Criterion
from mfm_tune.errors import StorageError
from mfm_tune.execution.probe import Measure, in_this_process, probe
from mfm_tune.execution.settings import EngineOptions, Stopping
from mfm_tune.execution.signals import RESUME, Interrupted
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.planning.plan import Plan, changed_code, describe, results_of_other_code
from mfm_tune.program import Program
from mfm_tune.search_space import Asha


def print_plan(job: Job) -> int:
    """Say what a study would train and what that takes. Returns the exit code."""
    state = read_ledger(job.storage.ledger)
    plan = job.plan(state)
    others = results_of_other_code(plan, state)
    if others and job.options.reuse:
        state.reuse.update(others)  # in memory only
        plan = job.plan(state)
    expected = outlook_of(job, plan, state)
    print("\n".join(describe(plan, expected.time, expected.cost)))
    if others and not (job.options.reuse or job.options.retrain):
        print(changed_code(plan, state, others))
    return 0


def probe_costs(job: Job | SearchJob) -> int:
    """Measure what the plan has no times of, then print the plan. The storage is held by this driver. Returns the exit
    code."""
    with closing(LedgerWriter(job.storage.ledger)) as writer:
        state = read_ledger(job.storage.ledger)
        study = job.confirmation(state) if isinstance(job, SearchJob) else job
        trials = list(study.plan(state).to_do)
        if isinstance(job, SearchJob):  # whose points that are still to be proposed are like those that are known
            trials += [planned.trial for planned in job.exploration(state).trials]
        options = replace(engine_options(study), representative_configs=tuple(trial.config for trial in trials))
        measurer = _measurer(study.study.program, options)
        try:
            probe(measurer, trials, state, writer, storage=job.storage.root, say=partial(print, flush=True))
        except Interrupted as stop:
            print(f"Stopped by {stop.number.name}; the ledger keeps what was measured. {RESUME}", flush=True)
            raise
    return print_search_plan(job) if isinstance(job, SearchJob) else print_plan(job)


def _measurer(program: Program, options: EngineOptions) -> AbstractContextManager[Measure]:
    if options.address is None:
        return in_this_process(program, options)
    from mfm_tune.tune.environment import check_process, set_environment

    check_process()
    set_environment(options.address, verbose=options.verbose)  # before ray is imported
    from mfm_tune.tune.probe import on_cluster

    return on_cluster(program, options)


def simulate_asha(job: Job | SearchJob) -> int:
    """Replay finished trials on a virtual clock without early stopping and with it. Returns the exit code."""
    state = read_ledger(job.storage.ledger)
    if isinstance(job, SearchJob):
        search, slots = job.search, job.confirmation(state).slots
        stopping = Stopping(scheduler=search.scheduler or Asha(), criterion=search.criterion)
        plan = _reused(job.options, job.exploration, state)
        _simulate(plan, stopping, search.baseline_ids.values(), slots, search.name, baselines_win=False)
    else:
        stopping = Stopping(criterion=Criterion(key=job.study.metric, label=job.study.metric))
        plan = _reused(job.options, job.plan, state)
        _simulate(plan, stopping, job.study.reference_ids.values(), job.slots, job.study.name)
    return 0


def _reused(options: Options, plan_of: Callable[[LedgerState], Plan], state: LedgerState) -> Plan:
    """The plan, with results of other code where the user lets them stand; else a line says that there are some."""
    plan = plan_of(state)
    others = results_of_other_code(plan, state)
    if others and options.reuse:
        state.reuse.update(others)  # in memory only
        return plan_of(state)
    if others and not options.retrain:
        print(changed_code(plan, state, others))
    return plan


def _simulate(
    plan: Plan,
    stopping: Stopping,
    baselines: Collection[str],
    slots: int,
    name: str,
    *,
    baselines_win: bool = True,
) -> None:
    """Replay a plan's finished trials. A search confirms its baselines anyhow and chooses among points; in a table the
    default stands among the references, and is a level like any other."""
    from mfm_tune.execution.simulation import curves_of, describe_simulation, simulate

    curves = curves_of([planned.record for planned in plan.trials if planned.record is not None])
    configs = {curve.config_id for curve in curves}
    if len(configs) < 2:
        raise StorageError(
            f"--simulate compares the finished trials of at least two configs, and the ledger has {len(configs)} of "
            f"'{name}', profile {plan.study.profile}; run it first, without early stopping."
        )
    where = "1 slot" if slots == 1 else f"{slots} slots"
    print(
        f"{name}, profile {plan.study.profile}: {len(curves)} of {len(plan.trials)} trials replayed from the ledger on "
        f"{where}, {stopping.scheduler}"
    )
    winners = configs if baselines_win else configs.difference(baselines)
    results = simulate(curves, stopping, slots, first=list(baselines), winners=winners)
    print("\n".join(describe_simulation(results, {config: plan.name_of(config) for config in configs}, stopping)))
