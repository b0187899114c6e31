"""QuadMix in training: when it begins, what it remembers, what tasks see of its two views."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainables.running.test_resume import numbers, trained
from tests.trainables.tasks.training import CPU, Own, smoke, train, with_hrda
from tests.trainables.trained import same_arrays
from trainables import tensor_file
from trainables.adaptation.quadmix import MEMORY
from trainables.config import (
    Execution,
    Experiment,
    LabelWeight,
    MaskedConsistency,
    MfmInput,
    Precision,
    QuadMix,
    RarePatches,
    SelfTraining,
)
from trainables.data.domains import open_domains
from trainables.randomness import Recorded, Streams
from trainables.recipes import SMOKE, mfm
from trainables.running.initial import begin, in_layout
from trainables.running.trial import CHECKPOINT, FINAL, Trial
from trainables.step_data import StepView
from trainables.tasks.mfm import MfmTask
from trainables.tasks.task import AuxiliaryTask, Shares
from trainables.training import Losses, State, self_training_step

REPOSITORY = Path(__file__).resolve().parents[3]
RARE = RarePatches(classes=(3, 4, 5, 9), more_than=2)
TOY = QuadMix(start=0.5, confidence=0.0, rare=RARE)


def quad(mixer: QuadMix = TOY, *auxiliary: object, steps: int = 4) -> Experiment:
    """DACS at the smoke scale that mixes so; every pseudo-label counts."""
    config = smoke(*auxiliary, steps=steps)
    return replace(config, adaptation=SelfTraining(threshold=0.0, mixer=mixer))


def views(config: Experiment, streams: Streams | None = None, told: list[Losses] | None = None) -> Iterator[StepView]:
    """What auxiliary tasks see of each step; the losses of each are appended to a list."""
    streams = streams or Streams(0)
    domains = open_domains(config, {}, CPU)
    state: State = begin(config, streams, domains, Path("/nonexistent"), {}, CPU)
    assert isinstance(config.adaptation, SelfTraining)
    for step in range(config.schedule.steps):
        source = in_layout(domains.source(streams, step, config.batch_size), config)
        target = in_layout(domains.target(streams, step, config.batch_size), config)
        losses = self_training_step(state, config.adaptation, source, target)
        if told is not None:
            told.append(losses)
        assert state.last is not None
        yield state.last


# -- phases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "batches"), [(0.0, [1, 2, 2, 2]), (0.5, [1, 1, 2, 2]), (1.0, [1, 1, 1, 1])])
def test_it_begins_at_its_share_of_the_run(start: float, batches: list[int]) -> None:
    """The first step has nothing to remember, and is ClassMix's whatever the share."""
    seen = list(views(quad(replace(TOY, start=start))))
    assert [len(view.mixed) for view in seen] == batches


def test_before_it_begins_steps_are_those_of_class_mix() -> None:
    """Bit for bit, and the first step of the phase remembers the last one of ClassMix."""
    for own, plain in zip(views(quad()), views(smoke(steps=4)), strict=False):
        if len(own.mixed) == 1:
            assert torch.equal(own.mixed[0].image, plain.mixed[0].image)
            assert torch.equal(own.mixed[0].weight, plain.mixed[0].weight)
    assert own.step == 3


def test_templates_are_of_the_step_before_and_grounds_of_this_one() -> None:
    """Each pixel without jitter, blur and patches: one of four images, with the label and weight that it has there."""
    config = quad(replace(TOY, rare=None))
    config = replace(config, adaptation=replace(config.adaptation, jitter=None, blur=None))  # type: ignore[arg-type]
    for before, now in pairwise(views(config)):
        if len(now.mixed) == 1:
            continue
        for mixed, here in zip(now.mixed, (now.source, now.target), strict=True):
            kinds = [before.source.image, before.target.image, here.image]
            same = [(mixed.image == kind).all(1) for kind in kinds]
            assert bool(torch.stack(same).any(0).all())
            assert all(bool(each.any()) for each in same)
            target = same[1] & ~same[0] & ~same[2]
            assert torch.equal(mixed.label[target], before.pseudo.label[target])
            assert torch.equal(mixed.weight[target], before.pseudo.weight[target])
            assert torch.equal(mixed.confidence[target], before.pseudo.confidence[target])  # type: ignore[index]


