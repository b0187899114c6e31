"""Launches of stub trials: what `mfm_tune.run` does around an engine, as short as tests need it.

As a script it is a driver that can be killed: `python -m tests.mfm_tune.stub_launch STORAGE LAUNCH.json`.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mfm_tune.execution.inline import run_inline
from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions, Stopping
from mfm_tune.execution.signals import Interrupted
from mfm_tune.identity import config_id
from mfm_tune.ledger.file import LedgerWriter, read_events
from mfm_tune.ledger.ledger import Ledger
from mfm_tune.ledger.records import RESULTS, Trial, TrialRecord, trial_folder, trial_key
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState, read_ledger
from mfm_tune.tune.engine import run_with_ray
from tests.mfm_tune.stub_program import CLASSES, PROGRESS, WORKERS, StubConfig, StubProgram

FINGERPRINT = "5" * 64
REPOSITORY = Path(__file__).resolve().parents[2]


def stub_trials(configs: Sequence[StubConfig], seeds: Sequence[int] = (0,)) -> tuple[Trial, ...]:
    """Trials of configs and seeds, seed-major."""
    return tuple(_trial(config, seed) for seed in seeds for config in configs)


def _trial(config: StubConfig, seed: int) -> Trial:
    name = config_id(config)
    return Trial(
        key=trial_key(name, seed, FINGERPRINT),
        config=config,
        config_id=name,
        seed=seed,
        fingerprint=FINGERPRINT,
        folder=trial_folder(name, seed, FINGERPRINT),
        planned_steps=config.steps,
        cost_class="stub",
        benchmark="stub",
        classes=CLASSES,
    )


@dataclass(frozen=True)
class Launched:
    """A storage folder after a launch."""

    storage: Path

    @property
    def state(self) -> LedgerState:
        return read_ledger(self.storage / "ledger.jsonl")

    @property
    def events(self) -> list[Event]:
        return [event for _, event in read_events(self.storage / "ledger.jsonl")]

    def record(self, trial: Trial) -> TrialRecord:
        return self.state.trials[trial.key]

    def keys_of(self, event: str) -> list[str]:
        """Keys of the events of one kind, in the ledger's order."""
        return [line["key"] for line in self.events if line["event"] == event]

    def metrics(self) -> dict[str, dict[str, float]]:
        """The last metrics of each trial."""
        return {key: dict(record.metrics) for key, record in self.state.trials.items()}


def launch(
    storage: Path,
    trials: Sequence[Trial],
    *,
    address: str | None = None,
    inline: bool = False,
    recorder_of: Callable[..., Recorder] = Recorder,
    asha: bool = False,
    **options: Any,
) -> Launched:
    """Run what the ledger does not have yet, by Ray (at an address, or a Ray of its own) or inline."""
    storage.mkdir(parents=True, exist_ok=True)
    writer = LedgerWriter(storage / "ledger.jsonl")
    state = read_ledger(storage / "ledger.jsonl")
    left = [_known(state, trial) for trial in trials if not _stands(state, trial)]
    recorder = recorder_of(
        Ledger(writer, state), storage=storage, launch="stub", study="stub", profile="smoke", trials=trials
    )
    given = EngineOptions(
        storage=storage,
        address=address,
        import_paths=(str(REPOSITORY),),
        stopping=Stopping(history=state.history(state.trials)) if asha else None,
        **options,
    )
    engine = run_inline if inline else run_with_ray
    try:
        engine(StubProgram(), left, recorder, given)
    finally:
        writer.close()
    return Launched(storage)


def _stands(state: LedgerState, trial: Trial) -> bool:
    record = state.trials.get(trial.key)
    return record is not None and record.outcome in RESULTS


def _known(state: LedgerState, trial: Trial) -> Trial:
    """The trial, at the step that the ledger knows, as a plan has it."""
    record = state.trials.get(trial.key)
    return trial if record is None else replace(trial, step=record.step)


def executed_steps(storage: Path, trial: Trial) -> int:
    """Steps that a trial executed ever, repeated ones included, as its own counter says."""
    content = (storage / trial.folder / "progress").read_bytes()
    executed, _ = struct.unpack(PROGRESS.format, content)
    return int(executed)


def workers_of(storage: Path, trial: Trial) -> list[int]:
    """Process ids of the workers that opened a trial, in order."""
    return [int(line) for line in (storage / trial.folder / WORKERS).read_text().split()]


def processes_with(variable: str, value: str) -> list[int]:
    """Ids of the processes that were started with an environment variable: all descendants of one, daemons included."""
    wanted = f"{variable}={value}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # ended meanwhile, or somebody else's
            if folder.name.isdecimal() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def write_launch(path: Path, configs: Sequence[StubConfig], seeds: Sequence[int], address: str | None) -> None:
    """What a driver process is to run."""
    path.write_text(
        json.dumps({"configs": [asdict(config) for config in configs], "seeds": list(seeds), "address": address})
    )


def main(storage: Path, given: Path) -> int:
    """A driver in a process of its own."""
    content = json.loads(given.read_text())
    configs = [StubConfig(**config) for config in content["configs"]]
    try:
        launch(storage, stub_trials(configs, content["seeds"]), address=content["address"])
    except Interrupted as stop:
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
