"""DAFormer's feature distance: recorded cases, and the encoder that it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.trainables.golden_cases import RECORDED, read, tensor
from tests.trainables.tasks.training import names, reached, smoke, started, view_and_task
from trainables.config import FeatureDistance
from trainables.optimization import parameter_groups
from trainables.tasks.feature_distance import FeatureDistanceTask, dominant_class, feature_distance
from trainables.tasks.task import Shares


@pytest.mark.parametrize("case", [0, 1, 2])
def test_it_is_the_references(case: int) -> None:
    """Cells, loss and gradient agree; without a thing cell (case 2) the reference's loss is NaN and ours 0."""
    arrays = {
        k.split("/")[1]: tensor(v) for k, v in read(RECORDED / "feature_distance.npz").items() if k[4] == str(case)
    }
    stride, ratio, weight = arrays["settings_scale_minratio_lambda"].tolist()
    winner = dominant_class(arrays["label"].long(), int(stride), ratio)
    assert torch.equal(winner, arrays["downscaled_label"].long())
    things = torch.zeros(256, dtype=torch.bool)
    things[list(FeatureDistance().classes)] = True
    cells = things[winner]
    assert torch.equal(cells, arrays["mask"].bool())
    feature = arrays["feature"].requires_grad_()
    loss = weight * feature_distance(feature, arrays["imagenet_feature"], cells)
    loss.backward()
    wanted = 0.0 if case == 2 else float(arrays["loss_times_lambda"])
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-6)
    torch.testing.assert_close(feature.grad, arrays["grad_feature"], rtol=0, atol=1e-8)


def test_a_step_without_things_stays_finite() -> None:
    """A source of one stuff class, or of ignored pixels only: the term is 0 and its gradient finite."""
    for value in (0, 255):
        state = started(smoke(FeatureDistance()))
        assert state.last is not None
        view, (task,) = state.last, state.tasks
        assert isinstance(task, FeatureDistanceTask)
        label = torch.full_like(view.source.label, value)  # type: ignore[arg-type]
        winner = dominant_class(label, task.stride, 0.75)
        features = view.student.encode(view.source.image).pyramids[0][-1]
        loss = feature_distance(features, features.detach() + 1, task.get_buffer("things")[winner])
        loss.backward()
        assert float(loss.detach()) == 0
        assert not reached(view.student)


def test_equal_features_have_a_finite_gradient() -> None:
    """At step 0 the student is the frozen encoder: the norm's gradient at 0 is 0, not NaN."""
    features = torch.ones(1, 4, 2, 2, requires_grad=True)
    feature_distance(features, torch.ones(1, 4, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)).backward()
    assert features.grad is not None
    assert int(features.grad.count_nonzero()) == 0


def test_the_encoder_learns_and_the_frozen_one_never_does() -> None:
    """The term's gradient reaches the student's encoder; the frozen copy is in no group and never leaves eval mode."""
    state = started(smoke(FeatureDistance(classes=tuple(range(12)), min_ratio=0.1)))
    (task,) = state.tasks
    assert isinstance(task, FeatureDistanceTask)
    state.tasks.train()
    assert not task.imagenet_encoder.training
    grouped = {id(p) for g in parameter_groups(state.student, [task], state.config.optimizer) for p in g["params"]}
    assert not grouped & {id(p) for p in task.parameters()}
    view = state.last
    assert view is not None
    features = view.student.encode(view.source.image).pyramids[0][-1]
    with torch.no_grad():
        reference = task.imagenet_encoder(view.source.image)[-1]
    cells = task.get_buffer("things")[dominant_class(view.source.label, task.stride, 0.1)]  # type: ignore[arg-type]
    assert bool(cells.any())
    feature_distance(features, reference, cells).backward()
    assert reached(view.student) == {f"encoder.{name}" for name in names(view.student.encoder)}


def test_classes_of_other_data_are_one_sentence() -> None:
    """Cityscapes' thing classes with data of a few classes: the term would be 0 in every step."""
    task = FeatureDistance(classes=(12, 13))
    with pytest.raises(ValueError, match=r"must name one of the data's classes, 0 to 11, got \(12, 13\); give the ids"):
        started(smoke(task))
    started(smoke(replace(task, classes=(11, 12))))


def test_it_needs_the_source_pass() -> None:
    """It shares the source pass's graph, so that the encoder runs once."""
    _, task = view_and_task(smoke(FeatureDistance()))
    assert task.shares is Shares.SOURCE
