"""Patch contrast against a slow reference on random cases; where its gradient goes, and what its switches change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.models.tiny import TINY_DAFORMER, built
from tests.trainables.tasks.slow_pipa import SlowPatches
from tests.trainables.tasks.training import reached, smoke, started, with_hrda
from trainables.adaptation.view_pairs import View, overlap
from trainables.config import (
    Execution,
    Experiment,
    PairImages,
    PatchContrast,
    PatchFeatures,
    PatchLabels,
    PatchNetwork,
    PixelContrast,
    Precision,
)
from trainables.optimization import parameter_groups
from trainables.randomness import Recorded
from trainables.step_data import StepView
from trainables.tasks.patch_contrast import Bank, Cells, PatchContrastTask
from trainables.training import State

FEW = settings(max_examples=20)
SMALL = PatchContrast(window=(24, 24), long_side=(64, 80), dim=8, bank_cells=6, confidence=0.0, start=0.0)
RELEASED = SMALL.as_released()


def larger(config: PatchContrast) -> PatchContrast:
    """With crops that the tiny HRDA can encode at half their resolution."""
    return replace(config, window=(64, 64), long_side=(80, 96))


def seen(config: Experiment) -> tuple[State, PatchContrastTask, StepView]:
    """A state after a step, its task, and the step's view."""
    state = started(config)
    (task,) = state.tasks
    assert isinstance(task, PatchContrastTask)
    assert state.last is not None
    return state, task, state.last


# -- against the slow reference -------------------------------------------------------------------------------------


