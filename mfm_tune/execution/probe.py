"""`--probe`: measure a step and an evaluation of every cost class that the ledger has no time of.

What is measured goes into the ledger as an event of its own, which forecasts read; it is never a result.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mfm_tune.errors import UserError
from mfm_tune.execution.resources import take_share
from mfm_tune.execution.settings import EngineOptions, make_folder
from mfm_tune.ledger.events import probe_event
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import Trial
from mfm_tune.planning.forecast import StepTimes
from mfm_tune.program import Probe, Program

Measure = Callable[[Trial, Path], Probe]


def unknown_costs(trials: Sequence[Trial], times: StepTimes) -> tuple[Trial, ...]:
    """The first trial of each benchmark and cost class whose time is unknown."""
    first: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        if times.seconds(trial) is None:
            first.setdefault((trial.benchmark, trial.cost_class), trial)
    return tuple(first.values())


def probe(
    measurer: AbstractContextManager[Measure],
    trials: Sequence[Trial],
    ledger: Ledger,
    *,
    storage: Path,
    gpu: bool,
    say: Callable[[str], None],
) -> None:
    """Measure what is unknown of some trials, one cost class after the other, and write it down.

    Args:
        measurer: `in_this_process`, or on a cluster `mfm_tune.tune.probe.on_cluster`.
        gpu: Whether it measures on GPUs, so that times of CPUs are none of what is asked for.

    Raises:
        UserError: The program refused what it was given, or the cluster cannot be joined.
    """
    unknown = unknown_costs(trials, StepTimes(ledger.state, gpu=gpu))
    if not unknown:
        say("The ledger has a step time of every trial: nothing to measure.")
        return
    with measurer as measure:
        for number, trial in enumerate(unknown, start=1):
            measured = _measured(measure, trial, storage)
            say(f"  {number} of {len(unknown)}  {trial.cost_class}: {_words(measured)}")
            if "error" not in measured:
                ledger.append(probe_event(trial, measured))


def probe_here(program: Program, config: object, folder: Path, data: Mapping[str, str]) -> Probe:
    """Measure in this process.

    Raises:
        UserError: The program refused what it was given.
    """
    try:
        return program.probe(config, folder=str(folder), data=data)
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def in_this_process(program: Program, options: EngineOptions) -> Iterator[Measure]:
    """Measures with as many threads and GPUs as a worker of a trial has."""
    take_share(options.cpus_per_trial, options.gpus_per_trial)
    yield lambda trial, folder: probe_here(program, trial.config, folder, options.data)


def _measured(measure: Measure, trial: Trial, storage: Path) -> Probe:
    folder = storage / "probe" / trial.key
    make_folder(folder)
    try:
        return measure(trial, folder)
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def _words(measured: Probe) -> str:
    if "error" in measured:
        return measured["error"]
    return (
        f"{measured['step_s']:.3g} s a step, {measured['evaluation_s']:.3g} s an evaluation, "
        f"peak {measured['memory_mib']:,.0f} MiB"
    )
