"""Several terms of one task, on whose graphs they are taken, and a moving average of a task's own head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mfm_tune.fields import Settings
from tests.trainables.running.test_resume import numbers, trained
from tests.trainables.tasks.training import CPU, Own, smoke, started, stepped, train
from tests.trainables.trained import same_arrays
from trainables import tensor_file
from trainables.adaptation.teacher import MovingAverage
from trainables.config import Execution, Experiment, Precision, SelfTraining
from trainables.models.segmentor import Encoded
from trainables.randomness import Streams
from trainables.running.initial import new_student
from trainables.running.trial import CHECKPOINT, FINAL
from trainables.step_data import StepView
from trainables.tasks.task import AuxiliaryTask, Shares, TaskSetting
from trainables.training import State, self_training_step

EXACT = Execution(precision=Precision.FLOAT64)


def exact(config: Experiment) -> Experiment:
    """In float64, so that sums in another order agree."""
    return replace(config, execution=EXACT)


class Probe(AuxiliaryTask):
    """A head of its own that should be sure: one or two terms, on one's own graph or on that of a pass."""

    name = "probe"
    learning_rate_factor = 10.0

    def __init__(self, channels: int, shares: Shares, *, split: bool = True) -> None:
        super().__init__()
        self.weight = 0.5
        self.shares = shares
        self.split = split
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # the same head wherever it is made
            self.head = nn.Conv2d(channels, 4, 1).double()

    def term(self, encoded: Encoded) -> Tensor:
        log = self.head(encoded.pyramids[0][-1]).log_softmax(dim=1)
        return -(log.exp() * log).sum(dim=1).mean()

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        shared = {Shares.SOURCE: view.source_encoded, Shares.MIXED: view.mixed_encoded}.get(self.shares)
        image = view.source.image if self.shares is Shares.SOURCE else view.mixed[0].image
        first = self.term(view.student.encode(image) if shared is None else shared)
        if not self.split:
            yield "", first + self.term(view.student.encode(view.target.image))
            return
        yield "first", first
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            first.backward()  # its graph is gone before the next term is asked for
        yield "target", self.term(view.student.encode(view.target.image))


def probing(shares: Shares, *, split: bool = True) -> Own:
    return Own(lambda setting: Probe(setting.student.channels[-1], shares, split=split))


def gradients(state: State) -> dict[str, Tensor]:
    """Of the student and the tasks, after a step."""
    modules = {"student": state.student, "tasks": state.tasks}
    named = ((f"{room}.{name}", p.grad) for room, module in modules.items() for name, p in module.named_parameters())
    return {name: gradient.clone() for name, gradient in named if gradient is not None}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shares", list(Shares))
def test_two_terms_on_one_head_have_the_gradients_of_their_sum(shares: Shares) -> None:
    """Though each is propagated back alone, and its graph is freed before the next."""
    two = gradients(stepped(exact(smoke(probing(shares)))))
    one = gradients(stepped(exact(smoke(probing(shares, split=False)))))
    assert float(two["tasks.0.head.weight"].norm()) > 0
    assert_close(two, one)


@pytest.mark.parametrize("shares", [Shares.SOURCE, Shares.MIXED])
def test_a_task_on_a_passs_graph_has_the_gradient_of_the_joint_loss(shares: Shares) -> None:
    """L_sup + L_uda + weight * both terms, differentiated at once; the pass is encoded once."""
    config = exact(smoke(probing(shares)))
    state = stepped(config)
    view = state.last
    assert view is not None
    student = new_student(config, Streams(0), 12, CPU).train()
    probe = Probe(student.channels[-1], shares)
    source, mixed = student.encode(view.source.image), student.encode(view.mixed[0].image)
    joint = student.loss(student.decode(source), label(view)).total()
    joint = joint + student.loss(student.decode(mixed), view.mixed[0].label, view.mixed[0].weight).total()
    shared = source if shares is Shares.SOURCE else mixed
    joint = joint + 0.5 * (probe.term(shared) + probe.term(student.encode(view.target.image)))
    joint.backward()
    wanted = {f"student.{name}": p.grad for name, p in student.named_parameters() if p.grad is not None}
    wanted |= {f"tasks.0.{name}": p.grad for name, p in probe.named_parameters() if p.grad is not None}
    assert_close(gradients(state), wanted)


