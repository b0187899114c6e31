"""What an engine is given.

There are two engines: `mfm_tune.execution.inline.run_inline` and `mfm_tune.tune.engine.run_with_ray`. Both take a
program, the trials to run in order, a recorder and these options. The trials are a sequence, or an iterator that is
asked for one more whenever a place is free (a search). An engine that is interrupted raises `Interrupted` and leaves
the trials in progress open: no outcome is written for them, and the next launch resumes from their checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfm_tune.criteria import TARGET_MIOU, Criterion
from mfm_tune.errors import storage_error
from mfm_tune.ledger.records import ReportOf, Trial
from mfm_tune.search_space import Asha, Scheduler


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """Which trials are stopped early.

    Args:
        scheduler: The rule.
        criterion: The number that it compares.
        never: Keys of trials that are compared with and never stopped, such as baselines.
        history: What the ledger's trials reported, in its order.
    """

    scheduler: Scheduler = field(default_factory=Asha)
    criterion: Criterion = TARGET_MIOU
    never: frozenset[str] = frozenset()
    history: tuple[ReportOf, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How trials are run.

    Args:
        storage: The storage folder, absolute; a trial's folder is relative to it.
        data: Dataset name -> absolute path.
        cpus_per_trial: CPU cores, and threads, of one trial.
        gpus_per_trial: GPUs of one trial; a fraction shares one.
        address: Address of a Ray cluster; None starts Ray on this machine.
        stopping: Lets a scheduler stop trials early, comparing trials of one seed; None lets all run to their end.
        representative_configs: Where trials are made up on the way or only measured, configs and values that theirs
            will be like: nodes of a cluster are checked for the code that defines them.
        import_paths: Folders that workers need on `sys.path` to import the search space's own classes.
        verbose: Pass on what the libraries print.
    """

    storage: Path
    data: Mapping[str, str] = field(default_factory=dict)
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    address: str | None = None
    stopping: Stopping | None = None
    representative_configs: tuple[Any, ...] = ()
    import_paths: tuple[str, ...] = ()
    verbose: bool = False

    @property
    def shared(self) -> Path:
        """Folder of artefacts that trials share, such as warm starts."""
        return self.storage / "shared"

    def shared_by(self, fingerprint: str) -> Path:
        """Its part for one fingerprint of the training code: artefacts of other code are never taken silently."""
        return self.shared / fingerprint[:8]


def make_folders(trials: Iterable[Trial], options: EngineOptions) -> None:
    """Make the folders that trials write to.

    Raises:
        StorageError: One cannot be made.
    """
    for folder in (options.shared, *(options.storage / trial.folder for trial in trials)):
        make_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, or raise a `StorageError`."""
    with storage_error(f"The folder {folder} cannot be made", "give another --storage"):
        folder.mkdir(parents=True, exist_ok=True)
