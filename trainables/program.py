"""The training code as a platform sees it (`mfm_tune.program.Program`). Imports no torch until a trial is opened."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from trainables.config import (
    ClassMix,
    Experiment,
    MfmInput,
    Precision,
    Pretrained,
    SelfTraining,
    SourceOnly,
    TargetSupervised,
    WarmStart,
)
from trainables.data.image_sets import Use
from trainables.data.scored import (
    AGREEMENT,
    ENTROPY,
    INFORMATION_MAXIMISATION,
    SOFT_NEIGHBOURHOOD_DENSITY,
    SOURCE_MIOU,
)
from trainables.experiment.weights import published_encoder
from trainables.models.hub import HubWeights

if TYPE_CHECKING:
    from trainables.running.probe import Probe
    from trainables.running.trial import Trial

ADAPTATIONS = {SelfTraining: "DACS", SourceOnly: "source-only", TargetSupervised: "oracle"}
STEP_TIMES = Path(__file__).with_name("step_times.json")  # made by `python -m tests.benchmarks.shipped_times`
OTHER_PASSES = (MfmInput.MIXED_SHARED, MfmInput.BOTH)  # MFM takes none, or two, of its own, instead of one


class DataSet(TypedDict):
    """A set of images with its use; the keys are those of `mfm_tune.program.DataSet`."""

    name: str
    use: str
    digest: str
    origin: str
    facts: dict[str, int | str]


@dataclass(frozen=True)
class Segmentation:
    """Unsupervised domain-adaptive semantic segmentation.

    Args:
        packages: Whose code trains.
        data: Name -> path of what is given: stores name their classes.
    """

    packages: tuple[str, ...] = ("trainables",)
    data: Mapping[str, str] = field(default_factory=dict, compare=False)

    def with_data(self, data: Mapping[str, str]) -> Segmentation:
        """The same program where data sets lie at these paths."""
        return replace(self, data=dict(data))

    def planned_steps(self, config: Experiment) -> int:
        """Training steps of one trial, the source pre-training (shared by all trials of a seed) not counted.

        Raises:
            ValueError: The config is none of this program's.
        """
        return _experiment(config).schedule.steps

    def cost_class(self, config: Experiment) -> str:
        """Network, adaptation, mixer, auxiliary tasks and bf16: what the time of a step depends on most."""
        tasks = [type(task).__name__ for task in config.auxiliary if getattr(task, "weight", 1.0) != 0]
        mfm = config.mfm
        if mfm is not None and mfm.weight != 0 and mfm.rebuilder is not None:
            tasks.append(f"{mfm.rebuilder.dim}x{mfm.rebuilder.blocks} on {mfm.grid[0]}x{mfm.grid[1]}")
        if mfm is not None and mfm.weight != 0 and mfm.input in OTHER_PASSES:
            tasks.append(f"of {mfm.input.value}")
        if isinstance(config.adaptation, SelfTraining) and config.adaptation.mixer != ClassMix():
            tasks.insert(0, type(config.adaptation.mixer).__name__)
        parts = [config.network.label, ADAPTATIONS[type(config.adaptation)], *tasks]
        ending = ", bf16" if config.execution.precision is Precision.BFLOAT16 else ""
        return f"{self.benchmark(config)}: {' + '.join(parts)}, batch {config.batch_size}{ending}"

    def step_times(self) -> list[tuple[str, bool, dict[str, float]]]:
        """Machine, whether it is a GPU, and seconds a step by cost class, as the package brings them; what is estimated
        of a GPU comes last."""
        content = json.loads(STEP_TIMES.read_text(encoding="utf-8"))
        return [(table["machine"], kind != "cpu", table["seconds"]) for kind, table in content.items()]

    def class_names(self, config: Experiment) -> tuple[str, ...]:
        """Names of the scored classes."""
        return config.data.class_names(self.data)

    def metrics(self, config: Experiment) -> tuple[str, ...]:
        """Keys that a finished trial reports; what ends in `/` stands for all keys that begin so.

        Raises:
            ValueError: The config is none of this program's.
        """
        networks = ("student", "teacher") if isinstance(_experiment(config).adaptation, SelfTraining) else ("student",)
        names = config.data.class_names(self.data)
        scores = ["miou", "accuracy", *config.data.further_means(self.data)]
        scores += [f"iou/{name}" for name in names] or ["iou/"]
        found = [f"{network}/{score}" for network in networks for score in scores]
        if config.source_holdout is not None:
            found.append(SOURCE_MIOU)
        if config.evaluation.criteria is not None:
            found += [ENTROPY, INFORMATION_MAXIMISATION, SOFT_NEIGHBOURHOOD_DENSITY]
            found += [AGREEMENT] if len(networks) > 1 else []
        if isinstance(config.adaptation, SelfTraining):
            found += ["pseudo_label_share", "pseudo_label/"]
        return (*found, "loss/", "learning_rate", "time/step_ms", "time/evaluation_s", "memory/peak_mib")

    def benchmark(self, config: Experiment) -> str:
        """Name of the data and the scale."""
        return config.data.benchmark

    def data_sets(self, config: Experiment) -> list[DataSet]:
        """The images that the config's adaptation, pre-training and evaluation use."""
        unused = set()
        if isinstance(config.adaptation, SourceOnly) and config.adaptation.adapt_statistics is None:
            unused.add(Use.TARGET)
        if isinstance(config.adaptation, TargetSupervised) and not isinstance(config.initial, WarmStart):
            unused.add(Use.SOURCE)
        return [
            DataSet(name=each.name, use=each.use.value, digest=each.digest, origin=each.origin, facts=each.facts)
            for each in config.data.image_sets(self.data)
            if each.use not in unused
        ]

    def store_commands(self, configs: Sequence[Experiment]) -> dict[str, str]:
        """The commands that make the stores which the configs read, by data set."""
        from trainables.data.given import store_commands

        return store_commands(configs)

    def export_command(self, folder: str, model: str) -> str:
        """What to type to make a model of the trial in a folder."""
        return f"python -m trainables.export {shlex.quote(folder)} {model}"

    def check_data(self, configs: Sequence[Experiment], data: Mapping[str, str]) -> None:
        """See that given data sets and weights are what the configs read (see `trainables.data.given`)."""
        from trainables.data.given import check_given

        check_given(configs, data)

    def weights(self, configs: Sequence[Experiment]) -> tuple[HubWeights, ...]:
        """Published weights that the configs start from, each file once."""
        named = [config for config in configs if isinstance(config.initial, Pretrained)]
        found = (HubWeights(published_encoder(config.network)) for config in named)
        return tuple({each.name: each for each in found}.values())

    def open(self, config: Experiment, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> Trial:
        """Start or resume a trial in this process (see `trainables.running.trial.Trial`)."""
        from trainables.running.trial import Trial

        return Trial(config, seed=seed, folder=folder, shared=shared, data=data)

    def probe(self, config: Experiment, *, folder: str, data: Mapping[str, str]) -> Probe:
        """Measure a step and an evaluation in this process (see `trainables.running.probe`)."""
        from trainables.running.probe import probe

        return probe(config, folder=folder, data=data)

    def trainable(self) -> type:
        """The Ray Tune class trainable."""
        from trainables.tune import SegmentationTrial

        return SegmentationTrial


def _experiment(config: object) -> Experiment:
    if type(config) is not Experiment:  # what a subclass adds would not be trained
        raise ValueError(f"Segmentation trains an Experiment, got {type(config).__name__}.")
    return config