@pytest.mark.parametrize("execution", [Execution(), Execution(precision=Precision.BFLOAT16)])
def test_views_lie_in_memory_as_the_images_of_the_config(execution: Execution) -> None:
    """Also those after memory that came back: an encoder is recorded once for each layout that it sees."""
    (*_, last) = views(replace(quad(), execution=execution))
    for mixed in last.mixed:
        assert mixed.image.is_contiguous(memory_format=torch.channels_last)
        assert mixed.image.dtype == torch.float32
        assert mixed.label.dtype == torch.int64
        assert mixed.weight.dtype == torch.float32


# -- patches ---------------------------------------------------------------------------------------------------------


def test_patches_are_of_the_drawn_classes_and_weigh_what_lies_below() -> None:
    """The same classes in both views, of images of their own; the rest is as without patches."""
    draws = {("quadmix rare classes", step, 0): torch.tensor([3, 0]) for step in range(4)}  # person, fence
    plain = quad(replace(TOY, rare=None))
    with_patches, without = (list(views(each, Recorded(0, draws)))[2] for each in (quad(), plain))
    differences = []
    for one, other in zip(with_patches.mixed, without.mixed, strict=True):
        changed = one.label != other.label
        assert set(one.label[changed].unique().tolist()) == {3, 9}
        assert torch.equal(one.weight, other.weight)
        assert bool(one.pasted.squeeze(1)[changed].all())
        differences.append(changed)
    assert not torch.equal(*differences)


def test_a_class_that_the_source_lacks_is_left_out() -> None:
    """As one that no image shows enough of: the step goes on without."""
    never = RarePatches(classes=(3, 4), more_than=10_000)
    for own, plain in zip(views(quad(replace(TOY, rare=never))), views(quad(replace(TOY, rare=None))), strict=True):
        for one, other in zip(own.mixed, plain.mixed, strict=True):
            assert torch.equal(one.image, other.image)


def test_rare_classes_that_the_data_have_not_are_one_sentence() -> None:
    """Before anything is trained, not where the phase begins."""
    told = r"^RarePatches\.classes must be among the data's classes, 0 to 11, got \(3, 12\); give the ids of its rare"
    with pytest.raises(ValueError, match=told):
        next(views(quad(replace(TOY, rare=RarePatches(classes=(3, 12))))))


# -- checkpoints -----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from tests.trainables.adaptation.test_quadmix import checkpointed
from trainables.running.trial import Trial

folder, shared, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
trial = Trial(checkpointed(), seed=3, folder=folder, shared=shared, data={})
take_step = trial._step

def step(state):
    losses = take_step(state)
    if state.step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses

trial._step = step
while trial.advance()["outcome"] is None:
    pass
"""


def checkpointed() -> Experiment:
    """MFM and MIC's loss on HRDA, the phase from step 4 of 8 on, a checkpoint every other step."""
    config = with_hrda(quad(TOY, MaskedConsistency(block=8), mfm(SMOKE), steps=8))
    return replace(config, evaluation=replace(config.evaluation, interval=4, checkpoint_interval=2))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("at", [7, 5])
def test_a_process_killed_in_the_phase_is_continued_bit_for_bit(at: int, tmp_path: Path) -> None:
    """kill -9 between two checkpoints of the phase, and right after its first step."""
    whole = trained(checkpointed(), tmp_path / "whole", tmp_path)
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "cut"), str(tmp_path), str(at)]
    killed = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    arrays, told = tensor_file.load(tmp_path / "cut" / CHECKPOINT)
    assert told["step"] == at - 1
    assert {name for name in arrays if name.startswith("mixer.")} == {f"mixer.{name}" for name in MEMORY}
    rest = trained(checkpointed(), tmp_path / "cut", tmp_path)
    assert numbers(rest[-1]) == numbers(whole[-1])
    assert (tmp_path / "cut" / FINAL).read_bytes() == (tmp_path / "whole" / FINAL).read_bytes()
    one, other = (tensor_file.load(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "cut"))
    assert same_arrays(one, other)


