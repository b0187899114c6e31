"""The trials of one config: final numbers, curves, costs, and the marks that a reader of their mean must know.

Only a finished trial enters a mean: one that a scheduler stopped, that is still under way or that failed has a status
and no value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from statistics import median

from mfm_tune.ledger.records import Status, TrialRecord, finals, is_number, status_of
from mfm_tune.program import Outcome

STEP_TIME = "time/step_ms"
PEAK_MEMORY = "memory/peak_mib"
UNRECORDED_TF32 = "convolutions"  # cuDNN's default, which held on GPUs before it was recorded


@dataclass(frozen=True, order=True)
class Environment:
    """What a trial ran on, as far as it can change a number."""

    device: str
    device_name: str
    torch: str
    threads: str
    tf32: str = ""  # which operations of a GPU take float32 numbers as TF32
    passes: str = ""  # of encoders on a GPU: replayed CUDA graphs, or eager

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == '1' else 's'}" if self.threads else ""
        tf32 = {"": "", "nothing": "no TF32"}.get(self.tf32, f"TF32 in {self.tf32}")
        passes = f"{self.passes} passes" if self.passes else ""
        parts = (self.device, self.device_name, f"torch {self.torch}" if self.torch else "", threads, tf32, passes)
        return ", ".join(part for part in parts if part) or "not recorded"


def environment_of(record: TrialRecord) -> Environment | None:
    """What a trial ran on; None before its first report."""
    if not record.machine:
        return None
    get = record.machine.get
    device = get("device", "")
    tf32 = get("tf32", UNRECORDED_TF32 if device == "cuda" else "")
    return Environment(device, get("device_name", ""), get("torch", ""), get("threads", ""), tf32, get("passes", ""))


@dataclass(frozen=True, kw_only=True)
class ConfigResult:
    """The trials of one config, one a seed (None: not started)."""

    config_id: str
    trials: Mapping[int, TrialRecord | None]
    name: str = ""
    fingerprint: str | None = None  # of the code as it is now, where the caller knows it
    classes: Sequence[str] = ()

    def status(self, seed: int) -> Status:
        """The status of a seed's trial."""
        return status_of(self.trials[seed])

    def finals(self, metric: str) -> dict[int, float]:
        """Seed -> the metric at the last step, of finished trials only; what is no number is left out."""
        return finals(self.trials, metric)

    def curve(self, metric: str) -> dict[int, tuple[tuple[int, float], ...]]:
        """Seed -> (step, value) pairs, whatever the outcome."""
        curves = {}
        for seed, record in self.trials.items():
            points = tuple(
                (report["step"], report["metrics"][metric])
                for report in (record.reports if record else ())
                if is_number(report["metrics"].get(metric, math.nan))
            )
            if points:
                curves[seed] = points
        return curves

    @cached_property
    def step_ms(self) -> tuple[float, float] | None:
        """Milliseconds a training step, the lowest and the highest: over all seeds, and over the reports of each but
        the first one, which warms up."""
        times = self.step_times()
        return (min(times), max(times)) if times else None

    def step_times(self, environment: Environment | None = None) -> tuple[float, ...]:
        """Milliseconds a training step in each report but the first one, which warms up; of trials on one environment
        alone, or of all."""
        return tuple(
            report["metrics"][STEP_TIME]
            for record in self.records
            if environment is None or environment_of(record) == environment
            for report in record.reports[1:] or record.reports
            if is_number(report["metrics"].get(STEP_TIME, math.nan))
        )

    @cached_property
    def peak_mib(self) -> float | None:
        """Largest peak memory of the trials on GPUs, in MiB. That of a process on a CPU depends more on the
        libraries in it than on the config."""
        peaks = [
            record.metrics.get(PEAK_MEMORY, math.nan)
            for record in self.records
            if (ran_on := environment_of(record)) is None or ran_on.device != "cpu"
        ]
        return max((peak for peak in peaks if is_number(peak)), default=None)

    @cached_property
    def wall_s(self) -> float | None:
        """Seconds of one trial: the median over finished ones."""
        seconds = [record.wall_s for record in self.records if record.outcome is Outcome.FINISHED]
        return median(seconds) if seconds else None

    @cached_property
    def records(self) -> tuple[TrialRecord, ...]:
        """The trials there are, in seed order."""
        return tuple(record for record in self.trials.values() if record is not None)

    @cached_property
    def environments(self) -> Mapping[int, Environment]:
        """Seed -> what a finished trial ran on."""
        return {
            record.seed: environment
            for record in self.records
            if record.outcome is Outcome.FINISHED and (environment := environment_of(record)) is not None
        }

    @cached_property
    def other_code(self) -> tuple[int, ...]:
        """Seeds whose result was trained by code other than today's (the user accepted it)."""
        if self.fingerprint is None:
            return ()
        return tuple(record.seed for record in self.records if record.fingerprint != self.fingerprint)


class MarkKind(Enum):
    """What a mark is about."""

    MISSING = "missing"  # a seed has no number
    ENVIRONMENT = "environment"  # a seed ran elsewhere than most
    CODE = "code"  # a seed was trained by earlier code


@dataclass(frozen=True)
class Mark:
    """What a reader must know of some seeds before reading a mean: `seeds 0, 2 not started`."""

    kind: MarkKind
    seeds: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"seed{'' if len(self.seeds) == 1 else 's'} {', '.join(map(str, self.seeds))} {self.text}"


def marks(config: ConfigResult, metric: str, environments: Sequence[Environment]) -> tuple[Mark, ...]:
    """The marks of a config's mean: seeds without a number by reason, those of other environments and of other code."""
    numbers = config.finals(metric)
    found: dict[tuple[MarkKind, str], list[int]] = {}
    for seed in config.trials:
        if seed not in numbers:
            found.setdefault((MarkKind.MISSING, status_text(config, seed)), []).append(seed)
    for seed, environment in config.environments.items():
        if environment != environments[0]:
            text = f"ran on machine {letter(environments, environment)}"
            found.setdefault((MarkKind.ENVIRONMENT, text), []).append(seed)
    for seed in config.other_code:
        found.setdefault((MarkKind.CODE, "trained by earlier code"), []).append(seed)
    return tuple(Mark(kind, tuple(seeds), text) for (kind, text), seeds in found.items())


def environments_of(configs: Iterable[ConfigResult]) -> tuple[Environment, ...]:
    """What the finished trials ran on, the most frequent first."""
    counts = Counter(environment for config in configs for environment in config.environments.values())
    return tuple(sorted(counts, key=lambda environment: (-counts[environment], environment)))


def letter(environments: Sequence[Environment], environment: Environment) -> str:
    """The letter that marks an environment: A is the most frequent one; Z marks all from the 26th on."""
    return chr(ord("A") + min(environments.index(environment), 25))


def status_text(config: ConfigResult, seed: int) -> str:
    """The status of a trial without a number, with its step where that helps: `stopped early at step 120 of 400`."""
    record, status = config.trials[seed], config.status(seed)
    if status is Status.FINISHED:
        return "finished without a number"
    text: str = status.value
    if record is None or status not in (Status.STOPPED, Status.DIVERGED, Status.OPEN) or not record.planned_steps:
        return text
    return f"{text} at step {record.step} of {record.planned_steps}"
