"""What mfm_tune asks of the code that trains. Standard library only.

A `Program` is the thin door between the platform and the training code: mfm_tune never imports `trainables`;
a search space hands it over. Configs are frozen dataclasses that only the program understands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TypedDict, runtime_checkable

# Metrics of pseudo-labels over all classes, percent, where a trial measures them; `/CLASS` of one class.
PRECISION, COVERAGE = "pseudo_label/precision", "pseudo_label/coverage"


class Outcome(Enum):
    """How a trial ended."""

    FINISHED = "finished"  # it reached its planned steps
    STOPPED = "stopped"  # a scheduler ended it early; never enters an average
    OOM = "oom"
    DIVERGED = "diverged"
    FAILED = "failed"


class Report(TypedDict, total=False):
    """What a trial says after each block of steps (up to the next evaluation).

    `metrics` holds finite or non-finite floats by key: `student/miou`, `teacher/miou`, `student/iou/<class>`,
    `loss/<term>`, `pseudo_label_share`, `time/step_ms`, `memory/peak_mib`, ... mIoU and IoU are in percent, NaN where
    undefined.
    """

    step: int  # training steps done so far
    planned_steps: int
    executed_steps: int  # steps executed since the trial was first started, repeated ones included
    metrics: dict[str, float]
    confusion: dict[str, list[list[int]]]  # by network (`student`, `teacher`): rows are labels, columns predictions
    pictures: dict[str, str]  # name -> path relative to the trial's folder
    machine: dict[str, str]  # device, device_name, torch, threads, precision; on a GPU also tf32
    outcome: str | None  # an Outcome's value when the trial is over, else None
    error: str  # for `failed`: the traceback; for `oom`, `diverged`: one sentence
    notice: str  # a sentence to the user about something that changes no result, such as a damaged checkpoint


def numbers_only(report: Report) -> Report:
    """The report without metrics that are no number (None), as if they were missing: what follows counts on numbers."""
    metrics: Mapping[str, Any] = report.get("metrics", {})
    return {**report, "metrics": {name: value for name, value in metrics.items() if isinstance(value, int | float)}}


class Probe(TypedDict, total=False):
    """What a few steps and an evaluation took, measured apart from any trial."""

    step_s: float  # seconds a training step, after a warm-up
    evaluation_s: float  # seconds an evaluation with its checkpoint
    evaluations: int  # evaluations of a whole trial
    memory_mib: float  # peak memory: of the GPU, else of the process
    machine: dict[str, str]
    error: str  # where memory did not suffice, one sentence, and nothing else is there


class Running(Protocol):
    """A trial in progress."""

    def advance(self) -> Report:
        """Train up to the next evaluation, evaluate, write a checkpoint, and report.

        Out of memory and divergence do not raise: they are outcomes in the report. Anything else that goes
        wrong raises.
        """

    def close(self) -> None:
        """Give memory and files back. Checkpoints stay: no trial knows whether the driver has heard its last report."""


@runtime_checkable
class Program(Protocol):
    """The training code, as the platform sees it. Declaring one imports neither torch nor ray."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Names of the packages whose syntax trees are the training code's fingerprint."""

    def planned_steps(self, config: Any) -> int:
        """Training steps of one trial."""

    def cost_class(self, config: Any) -> str:
        """Configs with equal text cost about the same time a step (a name such as `DeepLabV2 + Mfm`)."""

    def class_names(self, config: Any) -> tuple[str, ...]:
        """Names of the classes that are scored, in the order of the confusion matrix."""

    def metrics(self, config: Any) -> tuple[str, ...]:
        """Keys of the metrics that a finished trial reports; what ends in `/` stands for all keys that begin so."""

    def benchmark(self, config: Any) -> str:
        """Name of the data and scale, such as `toy-city-mini`: one MLflow experiment each."""

    def store_commands(self, configs: Sequence[Any]) -> Mapping[str, str]:
        """The commands that make the stores which the configs read, by data set; other data is left out."""

    def open(self, config: Any, *, seed: int, folder: str, shared: str, data: Mapping[str, str]) -> Running:
        """Start or resume a trial in this process.

        Args:
            config: What to train.
            seed: Seed of every draw.
            folder: The trial's own folder: checkpoint, final weights, pictures. A checkpoint there is continued.
                Names of checkpoints begin with `checkpoint.`, and the driver removes them once the ledger says that the
                trial finished.
            shared: Folder for artefacts that trials share (warm starts); safe against concurrent writers.
            data: Dataset name -> path of its store or folder.
        """

    def probe(self, config: Any, *, folder: str, data: Mapping[str, str]) -> Probe:
        """Measure a step and an evaluation in this process. Leaves nothing behind but files in `folder`.

        Running out of memory is said in the answer; anything else that goes wrong raises, a ValueError where the
        program refuses what it was given.
        """

    def trainable(self) -> type:
        """The Ray Tune class trainable that wraps `open`; its config is `{"trial": key, "arguments":
        those of open}`."""


