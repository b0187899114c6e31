"""Pixel contrast against a slow reference on random cases; where its gradient goes, and what its switches change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.tasks.slow_pipa import slow_hard, slow_pixel_contrast
from tests.trainables.tasks.training import reached, smoke, started, with_hrda
from trainables.config import DetailLabel, Experiment, IgnoredPixels, PixelContrast
from trainables.optimization import parameter_groups
from trainables.randomness import Streams
from trainables.step_data import StepView
from trainables.tasks.pixel_contrast import PixelContrastTask, draw_anchors, gathered, pixel_contrast
from trainables.training import State

FEW = settings(max_examples=30)
SMALL = PixelContrast(views=4, dim=8)


def seen(config: Experiment) -> tuple[State, PixelContrastTask, StepView]:
    """A state after a step, its task, and the step's view as a task that shares the source pass has it."""
    state = started(config)
    (task,) = state.tasks
    assert isinstance(task, PixelContrastTask)
    view = state.last
    assert view is not None
    encoded = view.student.encode(view.source.image, view.box(view.source.image, "source"))
    return state, task, replace(view, source_encoded=encoded, source_outputs=view.student.decode(encoded))


# -- against the slow reference -------------------------------------------------------------------------------------


@FEW
@given(
    seed=st.integers(0, 2**31),
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=16),
    temperature=st.sampled_from([0.05, 0.1, 1.0]),
)
def test_the_loss_is_the_slow_one(seed: int, classes: list[int], temperature: float) -> None:
    """Any number of anchors and classes: one class alone, and classes with a single anchor, too."""
    vectors = np.random.default_rng(seed).normal(size=(len(classes), 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = pixel_contrast(torch.from_numpy(vectors), torch.tensor(classes), temperature, 0.07)
    assert float(found) == pytest.approx(slow_pixel_contrast(vectors, classes, temperature, 0.07), rel=1e-9, abs=1e-9)


@FEW
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    names=st.lists(st.sampled_from([0, 1, 2, 7, 255]), min_size=1, max_size=5, unique=True),
    limits=st.tuples(st.integers(1, 60), st.integers(2, 9)),
    ignored=st.sampled_from(list(IgnoredPixels)),
    step=st.integers(0, 5),
)
def test_anchors_follow_the_rules(
    seed: int,
    batch: int,
    size: tuple[int, int],
    names: list[int],
    limits: tuple[int, int],
    ignored: IgnoredPixels,
    step: int,
) -> None:
    """Which classes have anchors, how many, how many of them hard, each at another cell of its class."""
    generator = np.random.default_rng(seed)
    label = torch.from_numpy(generator.choice(names, (batch, *size)))
    prediction = torch.from_numpy(generator.choice([0, 1, 2, 7], (batch, *size)))
    config = PixelContrast(samples=limits[0], views=limits[1], ignored=ignored)
    anchors = draw_anchors(label, prediction, config, Streams(seed), step)
    pairs = []
    for image in range(batch):
        for one in sorted(set(label[image].flatten().tolist())):
            counted = one != 255 or ignored is IgnoredPixels.CLASS
            if counted and int((label[image] == one).sum()) > limits[1]:
                pairs.append((image, one))
    views = min(limits[0] // len(pairs), limits[1]) if pairs else 0
    if views == 0:
        assert anchors is None
        return
    assert anchors is not None
    assert list(zip(anchors.image.tolist(), anchors.classes.tolist(), strict=True)) == pairs
    assert anchors.index.shape == (len(pairs), views)
    for (image, one), cells, hard in zip(pairs, anchors.index.tolist(), anchors.hard.tolist(), strict=True):
        wrong = [int(prediction[image].flatten()[cell]) != one for cell in range(label[image].numel())]
        own = [cell for cell in range(len(wrong)) if int(label[image].flatten()[cell]) == one]
        count = sum(wrong[cell] for cell in own)
        assert hard == slow_hard(count, len(own) - count, views)
        assert len(set(cells)) == views
        assert set(cells) <= set(own)
        assert [wrong[cell] for cell in cells] == [True] * hard + [False] * (views - hard)


def test_gathered_vectors_are_those_of_their_cells() -> None:
    """Row by row within an image, in the order of the anchors."""
    embedding = torch.arange(2 * 3 * 4 * 5, dtype=torch.float64).view(2, 3, 4, 5)
    label = torch.zeros(2, 4, 5, dtype=torch.int64)
    anchors = draw_anchors(label, label, PixelContrast(views=3), Streams(0), 0)
    assert anchors is not None
    vectors, classes = gathered(embedding, anchors)
    assert classes.tolist() == [0] * 6
    cells = [(image, *divmod(cell, 5)) for image in (0, 1) for cell in anchors.index[image].tolist()]
    for vector, (image, row, column) in zip(vectors, cells, strict=True):
        assert torch.equal(vector, embedding[image, :, row, column])


# -- in the step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, SMALL.as_released()])
@pytest.mark.parametrize("hrda", [False, True])
def test_the_gradient_reaches_the_encoder_and_the_projection_alone(config: PixelContrast, hrda: bool) -> None:
    """Never the decoder, nor the released code's helper, which no optimiser holds."""
    state, task, view = seen(with_hrda(smoke(config)) if hrda else smoke(config))
    loss = task.loss(view)
    assert float(loss.detach()) > 0
    loss.backward()
    assert reached(view.student)
    assert all(name.startswith("encoder.") for name in reached(view.student))
    assert reached(task) == {f"projection.{name}" for name, _ in task.projection.named_parameters()}
    groups = parameter_groups(state.student, [task], state.config.optimizer)
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    assert {name for name, p in task.named_parameters() if id(p) in grouped} == {
        f"projection.{name}" for name, _ in task.projection.named_parameters()
    }


def test_the_projection_learns_ten_times_as_fast_as_the_encoder() -> None:
    state, task, _ = seen(smoke(SMALL))
    groups = parameter_groups(state.student, [task], state.config.optimizer)
    rates = {group["base"] for group in groups if any(p is task.projection[0].weight for p in group["params"])}
    assert rates == {10 * state.config.optimizer.learning_rate}


def test_a_batch_without_a_class_of_enough_cells_costs_nothing() -> None:
    """Where the published code fails."""
    _, task, view = seen(smoke(replace(SMALL, views=10_000)))
    loss = task.loss(view)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not reached(view.student)


def drawn_labels(task: PixelContrastTask, view: StepView, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The labels that anchors are drawn from."""
    kept: list[Tensor] = []

    def keep(label: Tensor, *rest: object) -> None:
        kept.append(label)

    with monkeypatch.context() as patch:
        patch.setattr("trainables.tasks.pixel_contrast.draw_anchors", keep)
        task.loss(view)
    return kept[0]


@pytest.mark.parametrize("which", list(DetailLabel))
def test_hrdas_detail_has_the_labels_of_its_own_place_unless_as_released(
    which: DetailLabel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published code shrinks the labels of the whole image to the detail's features."""
    _, task, view = seen(with_hrda(smoke(replace(SMALL, detail_label=which))))
    label, encoded = view.source.label, view.source_encoded
    assert label is not None
    assert encoded is not None
    assert encoded.box is not None
    found = drawn_labels(task, view, monkeypatch)
    rows, columns = found.shape[-2:]
    shown = label if which is DetailLabel.WHOLE else encoded.box.crop(label)
    assert torch.equal(found, shown[:, :: shown.shape[1] // rows, :: shown.shape[2] // columns])
    other = encoded.box.crop(label) if which is DetailLabel.WHOLE else label
    assert not torch.equal(found, other[:, :: other.shape[1] // rows, :: other.shape[2] // columns])


def test_hard_anchors_are_those_that_the_segmentor_gets_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prediction is that of the source pass itself; the untrained helper predicts something else."""
    predictions = {}
    for name, config in (("own", SMALL), ("helper", SMALL.as_released())):
        _, task, view = seen(smoke(config))
        kept: list[Tensor] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                "trainables.tasks.pixel_contrast.draw_anchors", lambda _, predicted, *rest, k=kept: k.append(predicted)
            )
            task.loss(view)
        predictions[name] = kept[0]
        assert view.source_outputs is not None
        own = view.source_outputs.logits.argmax(dim=1)
        assert torch.equal(kept[0], own) == (name == "own")
    assert predictions["own"].shape == predictions["helper"].shape
