"""Criteria that see no target label: hand-worked values, and what a trial reports when it is scored by them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mfm_tune.identity import canonical, config_id
from tests.trainables.trained import tiny
from trainables.config import Evaluation, Experiment, SelectionCriteria, SourceHoldout
from trainables.data.domains import Example, open_domains
from trainables.data.holdout import divide
from trainables.data.scored import (
    AGREEMENT,
    ENTROPY,
    INFORMATION_MAXIMISATION,
    SOFT_NEIGHBOURHOOD_DENSITY,
    SOURCE_MIOU,
)
from trainables.evaluation import evaluate, scores
from trainables.recipes import MINI, SMOKE, dacs, source_only, with_selection_criteria
from trainables.running.trial import Trial
from trainables.selection import TargetCriteria, soft_neighbourhood_density

CPU = torch.device("cpu")


def read(probabilities: Tensor, predictions: list[Tensor] | None = None, **given: Any) -> dict[str, float]:
    """The criteria of one batch [B, K, H, W]."""
    criteria = TargetCriteria(SelectionCriteria(**given), probabilities.shape[1], CPU)
    criteria.add(probabilities.log(), predictions or [probabilities.argmax(1)])
    return criteria.read()


# -- hand-worked values ------------------------------------------------------------------------------------------------


def test_entropy_and_information_maximisation_of_two_pixels() -> None:
    """(1/2, 1/2) has ln 2 = 0.693147 nats, (3/4, 1/4) has 0.562335; their mean (5/8, 3/8) has 0.661563."""
    found = read(torch.tensor([[0.5, 0.75], [0.5, 0.25]]).reshape(1, 2, 1, 2))
    assert found[ENTROPY] == pytest.approx((0.693147 + 0.562335) / 2, abs=1e-6)
    assert found[INFORMATION_MAXIMISATION] == pytest.approx(0.661563 - 0.627741, abs=1e-6)


def test_sure_predictions_of_all_classes_have_no_entropy_and_all_information() -> None:
    """Four pixels, each sure of a class of its own: entropy 0, information ln 4."""
    criteria = TargetCriteria(SelectionCriteria(), 4, CPU)
    logits = 1000 * torch.eye(4).reshape(1, 4, 2, 2)  # probabilities of exactly 0 and 1
    criteria.add(logits, [logits.argmax(1)])
    assert criteria.read()[ENTROPY] == 0.0
    assert criteria.read()[INFORMATION_MAXIMISATION] == pytest.approx(math.log(4), abs=1e-12)
    one_class = read(torch.tensor([0.997, 0.001, 0.001, 0.001]).reshape(1, 4, 1, 1).expand(1, 4, 2, 2))
    assert one_class[INFORMATION_MAXIMISATION] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        # Unit vectors (1, 0), (0, 1), (0.6, 0.8): similarities 0, 0.6 and 0.8. A row has two neighbours, so that its
        # entropy is that of (s, 1 - s) with s the logistic function of the difference over the temperature.
        (1.0, (0.650094 + 0.619121 + 0.688172) / 3),  # differences 0.6, 0.8 and 0.2
        (0.05, (0.0000798749 + 0.00000191312 + 0.0900947) / 3),  # differences 12, 16 and 4
    ],
)
def test_soft_neighbourhood_density_of_three_pixels(temperature: float, expected: float) -> None:
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3 / 7, 4 / 7]])
    found = soft_neighbourhood_density(probabilities.unsqueeze(0), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_dense_clusters_have_more_soft_neighbourhood_density_than_scattered_pixels() -> None:
    """Two clusters of four alike: three neighbours at the same distance, ln 3; the mean over images is taken."""
    clusters = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4).unsqueeze(0)
    assert float(soft_neighbourhood_density(clusters, 0.05)) == pytest.approx(math.log(3), abs=1e-6)
    alone = torch.eye(8).unsqueeze(0)
    assert float(soft_neighbourhood_density(alone, 0.05)) == pytest.approx(math.log(7), abs=1e-6)  # all equally far


def test_agreement_is_the_share_of_pixels_with_one_class_and_needs_a_teacher() -> None:
    p = torch.full((1, 2, 2, 2), 0.5)
    student, teacher = torch.tensor([[[0, 1], [1, 1]]]), torch.tensor([[[0, 1], [0, 1]]])
    assert read(p, [student, teacher])[AGREEMENT] == 0.75
    assert AGREEMENT not in read(p, [student])


# -- streaming ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 1000))
def test_the_criteria_do_not_depend_on_how_images_are_batched(batches: list[int], seed: int) -> None:
    """Nor on the order in which batches were asked for: pixels are drawn by image, the same ones each time."""
    logits = 3 * torch.randn(sum(batches), 5, 8, 12, generator=torch.Generator().manual_seed(seed))
    labels = logits.argmax(1)
    chosen = SelectionCriteria(pixels=20)
    whole, parts = TargetCriteria(chosen, 5, CPU), TargetCriteria(chosen, 5, CPU)
    whole.add(logits, [labels, labels])
    for part, label in zip(logits.split(batches), labels.split(batches), strict=True):
        parts.add(part, [label, label])
    assert whole.read().keys() == parts.read().keys()
    assert all(parts.read()[name] == pytest.approx(value, abs=1e-6) for name, value in whole.read().items())
    assert 0 <= whole.read()[ENTROPY] <= math.log(5)
    assert 0 <= whole.read()[SOFT_NEIGHBOURHOOD_DENSITY] <= math.log(19)
    assert -1e-6 <= whole.read()[INFORMATION_MAXIMISATION] <= math.log(5)


def test_a_network_without_finite_predictions_has_no_criterion() -> None:
    criteria = TargetCriteria(SelectionCriteria(), 3, CPU)
    criteria.add(torch.full((1, 3, 4, 4), math.nan), [torch.zeros(1, 4, 4, dtype=torch.int64)])
    assert criteria.read() == {}


class Counting(nn.Module):
    """A network that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def predict(self, image: Tensor) -> Tensor:
        self.passes += 1
        return torch.cat([image, image[:, :1]], dim=1)