def test_what_is_remembered_is_in_checkpoints_of_the_phase_and_in_no_exported_student(tmp_path: Path) -> None:
    """Labels as bytes."""
    config = quad(TOY, steps=8)
    config = replace(config, evaluation=replace(config.evaluation, interval=2))
    trial = Trial(config, seed=0, folder=str(tmp_path / "t"), shared=str(tmp_path), data={})
    remembered = []
    while trial.advance()["outcome"] is None:
        arrays, _ = tensor_file.load(tmp_path / "t" / CHECKPOINT)
        remembered.append({name for name in arrays if name.startswith("mixer.")})
    assert remembered == [set(), *[{f"mixer.{name}" for name in MEMORY}] * 2]
    assert arrays["mixer.source_label"].dtype == arrays["mixer.pseudo_label"].dtype == torch.uint8
    trial.close()
    final, _ = tensor_file.load(tmp_path / "t" / FINAL)
    assert all(name.startswith(("encoder.", "decoder.")) for name in final)


# -- tasks -----------------------------------------------------------------------------------------------------------


class OnMixed(AuxiliaryTask):
    """Cross-entropy of the first mixed images once more, on the graph of their pass."""

    name = "again"
    shares = Shares.MIXED

    def loss(self, view: StepView) -> Tensor:
        assert view.mixed_encoded is not None
        mixed = view.mixed[0]
        loss: Tensor = view.student.loss(view.student.decode(view.mixed_encoded), mixed.label, mixed.weight).total()
        return loss


def test_a_task_on_the_mixed_pass_has_the_graph_of_the_first_view() -> None:
    """Its cross-entropy is twice what that view adds to L_uda, whose share is a half."""
    losses: list[Losses] = []
    list(views(quad(TOY, Own(make=lambda _: OnMixed())), told=losses))
    last = losses[-1]
    torch.testing.assert_close(last["loss/again"], 2 * last["loss/mixed 0"])
    torch.testing.assert_close(last["loss/mixed"], last["loss/mixed 0"] + last["loss/mixed 1"])


@pytest.mark.parametrize("label_weight", list(LabelWeight))
def test_mfm_on_mixed_images_takes_the_first_view_with_its_labels(label_weight: LabelWeight) -> None:
    """Where pixels count by the teacher's probability, it is that of the step in which they were labelled."""
    task = replace(mfm(SMOKE), input=MfmInput.MIXED, label_weight=label_weight)
    config = quad(replace(TOY, rare=None), task)
    config = replace(config, adaptation=replace(config.adaptation, threshold=0.12))  # type: ignore[arg-type]
    built = MfmTask.__new__(MfmTask)
    vars(built).update(config=task, adaptation=config.adaptation)
    before, now = list(views(config))[2:]
    mixed = now.mixed[0]
    (seen,) = built._inputs(now)
    assert torch.equal(seen.image, mixed.image)
    assert torch.equal(seen.label, mixed.label)
    expected = {LabelWeight.CONFIDENCE: mixed.weight, LabelWeight.NONE: torch.ones_like(mixed.weight)}
    expected[LabelWeight.PIXEL] = torch.where(mixed.pasted.squeeze(1), 1.0, (before.pseudo.confidence >= 0.12).float())
    assert torch.equal(seen.weight, expected[label_weight])
    assert not bool(mixed.pasted.all())


@pytest.mark.slow
def test_mfm_learns_beside_it_under_hrda(tmp_path: Path) -> None:
    """On the target and on mixed images: every term is logged, and finite."""
    for number, image in enumerate((MfmInput.TARGET, MfmInput.MIXED)):
        config = with_hrda(quad(TOY, replace(mfm(SMOKE), input=image)))
        report, final = train(config, tmp_path / str(number))
        assert report["outcome"] == "finished"
        assert {"loss/mfm", "loss/mixed", "loss/mixed detail", "loss/mixed 0", "loss/mixed 1"} <= set(report["metrics"])
        assert all(bool(value.isfinite().all()) for value in final.values())
