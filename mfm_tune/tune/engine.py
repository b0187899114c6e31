"""The engine on Ray Tune: trials side by side, on this machine's cores, on GPUs, or on a cluster.

Tune is asked for little: to start workers, to hand them trials, to start a trial again whose worker died, and to stop
trials by ASHA. What it keeps on disk is thrown away at the end: the ledger says what was done, and trials keep their
own checkpoints. This module imports ray only when a run begins, and after Ray's environment is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions, make_folders
from mfm_tune.execution.signals import RESUME, EngineLost, Interrupted, Interruption
from mfm_tune.ledger.records import Trial
from mfm_tune.program import Program
from mfm_tune.tune.environment import check_process, set_environment
from mfm_tune.tune.reach import Part, watched


def run_with_ray(program: Program, trials: Iterable[Trial], recorder: Recorder, options: EngineOptions) -> None:
    """Run trials side by side through Ray Tune, in order as places become free.

    Args:
        trials: A sequence, or an iterator, which is asked for one trial more than there are places, because Tune keeps
            a worker for the next trial only where one waits.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came. Trials in progress keep their last checkpoint and stay open. A second
            signal ends the run without waiting for workers.
        EngineLost: A process of Ray's that all trials need was killed or cannot be reached any more. They stay open.
        UserError: The program refused what it was given, the resources asked for do not exist, Ray cannot be started,
            the cluster's address does not answer, or one of its nodes lacks what trials need.
        StorageError: The ledger cannot be written.
    """
    if isinstance(trials, Sequence) and not trials:
        return
    make_folders(trials if isinstance(trials, Sequence) else (), options)
    check_process()
    set_environment(options.address, verbose=options.verbose)
    from mfm_tune.tune.cluster import check_resources, joined, parts
    from mfm_tune.tune.nodes import check_nodes
    from mfm_tune.tune.rounds import RayEngine

    with Interruption() as interruption, joined(options):
        interruption.listen()  # Ray put its own handler of SIGTERM in place
        check_resources(options)
        if options.address is not None:
            configs = (trial.config for trial in trials) if isinstance(trials, Sequence) else ()
            check_nodes(program, [*configs, *options.representative_configs], options)
        with watched(parts(options), lambda part: interruption.lose(_lost(part))), interruption.upheld():
            RayEngine(program, trials, recorder, options, stop_asked=interruption.came).run()
    if interruption.number is not None:
        raise Interrupted(interruption.number)


def _lost(part: Part) -> EngineLost:
    return EngineLost(
        f"Ray's {part.name} at {part.address} does not answer any more: it was killed, or its machine is gone. "
        f"Trials in progress stay open, and resume from their last checkpoints. {RESUME}"
    )
