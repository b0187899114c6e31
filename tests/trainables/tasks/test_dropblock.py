"""DropBlock on target features: where blocks go, what the loss becomes, what learns from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.tasks.training import names, reached, smoke, train, view_and_task, with_hrda
from trainables.config import DropBlock
from trainables.losses import cross_entropy
from trainables.models.segmentor import upsample
from trainables.randomness import Streams
from trainables.tasks.dropblock import drop_blocks, seed_probability
from trainables.tasks.target_pass import edited_target_loss


def test_gamma_by_hand() -> None:
    """The paper's Eq. 1: (1 - keep) / b^2 times all cells over those where a block can begin."""
    assert seed_probability((8, 16), (3, 3), 0.4) == pytest.approx(0.4 / 9 * 128 / (6 * 14))
    assert seed_probability((7, 7), (7, 7), 0.1) == pytest.approx(0.1)  # one place, all or nothing
    assert seed_probability((5, 9), (1, 1), 0.25) == pytest.approx(0.25)  # Dropout


def test_a_block_by_hand() -> None:
    """4x4 features, one 2x2 block that begins in row 1, column 2: four zeros, and the rest times 16/12."""
    stage = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    score = torch.ones(1, 1, 3, 3)
    score[0, 0, 1, 2] = 0.0
    dropped = drop_blocks(stage, score, 0.1, 2)
    wanted = stage * 16 / 12
    wanted[0, 0, 1:3, 2:4] = 0
    torch.testing.assert_close(dropped, wanted)


def test_channels_drop_apart_and_share_the_factor() -> None:
    """Two channels, a block in the second alone: the first stays whole, both are multiplied by 32/28."""
    score = torch.ones(1, 2, 3, 3)
    score[0, 1, 0, 0] = 0.0
    dropped = drop_blocks(torch.ones(1, 2, 4, 4), score, 0.1, 2)
    assert dropped[0, 0].unique().tolist() == pytest.approx([32 / 28])
    assert int((dropped[0, 1] == 0).sum()) == 4


def test_all_dropped_is_zero_and_finite() -> None:
    """Where nothing is kept the factor would be 0/0; the result is 0, and so is the gradient."""
    stage = torch.ones(1, 1, 3, 3, requires_grad=True)
    dropped = drop_blocks(stage, torch.zeros(1, 1, 1, 1), 0.5, 3)
    dropped.sum().backward()
    assert float(dropped.detach().abs().max()) == 0
    assert stage.grad is not None
    assert float(stage.grad.abs().max()) == 0


@settings(max_examples=40)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    block=st.integers(1, 9),
    probability=st.floats(0, 0.9),
    seed=st.integers(0, 10**6),
)
def test_what_is_dropped_is_the_union_of_whole_blocks(
    rows: int, columns: int, block: int, probability: float, seed: int
) -> None:
    """Against loops: every block that begins at a drawn place is 0, nothing else is, and the mean of ones stays 1."""
    high, wide = min(block, rows), min(block, columns)
    score = torch.rand(2, 3, rows - high + 1, columns - wide + 1, generator=torch.Generator().manual_seed(seed))
    gamma = seed_probability((rows, columns), (high, wide), probability)
    keep = torch.ones(2, 3, rows, columns)
    for b, c, y, x in (score < gamma).nonzero().tolist():
        keep[b, c, y : y + high, x : x + wide] = 0
    dropped = drop_blocks(torch.ones_like(keep), score, probability, block)
    assert torch.equal(dropped != 0, keep.bool())
    assert float(dropped.mean()) == pytest.approx(1.0 if keep.any() else 0.0, rel=1e-5)


def test_about_the_probability_is_dropped() -> None:
    """Single cells: within five standard errors. 3x3 blocks: less by what overlaps, 1 - (1 - gamma)^9 inside."""
    generator = Streams(0).generator("feature drop", 0, torch.device("cpu"))
    cells = torch.rand(4, 50, 16, 16, generator=generator)
    share = float((drop_blocks(torch.ones_like(cells), cells, 0.4, 1) == 0).float().mean())
    assert share == pytest.approx(0.4, abs=5 * (0.24 / cells.numel()) ** 0.5)
    places = torch.rand(4, 50, 14, 14, generator=generator)
    dropped = drop_blocks(torch.ones(4, 50, 16, 16), places, 0.4, 3) == 0
    gamma = seed_probability((16, 16), (3, 3), 0.4)
    inside = float(dropped[..., 2:-2, 2:-2].float().mean())
    assert inside == pytest.approx(1 - (1 - gamma) ** 9, abs=0.02)


def test_the_loss_is_the_pseudo_labels_cross_entropy_of_what_is_left() -> None:
    """The loss is CE(D(dropped features), pseudo-label); the draw is a function of seed, purpose and step."""
    view, task = view_and_task(smoke(DropBlock(probability=0.3, block=3)))
    feature = view.student.encode(view.target.image).pyramids[0][-1]
    generator = view.streams.generator("feature drop", view.step, torch.device("cpu"))
    score = torch.rand(2, feature.shape[1], feature.shape[2] - 2, feature.shape[3] - 2, generator=generator)
    logits = upsample(view.student.decoder(drop_blocks(feature, score, 0.3, 3)), view.pseudo.label.shape[-2:])
    torch.testing.assert_close(task.loss(view), cross_entropy(logits, view.pseudo.label, view.pseudo.weight))
    assert torch.equal(task.loss(view), task.loss(view))


def test_dropping_nothing_is_a_plain_pseudo_label_pass() -> None:
    """p = 0: the loss is that of unedited features."""
    view, task = view_and_task(smoke(DropBlock(probability=0.0)))
    assert torch.equal(task.loss(view), edited_target_loss(view, lambda stage: stage))


def test_encoder_and_decoder_learn_and_the_teacher_does_not() -> None:
    """Gradients reach every part of the student; the task has no parameters; the teacher has no gradients."""
    view, task = view_and_task(smoke(DropBlock()))
    view.pseudo.weight.fill_(1.0)
    task.loss(view).backward()
    assert reached(view.student) == names(view.student)
    assert not names(task)
    assert not any(p.requires_grad or p.grad is not None for p in view.teacher.parameters())


@pytest.mark.parametrize("hrda", [False, True])
def test_it_trains(tmp_path: Path, dacs_weights: Mapping[bool, dict[str, Tensor]], hrda: bool) -> None:
    """Three steps end with finite losses and other weights than DACS alone."""
    config = smoke(DropBlock())
    report, weights = train(with_hrda(config) if hrda else config, tmp_path)
    without = dacs_weights[hrda]
    assert report["outcome"] == "finished"
    assert "loss/dropblock" in report["metrics"]
    assert any(not torch.equal(weights[name], without[name]) for name in without)