@FEW
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    count=st.integers(1, 6),
    steps=st.integers(1, 3),
    threshold=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_the_loss_is_the_slow_one_over_steps(
    seed: int, batch: int, size: tuple[int, int], count: int, steps: int, threshold: float
) -> None:
    """Any overlap and flips, a bank that fills and forgets; nothing is sure enough at a threshold of 1."""
    generator = np.random.default_rng(seed)
    config = PatchContrast(dim=3, bank_cells=count, bank_steps=steps, confidence=threshold)
    task = PatchContrastTask(config, built(TINY_DAFORMER)).double()
    slow = SlowPatches(config.temperature, threshold, steps)
    shape, window = (batch, *size), (8 * size[0], 8 * size[1])
    cells = batch * size[0] * size[1]
    for step in range(4):
        vectors = tuple(generator.normal(size=(batch, 3, *size)) for _ in range(2))
        vectors = tuple(one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors)
        labels = tuple(generator.integers(0, 3, shape) for _ in range(2))
        sure = tuple(generator.uniform(size=shape) for _ in range(2))
        chosen = tuple(generator.permutation(cells)[:count] for _ in range(2))
        flips = [tuple(bool(flip) for flip in generator.integers(0, 2, 2)) for _ in range(batch)]
        corners = [
            tuple(tuple(int(generator.integers(0, side)) for side in size) for _ in range(2)) for _ in range(batch)
        ]
        views = [
            [
                View(
                    torch.zeros(0),
                    overlap(*(tuple(8 * part for part in places[crop]) for crop in (own, 1 - own)), window),  # type: ignore[arg-type]
                    flip[own],
                )
                for places, flip in zip(corners, flips, strict=True)
            ]
            for own in range(2)
        ]
        draws = {("patch bank", step, crop): torch.from_numpy(chosen[crop]) for crop in range(2)}
        found = task.contrast(
            [Cells(*(torch.from_numpy(each[crop]) for each in (vectors, labels, sure))) for crop in range(2)],
            views,
            Recorded(0, draws),
            step,
        )
        wanted = slow.step(vectors, labels, sure, corners, flips, tuple(one.tolist() for one in chosen))  # type: ignore[arg-type]
        assert float(found) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_the_bank_forgets_the_oldest_step() -> None:
    bank = Bank(steps=2, dim=1)
    for step in range(4):
        bank.add(torch.full((3, 1), float(step)), torch.full((3,), step))
    assert bank.labels.tolist() == [2, 2, 2, 3, 3, 3]
    assert bank.vectors.flatten().tolist() == [2.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    assert {"vectors", "labels"} == set(bank.state_dict())


# -- in the step ----------------------------------------------------------------------------------------------------


def learns(task: PatchContrastTask, view: StepView) -> tuple[set[str], set[str]]:
    """What the loss's gradient reaches of the student and of the task."""
    loss = task.loss(view)
    assert float(loss.detach()) > 0
    loss.backward()
    assert not reached(view.teacher)
    return reached(view.student), reached(task)


PROJECTION = {f"projection.{place}.{part}" for place in (0, 2) for part in ("weight", "bias")}


@pytest.mark.parametrize("labels", [PatchLabels.NETWORK, PatchLabels.TEACHER])
def test_student_features_train_the_segmentor_up_to_its_classifier(labels: PatchLabels) -> None:
    """Encoder and the decoder's map learn, the classifier and HRDA's attention do not."""
    _, task, view = seen(with_hrda(smoke(larger(replace(SMALL, labels=labels)))))
    student, own = learns(task, view)
    assert own == PROJECTION
    assert any(name.startswith("encoder.") for name in student)
    assert any(name.startswith("decoder.head.fusion.") for name in student)
    assert not any("classifier" in name or "attention" in name for name in student)


@pytest.mark.parametrize("features", list(PatchFeatures))
@pytest.mark.parametrize("hrda", [False, True])
def test_as_released_the_loss_trains_nothing_but_its_own_projection(features: PatchFeatures, hrda: bool) -> None:
    """The teacher has no gradients, and the classifier that labels stays what it was drawn as."""
    config = replace(RELEASED, features=features)
    state, task, view = seen(with_hrda(smoke(larger(config))) if hrda else smoke(config))
    student, own = learns(task, view)
    assert student == set()
    assert own == PROJECTION
    grouped = {
        id(p) for group in parameter_groups(state.student, [task], state.config.optimizer) for p in group["params"]
    }
    assert isinstance(task.classifier, nn.Conv2d)
    assert not grouped & {id(p) for p in task.classifier.parameters()}


def test_labels_of_the_network_are_those_of_its_own_classifier_without_dropout() -> None:
    """Pooled like the features; the teacher's are another network's."""
    _, task, view = seen(smoke(SMALL))
    images = [view.target.image[:1, :, :24, :24], view.target.image[1:, :, :24, :24]]
    views = [[View(image, overlap((0, 0), (0, 0), (24, 24)), False)] for image in images]
    cells = task._cells(view, views)
    logits = view.student(torch.cat(images)).logits
    wanted = nn.functional.avg_pool2d(logits, 2).softmax(dim=1).max(dim=1)
    torch.testing.assert_close(torch.cat([each.confidence for each in cells]), wanted.values, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.cat([each.label for each in cells]), wanted.indices)


def drawn_images(task: PatchContrastTask, view: StepView, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The whole images of several steps."""
    kept: list[Tensor] = []

    class StopError(Exception):
        pass

    def keep(image: Tensor, *rest: object) -> None:
        kept.append(image)
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr("trainables.tasks.patch_contrast.view_pair", keep)
        for step in range(steps):
            with pytest.raises(StopError):
                task.loss(replace(view, step=step))
    return kept


@pytest.mark.parametrize("images", list(PairImages))
def test_pairs_are_cut_from_all_images_unless_as_released(images: PairImages, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published loader begins anew in each step, and only ever gives its first images."""
    _, task, view = seen(smoke(replace(SMALL, images=images)))
    kept = drawn_images(task, view, 6, monkeypatch)
    same = [torch.equal(kept[0], image) for image in kept[1:]]
    assert all(same) == (images is PairImages.FIXED)


def test_the_term_begins_at_a_sixth_of_the_run() -> None:
    """Step 10,000 of 60,000; before it neither a loss nor the bank."""
    _, task, view = seen(smoke(replace(SMALL, start=1 / 6)))
    before = len(task.bank.labels)
    assert not list(task.losses(replace(view, step=9_999, total_steps=60_000)))
    assert len(task.bank.labels) == before
    assert list(task.losses(replace(view, step=10_000, total_steps=60_000)))
    assert len(task.bank.labels) > before


def test_a_head_without_a_classifier_of_its_own_is_one_sentence() -> None:
    student = built(TINY_DAFORMER)
    student.head().fused_channels = None
    with pytest.raises(ValueError, match=r"^PatchContrast compares what a classifier reads, and DAFormerHead has no"):
        PatchContrastTask(PatchContrast(), student)
    PatchContrastTask(PatchContrast(features=PatchFeatures.LOGITS, network=PatchNetwork.TEACHER), student)


def test_a_window_is_whole_cells() -> None:
    """Of the features' stride where that is more than 8: with a part of one, cells of a flipped crop lie elsewhere."""
    student = built(TINY_DAFORMER)
    student.strides = (16, 16, 32, 32)
    PatchContrastTask(PatchContrast(window=(48, 32)), student)
    with pytest.raises(ValueError, match=r"^PatchContrast.window must be two multiples of 16, got \(48, 40\)\.$"):
        PatchContrastTask(PatchContrast(window=(48, 40)), student)


@pytest.mark.parametrize("precision", list(Precision))
def test_both_losses_are_finite_in_every_arithmetic(precision: Precision) -> None:
    """Similarities, and the bank, are float32 at least."""
    pixel = PixelContrast(views=4, dim=8)
    state = started(replace(smoke(pixel, SMALL), execution=Execution(precision=precision)))
    assert all(bool(parameter.isfinite().all()) for parameter in state.student.parameters())
    (bank,) = (module for module in state.tasks.modules() if isinstance(module, Bank))
    assert bank.vectors.dtype is (torch.float64 if precision is Precision.FLOAT64 else torch.float32)
    torch.testing.assert_close(bank.vectors.norm(dim=1), torch.ones(len(bank.vectors)).to(bank.vectors))
