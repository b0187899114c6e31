"""Dropout2d on target features: which channels go, what the loss becomes, what learns from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainables.tasks.training import names, reached, smoke, train, view_and_task, with_hrda
from trainables.config import FeatureDropout
from trainables.losses import cross_entropy
from trainables.models.segmentor import upsample
from trainables.randomness import Recorded
from trainables.tasks.feature_dropout import drop_channels
from trainables.tasks.target_pass import edited_target_loss, with_edited_stages

WIDTH = smoke().network.widths[-1]  # type: ignore[union-attr]


def test_channels_below_the_probability_go_and_the_others_grow() -> None:
    """By hand: p = 0.4, scores 0.1, 0.5, 0.4 -> 0, 5/3 and 5/3 times the features."""
    stage = torch.tensor([[[[1.0, 2.0]], [[3.0, 6.0]], [[9.0, 12.0]]]])
    dropped = drop_channels(stage, torch.tensor([[0.1, 0.5, 0.4]]), 0.4)
    torch.testing.assert_close(dropped, torch.tensor([[[[0.0, 0.0]], [[5.0, 10.0]], [[15.0, 20.0]]]]))


def test_the_loss_is_the_pseudo_labels_cross_entropy_of_what_is_left() -> None:
    """Given draws, the loss is CE(D(dropped features), pseudo-label) with the pseudo-labels' weights."""
    score = torch.rand(2, WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    streams = Recorded(0, {("feature drop", 0, 0): score})
    view, task = view_and_task(smoke(FeatureDropout(probability=0.3)), streams)
    feature = view.student.encode(view.target.image).pyramids[0][-1]
    kept = torch.zeros(2, WIDTH, 1, 1)
    kept[score >= 0.3] = 1 / 0.7
    logits = upsample(view.student.decoder(feature * kept), view.pseudo.label.shape[-2:])
    wanted = cross_entropy(logits, view.pseudo.label, view.pseudo.weight)
    torch.testing.assert_close(task.loss(view), wanted)
    assert float(wanted.detach()) != 0 or float(view.pseudo.share) == 0


def test_dropping_nothing_is_a_plain_pseudo_label_pass() -> None:
    """p = 0: the loss is that of unedited features."""
    view, task = view_and_task(smoke(FeatureDropout(probability=0.0)))
    assert torch.equal(task.loss(view), edited_target_loss(view, lambda stage: stage))


def test_the_share_of_dropped_channels_is_the_probability() -> None:
    """Over 200 draws of 24 channels within five standard errors."""
    streams = Recorded(0, {})
    score = torch.stack([streams.uniform("feature drop", step, (2, 24)) for step in range(100)])
    dropped = drop_channels(torch.ones(200, 24, 1, 1), score.flatten(0, 1), 0.4)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.4, abs=5 * (0.4 * 0.6 / 4800) ** 0.5)


def test_encoder_and_decoder_learn_and_the_teacher_does_not() -> None:
    """Gradients reach every part of the student; the task has no parameters; the teacher has no gradients."""
    view, task = view_and_task(smoke(FeatureDropout()))
    view.pseudo.weight.fill_(1.0)
    task.loss(view).backward()
    assert reached(view.student) == names(view.student)
    assert not names(task)
    assert not any(p.requires_grad or p.grad is not None for p in view.teacher.parameters())


def test_hrda_drops_context_and_detail_apart() -> None:
    """Every stage that the head reads is edited, context and detail with channels of their own."""
    view, _ = view_and_task(with_hrda(smoke(FeatureDropout())))
    box = view.student.draw_box(view.streams, "detail crop, auxiliary target pass", view.step, (64, 64))
    encoded = view.student.encode(view.target.image, box)
    seen = []
    edited = with_edited_stages(view.student, encoded, lambda stage: seen.append(stage) or stage * 0)
    assert [s.shape for s in seen] == [s.shape for pyramid in encoded.pyramids for s in pyramid]
    assert all(int(stage.count_nonzero()) == 0 for pyramid in edited.pyramids for stage in pyramid)
    draws = [view.streams.uniform("feature drop", 0, (2, 4), item=item) for item in (0, 4)]
    assert not torch.equal(draws[0], draws[1])


def test_it_trains(tmp_path: Path, dacs_weights: Mapping[bool, dict[str, Tensor]]) -> None:
    """Three steps end with finite losses and other weights than DACS alone."""
    report, weights = train(smoke(FeatureDropout()), tmp_path)
    without = dacs_weights[False]
    assert report["outcome"] == "finished"
    assert "loss/feature_dropout" in report["metrics"]
    assert any(not torch.equal(weights[name], without[name]) for name in without)
