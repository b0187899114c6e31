"""From settings to tasks: what is built, from which draws, and a task of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.tasks.training import NotANumber, Own, smoke, started, train
from trainables.config import (
    DropBlock,
    FeatureDistance,
    FeatureDropout,
    MaskedConsistency,
    MaskedImageModelling,
    Mfm,
    Rebuilder,
    SelfTraining,
)
from trainables.models.segmentor import Segmentor
from trainables.randomness import Streams
from trainables.recipes import MINI, dacs
from trainables.running.initial import new_student
from trainables.step_data import StepView
from trainables.tasks.build import build_tasks
from trainables.tasks.task import AuxiliaryTask, Shares, TaskSetting

SMALL = Mfm(grid=(2, 4), rebuilder=Rebuilder(dim=16, heads=2, blocks=1))
ALL = (
    SMALL,
    FeatureDistance(),
    MaskedConsistency(block=8),
    FeatureDropout(),
    DropBlock(),
    MaskedImageModelling(patch=8),
)


class SourceEntropy(AuxiliaryTask):
    """A task of a reader's own, on the source pass's features: a linear probe that should not be sure."""

    name = "entropy"
    shares = Shares.SOURCE
    learning_rate = 1e-2

    def __init__(self, weight: float, channels: int) -> None:
        super().__init__()
        self.weight = weight
        self.probe = nn.Conv2d(channels, 2, 1)

    def loss(self, view: StepView) -> Tensor:
        assert view.source_encoded is not None
        log = self.probe(view.source_encoded.pyramids[0][-1]).log_softmax(dim=1)
        return (log.exp() * log).sum(dim=1).mean()


def entropy(setting: TaskSetting) -> AuxiliaryTask:
    """Build it from the shapes of the features."""
    return SourceEntropy(2.0, setting.student.channels[-1])


def test_all_tasks_train_side_by_side(tmp_path: Path) -> None:
    """One step's log has a finite loss of each, in one trial."""
    report, _ = train(smoke(*ALL, Own(entropy)), tmp_path)
    assert report["outcome"] == "finished"
    logged = {name.removeprefix("loss/") for name in report["metrics"] if name.startswith("loss/")}
    assert logged == {
        "source", "mixed", "mfm", "feature_distance", "masked_consistency", "feature_dropout", "dropblock",
        "masked_image", "entropy",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("task", [FeatureDropout(), DropBlock(), MaskedImageModelling()])
def test_the_regularisers_train_at_mini(task: object, tmp_path: Path) -> None:
    """Ten steps at the scale of the embedded benchmark, from random weights: finite losses, a scored student."""
    config = dacs(MINI, task)
    schedule, evaluation = replace(config.schedule, steps=10), replace(config.evaluation, interval=10)
    report, weights = train(replace(config, initial=None, schedule=schedule, evaluation=evaluation), tmp_path)
    assert report["outcome"] == "finished"
    assert report["metrics"]["student/miou"] > 0
    assert all(bool(value.isfinite().all()) for value in weights.values())


@pytest.mark.parametrize(
    "task", [Mfm, FeatureDistance, MaskedConsistency, FeatureDropout, DropBlock, MaskedImageModelling]
)
def test_weight_zero_builds_nothing(task: type) -> None:
    """A task with weight 0 costs and changes nothing."""
    assert len(started(smoke(task(weight=0.0))).tasks) == 0


def test_a_tasks_initial_weights_do_not_depend_on_others() -> None:
    """The Rebuilder starts equal alone and among others, in any order, and differs from seed to seed."""

    def initial(*settings: object, seed: int = 0) -> dict[str, Tensor]:
        config = smoke(*settings)
        student = new_student(config, Streams(0), 12, torch.device("cpu"))
        assert isinstance(config.adaptation, SelfTraining)
        setting = TaskSetting(
            student=student,
            adaptation=config.adaptation,
            streams=Streams(seed),
            image_size=(32, 64),
            imagenet_encoder=student.encoder,
        )
        tasks = build_tasks(config.auxiliary, setting)
        (mfm,) = (t for t in tasks if getattr(t, "name", "") == "mfm")
        return dict(mfm.state_dict())

    alone, among = initial(SMALL), initial(MaskedImageModelling(patch=8), FeatureDropout(), SMALL)
    assert all(torch.equal(alone[name], among[name]) for name in alone)
    assert any(not torch.equal(value, initial(SMALL, seed=1)[name]) for name, value in alone.items())


def test_a_task_of_ones_own_learns_with_its_own_rate() -> None:
    """It needs `build(setting)`; its parameters are trained and stay out of the student."""
    state = started(smoke(Own(entropy)))
    (task,) = state.tasks
    rates = {id(p): group["base"] for group in state.optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in task.parameters()} == {1e-2}
    assert not any("probe" in name for name, _ in state.student.named_parameters())


class Unweighted(AuxiliaryTask):
    """A task that says nothing of its weight."""

    name = "unweighted"

    def loss(self, view: StepView) -> Tensor:
        return view.student(view.target.image).logits.square().mean()


def test_a_task_weighs_what_its_settings_say_unless_it_says_otherwise() -> None:
    """Nobody has to hand the weight on; SourceEntropy sets another one itself."""
    made = (Own(lambda setting: Unweighted(), weight=0.25), Own(entropy, weight=0.25))
    assert [started(smoke(settings)).tasks[0].weight for settings in made] == [0.25, 2.0]


def test_a_task_that_shares_no_pass_has_no_shared_features() -> None:
    """And is told how to share one."""
    view = started(smoke()).last
    assert view is not None
    with pytest.raises(ValueError, match=r"^AuxiliaryTask\.shares must be Shares\.SOURCE or Shares\.MIXED"):
        view.shared  # noqa: B018
    with pytest.raises(ValueError, match=r"^Batch\.label must be given for its ground truth, got None"):
        view.target.ground_truth  # noqa: B018


@dataclass(frozen=True)
class Weighted:
    """A weight, and no task."""

    weight: float = 1.0


class Sharper(Mfm):
    """Derived from the project's own settings, and no task."""


class Entropic(FeatureDropout):
    """Derived from the project's own settings, and built by itself."""

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        return entropy(setting)


class Former(FeatureDropout):
    """Built from the network and the draws, as earlier versions called it."""

    def build(self, segmentor: Segmentor, streams: Streams) -> AuxiliaryTask:  # type: ignore[override]
        raise NotImplementedError


class Nameless(AuxiliaryTask):
    """A task that the logs cannot name."""


@dataclass(frozen=True)
class Namesake:
    """A second task under the name of another."""

    weight: float = 1.0

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        return entropy(setting)


def test_settings_derived_from_the_projects_own_build_their_own_task() -> None:
    """The parent's task would be trained under the subclass's name."""
    (task,) = started(smoke(Entropic())).tasks
    assert isinstance(task, SourceEntropy)


def test_settings_that_build_no_task_are_one_sentence() -> None:
    """No settings at all, settings without `build`, and a `build` that returns something else.

    Settings are refused when the config is made.
    """
    with pytest.raises(
        ValueError, match=r"^Experiment\.auxiliary must hold settings of auxiliary tasks .+, got 'mfm'\."
    ):
        smoke("mfm")
    with pytest.raises(ValueError, match=r"holds a Weighted, which has no method build\(setting\) of its own"):
        smoke(Weighted())
    with pytest.raises(ValueError, match=r"holds a Sharper, which has no method build\(setting\) of its own"):
        smoke(Sharper())
    with pytest.raises(
        ValueError, match=r"holds a Former, whose method is build\(self, segmentor.+define it as build\("
    ):
        smoke(Former())
    with pytest.raises(ValueError, match=r"Own\.build must return an AuxiliaryTask, got int"):
        started(smoke(Own(lambda setting: 3)))
    with pytest.raises(ValueError, match=r"^Nameless\.name must be a string, got None; it names the loss in the logs"):
        started(smoke(Own(lambda setting: Nameless())))


def test_two_tasks_of_one_name_are_one_sentence() -> None:
    """The second would take the first one's place in the log, and draw its dropout."""
    with pytest.raises(ValueError, match=r"name that no other term of the loss has, got 'entropy'; taken are source, "):
        started(smoke(Own(entropy), Namesake()))


@pytest.mark.parametrize("at", [0, 2])
def test_nan_in_a_term_is_the_outcome_diverged(tmp_path: Path, at: int) -> None:
    """The trial ends with outcome `diverged`, names the term, and keeps no final weights."""
    report, final = train(smoke(Own(lambda setting: NotANumber(at))), tmp_path)
    assert report["outcome"] == "diverged"
    assert "loss/nan" in report["error"]
    assert "not a finite number" in report["error"]
    assert not final


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FeatureDropout(probability=1.0), r"FeatureDropout.probability must lie in \[0, 1\), got 1.0"),
        (lambda: FeatureDropout(weight=-1.0), r"FeatureDropout.weight must lie in \[0, inf\), got -1.0"),
        (lambda: DropBlock(probability=1.0), r"DropBlock.probability must lie in \[0, 1\), got 1.0"),
        (lambda: DropBlock(block=0), "DropBlock.block must be an integer of at least 1, got 0"),
        (lambda: MaskedImageModelling(ratio=1.0), r"MaskedImageModelling.ratio must lie in \[0, 1\), got 1.0"),
        (lambda: MaskedImageModelling(patch=0), "MaskedImageModelling.patch must be an integer of at least 1, got 0"),
        (lambda: FeatureDistance(min_ratio=0.0), r"FeatureDistance.min_ratio must lie in \(0, 1\], got 0.0"),
        (
            lambda: FeatureDistance(classes=(255,)),
            "FeatureDistance.classes must be one or more integers from 0 to 254, got",
        ),
        (lambda: Mfm(ratio=1.0), r"Mfm.ratio must lie in \[0, 1\), got 1.0"),
        (lambda: Mfm(weight=float("nan")), r"Mfm.weight must lie in \[0, inf\), got nan"),
    ],
)
def test_settings_out_of_range_are_one_sentence(make: Callable[[], object], sentence: str) -> None:
    """Field, value and allowed range."""
    with pytest.raises(ValueError, match=sentence):
        make()