class Images:
    """Three images of 6 x 8 pixels, four classes."""

    scored = ("a", "b", "c", "d")
    means: Mapping[str, tuple[int, ...]] = {}

    def validation(self) -> Iterator[Example]:
        for index in range(3):
            yield Example(torch.randn(1, 3, 6, 8), torch.full((6, 8), index))

    def merge(self, given: Tensor) -> Tensor:
        return given.argmax(1)


def test_scoring_with_criteria_predicts_each_image_once() -> None:
    student, teacher = Counting(), Counting()
    criteria = TargetCriteria(SelectionCriteria(), 4, CPU)
    evaluate([student, teacher], Images(), Evaluation(batch_size=1), CPU, criteria)  # type: ignore[list-item]
    assert (student.passes, teacher.passes) == (3, 3)
    assert criteria.read()[AGREEMENT] == 1.0


# -- identity and settings ---------------------------------------------------------------------------------------------


def test_configs_without_criteria_and_holdout_keep_their_identity() -> None:
    """The two fields came later: they stand in the identity where they are set, and nowhere else."""
    plain, searched = dacs(MINI), with_selection_criteria(dacs(MINI))
    stands: Any = canonical(plain)
    assert "source_holdout" not in stands
    assert "criteria" not in stands["evaluation"]
    assert len({config_id(plain), config_id(searched), config_id(replace(searched, source_holdout=None))}) == 3
    assert config_id(replace(searched, source_holdout=SourceHoldout(share=0.1))) != config_id(searched)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SourceHoldout(share=0.0), r"SourceHoldout\.share must lie in \(0, 0\.5\], got 0\.0"),
        (lambda: SourceHoldout(share=0.6), r"SourceHoldout\.share must lie in \(0, 0\.5\], got 0\.6"),
        (lambda: SelectionCriteria(pixels=2), r"SelectionCriteria\.pixels must be an integer of at least 3, got 2"),
        (lambda: SelectionCriteria(temperature=0), r"SelectionCriteria\.temperature must lie in \(0, inf\), got 0"),
        (lambda: divide(1, SourceHoldout()), r"SourceHoldout\.share must leave images to train on"),
    ],
)
def test_wrong_settings_are_one_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@given(st.integers(2, 3000), st.floats(0.001, 0.5))
def test_a_division_splits_the_images_in_two_the_same_way_each_time(images: int, share: float) -> None:
    division = divide(images, SourceHoldout(share=share))
    assert sorted([*division.training, *division.held_out]) == list(range(images))
    assert len(division.held_out) == max(1, round(share * images))
    assert divide(images, SourceHoldout(share=share)).held_out.tolist() == division.held_out.tolist()


# -- a trial -----------------------------------------------------------------------------------------------------------


def finished(config: Experiment, folder: Path) -> tuple[Trial, dict[str, float]]:
    """A trained trial and its metrics, but for times and memory."""
    trial = Trial(config, seed=0, folder=str(folder), shared=str(folder.parent / "shared"), data={})
    while (report := trial.advance())["outcome"] is None:
        pass
    return trial, {k: v for k, v in report["metrics"].items() if not k.startswith(("time/", "memory/"))}


def test_a_trial_reports_the_criteria_and_the_score_on_held_out_source_images(tmp_path: Path) -> None:
    """source/miou is that of the trained student, worked out again; source-only has no teacher to agree with."""
    config = with_selection_criteria(tiny(dacs(SMOKE)))
    trial, metrics = finished(config, tmp_path / "dacs")
    assert metrics.keys() >= {SOURCE_MIOU, ENTROPY, INFORMATION_MAXIMISATION, SOFT_NEIGHBOURHOOD_DENSITY, AGREEMENT}
    assert trial._state is not None
    confusion = torch.zeros(12, 12, dtype=torch.int64)
    held_out = list(open_domains(config, {}, CPU).held_out())
    assert len(held_out) == 1
    with torch.no_grad():
        for example in held_out:
            predicted = trial._state.student.eval().predict(example.image)[0].argmax(0)
            for label, one in zip(example.label.flatten().tolist(), predicted.flatten().tolist(), strict=True):
                confusion[label, one] += label != 255
    shown = [index for index in range(12) if confusion[index].sum() > 0]
    assert metrics[SOURCE_MIOU] == pytest.approx(float(scores(confusion).iou[shown].mean()))

    _, without_teacher = finished(with_selection_criteria(tiny(source_only(SMOKE))), tmp_path / "source-only")
    assert AGREEMENT not in without_teacher
    assert ENTROPY in without_teacher


def test_criteria_alone_change_nothing_that_is_trained(tmp_path: Path) -> None:
    config = tiny(dacs(SMOKE))
    judged = replace(config, evaluation=replace(config.evaluation, criteria=SelectionCriteria()))
    (plain, one), (other, metrics) = finished(config, tmp_path / "plain"), finished(judged, tmp_path / "judged")
    assert SOURCE_MIOU not in metrics
    assert {name: metrics[name] for name in one} == one
    assert plain._state is not None
    assert other._state is not None
    weights = other._state.student.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in plain._state.student.state_dict().items())