def label(view: StepView) -> Tensor:
    assert view.source.label is not None
    return view.source.label


@pytest.mark.parametrize(("shares", "passes"), [(Shares.NONE, 4), (Shares.SOURCE, 3), (Shares.MIXED, 3)])
def test_a_shared_pass_is_not_encoded_again(shares: Shares, passes: int) -> None:
    """Source, mixed, the task's target; without sharing the task encodes the mixed images once more."""
    state = started(smoke(probing(shares)))
    assert state.last is not None
    seen: list[object] = []
    state.student.encoder.register_forward_hook(lambda *_: seen.append(None))
    assert isinstance(state.config.adaptation, SelfTraining)
    self_training_step(state, state.config.adaptation, state.last.source, state.last.target)
    assert len(seen) == passes


def test_each_term_and_their_sum_are_in_the_log(tmp_path: Path) -> None:
    """Under the task's name, weighted."""
    report, _ = train(smoke(probing(Shares.MIXED)), tmp_path)
    logged = {name: value for name, value in report["metrics"].items() if name.startswith("loss/probe")}
    assert set(logged) == {"loss/probe", "loss/probe first", "loss/probe target"}
    assert logged["loss/probe"] == pytest.approx(logged["loss/probe first"] + logged["loss/probe target"])


def test_a_task_sees_the_length_of_the_run_and_draws_source_images_by_class() -> None:
    """As a mixer does: a phase may begin at a share of the run."""
    view = started(smoke(steps=7)).last
    assert view is not None
    assert view.total_steps == 7
    wanted = int(label(view).flatten()[0])
    batch = view.source_of_class("patch", wanted, 2)
    assert batch.label is not None
    assert all(bool((one == wanted).any()) for one in batch.label)


class Draws(AuxiliaryTask):
    """Two terms that record what dropout would draw in each; the first may draw more before."""

    name = "draws"

    def __init__(self, before: int) -> None:
        super().__init__()
        self.before = before
        self.drawn: list[Tensor] = []

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        for count in (self.before, 0):
            self.drawn.append(torch.rand(4))
            torch.rand(count)
            yield "", 0.0 * view.student(view.target.image).logits.sum()


def test_each_term_has_dropout_of_its_own_whatever_the_others_draw() -> None:
    """As a function of the task's name and the term's place."""
    drawn = []
    for before in (0, 1000):
        task = Draws(before)
        stepped(smoke(Own(lambda setting, task=task: task)))
        drawn.append(task.drawn)
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


class Twice(Probe):
    """Two terms on the shared graph, which the first one frees."""

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        assert view.source_encoded is not None
        yield "first", self.term(view.source_encoded)
        yield "second", self.term(view.source_encoded)


def test_a_second_term_on_a_shared_graph_is_one_sentence() -> None:
    """With the remedy, in the place of torch's paragraph."""
    config = exact(smoke(Own(lambda setting: Twice(setting.student.channels[-1], Shares.SOURCE))))
    with pytest.raises(ValueError, match=r"^Term 2 of the task 'probe' lies on a graph .*; add up what lies on one"):
        stepped(config)


class Alike(Probe):
    """Two terms of one name."""

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        for batch in (view.source, view.target):
            yield "crop", self.term(view.student.encode(batch.image))


def test_terms_of_one_name_are_added_up_in_the_log(tmp_path: Path) -> None:
    """None is lost."""
    config = smoke(Own(lambda setting: Alike(setting.student.channels[-1], Shares.NONE)))
    metrics = train(config, tmp_path)[0]["metrics"]
    assert metrics["loss/probe crop"] == metrics["loss/probe"]


class Silent(AuxiliaryTask):
    """A task that has no term yet, and counts steps."""

    name = "silent"
    shares = Shares.MIXED

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        yield from ()

    def after_step(self, view: StepView) -> None:
        self.get_buffer("steps").add_(1)


def test_a_task_without_a_term_in_a_step_changes_nothing() -> None:
    """Not the gradients, not the log; it may still gather statistics."""
    plain, silent = stepped(smoke()), stepped(smoke(Own(lambda setting: Silent())))
    one, other = gradients(plain), gradients(silent)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert int(silent.tasks[0].get_buffer("steps")) == 1