@runtime_checkable
class KnowsData(Protocol):
    """What a program may have besides: it knows more of configs once it is told where their data lie."""

    def with_data(self, data: Mapping[str, str]) -> Program:
        """The same program, which may look at what is given as `--data`: names of classes, say. Raises nothing."""


SCORED = "evaluation"  # use of the data that a report's scores are of


class DataSet(TypedDict):
    """Examples that a trial is trained or scored on."""

    name: str  # such as `cityscapes`
    use: str  # what for: `SCORED`, or another word such as `training source`
    digest: str  # at most 36 characters; the same where the examples are the same
    origin: str  # where they lie, or how they are made
    facts: dict[str, int | str]  # how many images, their size, how many classes


@runtime_checkable
class DescribesData(Protocol):
    """What a program may have besides: which data a config trains and is scored on."""

    def data_sets(self, config: Any) -> Sequence[DataSet]:
        """As far as a plan can tell, each with its use: in no time, without third-party imports."""


@runtime_checkable
class ShipsStepTimes(Protocol):
    """What a program may have besides: step times to plan with before this machine has any."""

    def step_times(self) -> Sequence[tuple[str, bool, Mapping[str, float]]]:
        """Where they were measured (`one core of an AMD EPYC`), whether on a GPU, and seconds a step by cost class,
        evaluations and checkpoints included. A second one of a kind of device has estimates, and how they were made in
        the place of the machine. In no time, without third-party imports."""


@runtime_checkable
class ExportsModels(Protocol):
    """What a program may have besides: its trials leave models that can be used.

    Where the command finds the trial's ledger, it leaves a note beside it (`mfm_tune.ledger.storage.Export`).
    """

    def export_command(self, folder: str, model: str) -> str:
        """What to type to make a model of the trial in a folder."""


@runtime_checkable
class DataCheck(Protocol):
    """What a program may have besides: a look at the data that it is given, before anything is planned or trained."""

    def check_data(self, configs: Sequence[Any], data: Mapping[str, str]) -> None:
        """See that what is given as `--data` is what the configs read, as far as a plan can tell: in no time, without
        third-party imports. Not called where nothing is given.

        Raises:
            ValueError: One is not, in one sentence.
        """


class Weights(Protocol):
    """One file of published weights that configs start from. Only `download` uses the network."""

    @property
    def name(self) -> str:
        """What `--data NAME=PATH` calls the file; known in no time, without third-party imports."""

    def description(self) -> str:
        """What it is, from where, and under which licence.

        Raises:
            ValueError: Nothing is published under the name, in one sentence.
        """

    def cached(self) -> str | None:
        """Where an earlier download lies on this machine; None where there is none.

        Raises:
            ValueError: As above.
        """

    def download(self, say: Callable[[str], None]) -> str:
        """Get the file, after saying what it is, from where, its licence and its size. Returns its path.

        Raises:
            ValueError: It cannot be had, or is not what it should be, in one sentence; nothing of it is left.
        """


@runtime_checkable
class PublishedWeights(Protocol):
    """What a program may have besides: weights that it can get by name, and never does unasked.

    The platform finds or, with `--download`, gets them before anything is trained, and hands their paths to trials in
    `data`, like files that were given.
    """

    def weights(self, configs: Sequence[Any]) -> Sequence[Weights]:
        """What the configs start from, each file once."""
