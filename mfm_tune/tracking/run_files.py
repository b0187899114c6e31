"""The trials of a ledger as runs of other trackers: TensorBoard's event files, offline runs of Weights & Biases.

A run is a trial that counts. Both writers are imported late, and write files alone: nothing is sent.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfm_tune.console import counting
from mfm_tune.errors import OptionError, storage_error
from mfm_tune.ledger.file import FILE_NAME, read_events
from mfm_tune.ledger.records import TrialRecord, status_of
from mfm_tune.ledger.state import LedgerState
from mfm_tune.results.names import labels_of
from mfm_tune.tracking.params import leaves, value_text

Param = str | bool | int | float
UNSAFE = re.compile(r"[^\w.,=()+ -]")  # in a folder's name


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trial.

    Args:
        name: `lambda 0.5, seed 1`.
        group: What its config is called: runs of all seeds belong together.
        project: `STUDY-PROFILE` in which it was started.
        params: Fields of its config by dotted name.
        points: (step, seconds since the epoch, metrics) of each report.
    """

    key: str
    name: str
    group: str
    project: str
    status: str
    params: Mapping[str, Param]
    points: tuple[tuple[int, float, Mapping[str, float]], ...]

    def folder(self, out: Path) -> Path:
        """`OUT/STUDY-PROFILE/NAME (KEY)`."""
        return out / UNSAFE.sub("_", self.project) / UNSAFE.sub("_", f"{self.name} ({self.key})")


def runs_of(storage: Path, state: LedgerState) -> Iterator[Run]:
    """The trials of a storage folder's ledger that count and have reported, in its order.

    Raises:
        StorageError: The ledger cannot be read.
    """
    times: dict[tuple[str, int], int] = {}
    for _, event in read_events(storage / FILE_NAME):
        if event["event"] == "report":
            times.setdefault((event["key"], event["step"]), event["time"])
    for record in state.trials.values():
        if record.reports and state.counts(record.config_id, record.seed) is record:
            known = state.configs.get(record.config_id)
            params = {} if known is None else {name: _param(value) for name, value in leaves(known.config)}
            yield _run(record, next(iter(labels_of(state, record.config_id)), record.config_id), params, times)


def _run(record: TrialRecord, label: str, params: Mapping[str, Param], times: Mapping[tuple[str, int], int]) -> Run:
    return Run(
        key=record.key,
        name=f"{label}, seed {record.seed}",
        group=label,
        project=f"{record.study}-{record.profile}",
        status=status_of(record).value,
        params={**params, "seed": record.seed},
        points=tuple(
            (report["step"], times[record.key, report["step"]] / 1000, report["metrics"]) for report in record.reports
        ),
    )


def _param(value: object) -> Param:
    return value if isinstance(value, str | bool | int | float) else value_text(value)  # type: ignore[arg-type]


def write_tensorboard(runs: Sequence[Run], out: Path, known: Collection[str]) -> int:
    """Write a folder of event files for each run: scalars, and its config for the HParams tab; returns how many.

    Args:
        known: Keys of all trials of the ledger, whose earlier folders go: one may have had another name, or count no
            longer.

    Raises:
        OptionError: tensorboardX is not installed.
        StorageError: The folder cannot be written.
    """
    logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)  # no warning of each NaN, which it writes
    try:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams
    except ImportError:
        raise _missing("tensorboardX", "tensorboard") from None
    with storage_error(f"{out} cannot be written", "free space, or give another --out"):
        for old in out.glob("*/*(*)"):
            if old.name.rpartition("(")[2].removesuffix(")") in known:
                shutil.rmtree(old)
        for run in counting(runs, "runs"):
            with SummaryWriter(str(run.folder(out)), flush_secs=3600) as writer:
                last = {name: value for name, value in run.points[-1][2].items() if "miou" in name}
                for summary in hparams(dict(run.params), dict.fromkeys(last, None)):
                    writer.file_writer.add_summary(summary)
                for step, seconds, metrics in run.points:
                    for name, value in metrics.items():
                        writer.add_scalar(name, value, step, walltime=seconds)
    return len(runs)


def write_wandb(runs: Sequence[Run], out: Path, known: Collection[str]) -> int:
    """Write an offline run of Weights & Biases for each run; returns how many. `wandb sync` uploads them.

    Args:
        known: As for `write_tensorboard`.

    Raises:
        OptionError: wandb is not installed.
        StorageError: The folder cannot be written.
    """
    try:
        import wandb
    except ImportError:
        raise _missing("wandb", "wandb") from None
    settings = wandb.Settings(
        mode="offline", console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True,
        x_disable_stats=True, x_disable_machine_info=True,
    )  # fmt: skip
    with storage_error(f"{out} cannot be written", "free space, or give another --out"):
        out.mkdir(parents=True, exist_ok=True)
        for old in (out / "wandb").glob("offline-run-*-*"):
            if old.name.split("-", 3)[3] in known:
                shutil.rmtree(old)
        for run in counting(runs, "runs"):
            made = wandb.init(
                project=run.project,
                group=run.group,
                name=run.name,
                id=run.key,
                tags=[run.status],
                config=dict(run.params),
                dir=str(out),
                settings=settings,
            )
            with made:
                for step, seconds, metrics in run.points:
                    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
                    made.log({**finite, "time": seconds}, step=step)
    wandb.teardown()  # waits until its service has written the last file
    return len(runs)


def _missing(package: str, extra: str) -> OptionError:
    remedy = f"install it by pip install -e '.[{extra}]' in this project's folder"
    return OptionError(f"--to {extra} needs the package {package}; {remedy}.")