@dataclass(frozen=True)
class Averaged(Settings):
    """A head with an EMA copy of its own, a source and a target term, and a memory of what it saw."""

    weight: float = 1.0

    def build(self, setting: TaskSetting) -> AuxiliaryTask:
        return AveragedTask(setting.student.channels[-1])


class AveragedTask(AuxiliaryTask):
    """The head's target features are pulled to those of its moving average, from the second step on."""

    name = "averaged"
    shares = Shares.SOURCE

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, 4, 1)
        self.average = MovingAverage(self.head, 0.9)
        self.register_buffer("bank", None)
        self.register_buffer("centre", torch.empty(0))

    def losses(self, view: StepView) -> Iterator[tuple[str, Tensor]]:
        assert view.source_encoded is not None
        features = view.source_encoded.pyramids[0][-1]
        with torch.no_grad():
            kept = self.average(features.detach())
        yield "source", (self.head(features) - kept).square().mean()
        if self.bank is not None:
            target = view.student.encode(view.target.image).pyramids[0][-1]
            yield "target", (self.head(target) - self.bank - self.centre).square().mean()
        self.bank, self.centre = kept, kept.mean(dim=(2, 3), keepdim=True)

    def after_step(self, view: StepView) -> None:
        self.average.follow(self.head, view.step)


def test_a_moving_average_of_a_tasks_head_follows_it_and_is_not_trained() -> None:
    """After step 0 it equals the head as the optimiser left it; the optimiser has the head alone."""
    state = started(smoke(Averaged()))
    task = state.tasks[0]
    assert isinstance(task, AveragedTask)
    optimized = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in task.head.parameters()} <= optimized
    assert not {id(p) for p in task.average.parameters()} & optimized
    assert torch.equal(task.average.network.weight, task.head.weight)
    assert not task.average.network.weight.requires_grad


@pytest.mark.slow
def test_the_average_and_the_memory_of_a_task_resume_bit_for_bit(tmp_path: Path) -> None:
    """Killed between checkpoints; they are in the checkpoint and not in the exported student."""
    config = smoke(Averaged(), steps=8)
    config = replace(config, evaluation=replace(config.evaluation, interval=4, checkpoint_interval=2))
    whole = trained(config, tmp_path / "whole", tmp_path)
    cut = trained(config, tmp_path / "cut", tmp_path, cuts=(1, 3, 5))
    assert [numbers(report) for report in whole] == [numbers(report) for report in cut]
    arrays, other = (tensor_file.load(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "cut"))
    assert same_arrays(arrays, other)
    own = {name for name in arrays if name.startswith("tasks.")}
    assert own == {f"tasks.0.{name}" for name in (
        "head.weight", "head.bias", "average.network.weight", "average.network.bias", "bank", "centre",
    )}  # fmt: skip
    assert not torch.equal(arrays["tasks.0.head.weight"], arrays["tasks.0.average.network.weight"])
    final = tensor_file.load(tmp_path / "cut" / FINAL)[0]
    assert not any("average" in name or "bank" in name for name in final)


@pytest.mark.parametrize(("rate", "wanted"), [(None, 10.0), (1e-2, 0.1)])
def test_a_task_can_learn_at_a_multiple_of_the_learning_rate(rate: float | None, wanted: float) -> None:
    """Ten times the encoder's or its own; the schedule scales both."""

    def build(setting: TaskSetting) -> AuxiliaryTask:
        task = Probe(setting.student.channels[-1], Shares.NONE)
        task.learning_rate = rate
        return task

    config = smoke(Own(build))
    state = stepped(config)
    heads = {id(p) for p in state.tasks.parameters()}
    (group,) = (g for g in state.optimizer.param_groups if heads & {id(p) for p in g["params"]} and g["weight_decay"])
    encoder = state.optimizer.param_groups[0]
    assert group["base"] == pytest.approx(wanted * (encoder["base"] if rate is None else 1))
    assert group["lr"] / group["base"] == pytest.approx(encoder["lr"] / encoder["base"])
