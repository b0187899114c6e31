"""SePiCo: losses, statistics, pooling and crops are those of the published code and of a slow reference; its task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.golden_cases import RECORDED, read, tensor
from tests.trainables.running.test_resume import SCALE, numbers, trained
from tests.trainables.tasks.slow_sepico import (
    slow_bank,
    slow_bank_loss,
    slow_distribution,
    slow_diversity,
    slow_score,
    slow_statistics,
)
from tests.trainables.tasks.training import FEW as FEW_PAIRS
from tests.trainables.tasks.training import SMALL_HRDA, reached, smoke, started, stepped, with_hrda
from tests.trainables.trained import same_arrays
from trainables import tensor_file
from trainables.adaptation.class_crop import class_balanced, most_even, windows
from trainables.adaptation.pseudo_label import label_logits
from trainables.config import (
    ClassBalancedCrop,
    ClassContrast,
    ClassModel,
    DAFormer,
    DeepLabV2Head,
    Segmenter,
    SelfTraining,
)
from trainables.geometry import IGNORE, Box
from trainables.randomness import Recorded, Streams
from trainables.recipes import PAPER, sepico, sepico_control
from trainables.running.trial import CHECKPOINT, FINAL
from trainables.step_data import Batch
from trainables.tasks.class_contrast import ClassContrastTask
from trainables.tasks.class_statistics import (
    ClassStatistics,
    bank_loss,
    distribution_loss,
    diversity,
    prototype_loss,
)
from trainables.tasks.feature_distance import dominant_class
from trainables.training import seen_source

RECORD = read(RECORDED / "sepico" / "sepico.npz")
MODELS = {"dist": ClassModel.DISTRIBUTION, "proto": ClassModel.PROTOTYPE, "bank": ClassModel.BANK}
TASK = ClassContrast(dim=8, hidden=8, bank_steps=4, start=0.0)
FEW = settings(max_examples=25, deadline=None)


def cells(features: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Those of [B, A, h, w] whose class in [B, h, w] is one."""
    kept = label != IGNORE
    return features.permute(0, 2, 3, 1)[kept], label[kept]


def task_of(config: ClassContrast) -> ClassContrastTask:
    """A task with room for the recorded statistics."""
    (task,) = stepped(smoke(replace(config, dim=RECORD["features"].shape[2]))).tasks
    assert isinstance(task, ClassContrastTask)
    classes, dim = RECORD["mean_0"].shape
    task.statistics = ClassStatistics(classes, dim, int(RECORD["bank_length"]))
    return task


# -- the published code ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_statistics_losses_and_gradients_are_the_references(name: str) -> None:
    """After each recorded step; at three temperatures, with and without the regulariser; to 1e-12 in float64."""
    label = tensor(RECORD["label_pooled"]).long()
    task = task_of(replace(TASK, model=MODELS[name]))
    known = task.statistics
    for step, features in enumerate(tensor(RECORD["features"]).double()):
        known.add(*cells(features, label[step]))
        for found, wanted in (("mean", known.mean()), ("covariance", known.variance()), ("amount", known.count)):
            torch.testing.assert_close(wanted, tensor(RECORD[f"{found}_{step}"]), rtol=0, atol=1e-12)
    held = torch.cat([bank[own] for bank, own in zip(known.bank, known.held(), strict=True)])
    torch.testing.assert_close(held, tensor(RECORD["bank"]), rtol=0, atol=1e-12)
    assert known.filled.tolist() == RECORD["bank_sizes"].tolist()
    for temperature, weight in ((100, 1), (1, 0), (0.1, 1)):
        task.config = replace(task.config, temperature=temperature, diversity=weight)
        given = features.clone().requires_grad_()
        loss = task._against_classes(*cells(given, label[-1]))
        loss.backward()
        case = f"{name}/tau{temperature}/reg{weight}"
        torch.testing.assert_close(loss.detach(), tensor(RECORD[f"{case}/loss"]), rtol=0, atol=1e-12)
        torch.testing.assert_close(given.grad, tensor(RECORD[f"{case}/grad"]), rtol=0, atol=1e-12)


def test_pooled_labels_and_chosen_crops_are_the_references() -> None:
    """Equal, of all recorded images."""
    stride, share = int(RECORD["stride"]), float(RECORD["min_ratio"])
    for label, pooled in zip(tensor(RECORD["label"]).long(), tensor(RECORD["label_pooled"]).long(), strict=True):
        assert torch.equal(dominant_class(label, stride, share), pooled)
    for label, candidates, chosen in zip(
        tensor(RECORD["crop/label"]).long(), RECORD["crop/candidates"], RECORD["crop/chosen"], strict=True
    ):
        boxes = [Box(int(top), int(left), int(b - top), int(r - left)) for top, b, left, r in candidates]
        top, bottom, left, right = chosen
        found = boxes[int(most_even(label, boxes, 0.75, 19))]
        assert found == Box(int(top), int(left), int(bottom - top), int(right - left))


# -- a slow reference -----------------------------------------------------------------------------------------------


@FEW
@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    classes=st.integers(2, 5),
    length=st.integers(1, 3),
    temperature=st.sampled_from([0.3, 1.0, 100.0]),
)
def test_statistics_and_losses_are_the_slow_ones(
    seed: int, counts: list[int], classes: int, length: int, temperature: float
) -> None:
    """Classes that never occur, banks that overflow, a single cell."""
    draws, dim = np.random.default_rng(seed), 3
    steps = []
    for count in counts:
        features = np.abs(draws.normal(size=(count, dim)))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        steps.append((features, draws.integers(classes, size=count).tolist()))
    known = ClassStatistics(classes, dim, length)
    for features, label in steps:
        known.add(torch.from_numpy(features), torch.tensor(label))
    mean, variance = slow_statistics(steps, classes, dim)
    np.testing.assert_allclose(known.mean().numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(known.variance().numpy(), variance, atol=1e-12)
    banks = [slow_bank(steps, one, dim, length) for one in range(classes)]
    for one, bank in enumerate(banks):
        np.testing.assert_allclose(known.bank[one][known.held()[one]].numpy(), np.stack(bank), atol=1e-12)
    features, label = steps[-1]
    given, own = torch.from_numpy(features), torch.tensor(label)
    found = distribution_loss(given, own, known.mean(), known.variance(), temperature)
    assert float(found) == pytest.approx(slow_distribution(features, label, mean, variance, temperature), rel=1e-9)
    found = prototype_loss(given, own, known.mean(), temperature)
    assert float(found) == pytest.approx(slow_distribution(features, label, mean, 0 * variance, temperature), rel=1e-9)
    found = diversity(given, known.mean(), temperature)
    assert float(found) == pytest.approx(slow_diversity(features, mean, temperature), rel=1e-9)
    found = bank_loss(given, own, known.bank, known.held(), temperature)
    assert float(found) == pytest.approx(slow_bank_loss(features, label, banks, temperature), rel=1e-9)


def test_at_the_released_temperature_the_models_of_a_class_are_one_loss() -> None:
    """Of 512 channels and 19 classes: gradients of distributions and banks against those of prototypes."""
    draws = torch.Generator().manual_seed(0)
    label = torch.arange(1900) % 19
    centres = torch.randn(19, 512, generator=draws, dtype=torch.float64)
    spread = torch.randn(1900, 512, generator=draws, dtype=torch.float64)
    features = torch.nn.functional.normalize((centres[label] + spread).relu(), dim=1)
    known = ClassStatistics(19, 512, 4)
    for part in range(4):
        known.add(features[part::4], label[part::4])
    given = features.requires_grad_()
    losses = (
        prototype_loss(given, label, known.mean(), 100),
        distribution_loss(given, label, known.mean(), known.variance(), 100),
        bank_loss(given, label, known.bank, known.held(), 100),
    )
    prototype, distribution, bank = (torch.autograd.grad(loss, given)[0].flatten() for loss in losses)
    assert float((distribution - prototype).norm() / prototype.norm()) < 1e-4
    assert float(torch.cosine_similarity(bank, prototype, dim=0)) > 0.9996


@FEW
@given(seed=st.integers(0, 2**31), names=st.lists(st.sampled_from([0, 1, 5, 255]), min_size=1, max_size=4, unique=True))
def test_the_chosen_window_is_the_first_with_the_highest_slow_score(seed: int, names: list[int]) -> None:
    """Windows of one class and of ignored pixels alone, too."""
    label = torch.from_numpy(np.random.default_rng(seed).choice(names, (6, 12)))
    boxes = windows(ClassBalancedCrop(size=(8, 8), tries=4), Streams(seed), 0, 0, (8, 12))
    boxes = [Box(0, box.left, 6, 4) for box in boxes]
    scores = [slow_score(box.crop(label).flatten().tolist(), 0.75) for box in boxes]
    best = next(index for index, score in enumerate(scores) if score >= max(scores) - 1e-12)
    assert boxes[int(most_even(label, boxes, 0.75, 6))] == boxes[best]


class Sees(torch.nn.Module):
    """A teacher that finds its logits in the image."""

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_each_image_and_its_valid_pixels_are_cropped_to_the_chosen_window() -> None:
    """What of the rectangle a crop shows, none of it too; a batch without rectangles has none."""
    settings = ClassBalancedCrop(size=(8, 8), tries=5)
    image = torch.randn(3, 3, 8, 20, generator=torch.Generator().manual_seed(0))
    valid = (Box(0, 0, 8, 20), Box(2, 5, 4, 7), Box(0, 0, 0, 20))
    found = class_balanced(Batch(image, None, valid), settings, Sees(), Streams(1), 4)  # type: ignore[arg-type]
    for item, label in enumerate(image.argmax(dim=1)):
        boxes = windows(settings, Streams(1), 4, item, (8, 20))
        box = boxes[int(most_even(label, boxes, settings.max_class_share, 3))]
        rectangle = torch.zeros(8, 20)
        rectangle[valid[item].top :, valid[item].left :][: valid[item].height, : valid[item].width] = 1
        assert torch.equal(found.image[item], box.crop(image[item]))
        assert isinstance(found.valid, torch.Tensor)
        assert torch.equal(found.valid[item], box.crop(rectangle))
    assert class_balanced(Batch(image), settings, Sees(), Streams(1), 4).valid is None  # type: ignore[arg-type]
    pseudo = label_logits(found.image, 0.0, None, found.valid)
    assert torch.equal(pseudo.weight, found.valid)


def test_the_crop_reads_nothing_back_from_the_device() -> None:
    """On torch's device without values nothing could be read."""
    image = torch.zeros(2, 3, 8, 20, device="meta")
    target = Batch(image, None, (Box(0, 0, 8, 20),) * 2)
    found = class_balanced(target, ClassBalancedCrop(size=(8, 8)), Sees(), Streams(0), 0)  # type: ignore[arg-type]
    assert (found.image.shape, found.image.device.type) == ((2, 3, 8, 8), "meta")


# -- in the step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hrda", [False, True])
@pytest.mark.parametrize("model", list(ClassModel))
def test_both_terms_reach_the_encoder_and_the_projection_alone(model: ClassModel, hrda: bool) -> None:
    """Never the decoder, nor the averaged projection, which follows the trained one."""
    config = smoke(replace(TASK, model=model, temperature=0.1))
    state = started(with_hrda(config) if hrda else config)
    (task,) = state.tasks
    assert isinstance(task, ClassContrastTask)
    assert float(task.statistics.count.sum()) > 0
    view = state.last
    assert view is not None
    encoded = view.student.encode(view.source.image, view.box(view.source.image, "source"))
    terms = dict(task.losses(replace(view, source_encoded=encoded)))
    assert list(terms) == ["source", "target"]
    for loss in terms.values():
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        assert all(name.startswith("encoder.") for name in reached(view.student))
        assert any(name.startswith("projection.") for name in reached(task))
        assert not any(name.startswith("averaged.") for name in reached(task))
    assert not any(parameter.requires_grad for parameter in task.averaged.parameters())
    assert not torch.equal(task.averaged.network[0].weight, task.projection[0].weight)  # half way after step 0


def test_a_cell_has_the_label_of_its_own_pixels_where_images_end_within_one() -> None:
    """Stride 32 on 40 x 72 pixels: features of 2 x 3 cells, of which 1 x 2 lie within the image."""
    small = SMALL_HRDA.base
    assert isinstance(small, DAFormer)
    deep = Segmenter(encoder=small.encoder, head=DeepLabV2Head())
    state = started(replace(smoke(TASK), network=deep, data=replace(FEW_PAIRS, image_size=(40, 72))))
    (task,) = state.tasks
    assert isinstance(task, ClassContrastTask)
    image, label = torch.zeros(1, 3, 40, 72), torch.zeros(1, 40, 72, dtype=torch.long)
    label[..., 32:64] = 1
    features, classes = task._cells(task.projection.eval(), state.student.encode(image), label)
    assert len(features) == 2
    assert classes.tolist() == [0, 1]


def test_statistics_begin_before_the_terms_do() -> None:
    """From the first step on, of float64 whatever the task's precision."""
    state = started(smoke(replace(TASK, start=1.0), steps=2))
    (task,) = state.tasks
    assert isinstance(task, ClassContrastTask)
    assert float(task.statistics.count.sum()) > 0
    assert task.statistics.total.dtype is torch.float64
    assert not reached(task)


def test_the_source_is_augmented_for_the_student_alone() -> None:
    """What is mixed, and what statistics are made of, is as it was; configs without it have the id that they had."""
    config = smoke(TASK)
    assert isinstance(config.adaptation, SelfTraining)
    jitter = replace(config.adaptation.jitter, probability=1.0)  # type: ignore[type-var]
    plain = replace(config, adaptation=replace(config.adaptation, jitter=jitter))
    coloured = replace(plain, adaptation=replace(plain.adaptation, augment_source=True))  # type: ignore[arg-type]
    one, other = started(plain).last, started(coloured).last
    assert one is not None
    assert other is not None
    assert one.seen_source is one.source
    assert torch.equal(one.source.image, other.source.image)
    assert torch.equal(one.mixed[0].image, other.mixed[0].image)
    assert not torch.equal(other.seen_source.image, other.source.image)


def test_source_and_target_are_each_augmented_in_one_call() -> None:
    """As published: images of a batch share the order of operations and sigma, so equal ones stay equal here."""
    config = smoke(TASK)
    adaptation = SelfTraining(threshold=0.0, augment_source=True)
    state = started(replace(config, adaptation=adaptation))
    (task,), view = state.tasks, state.last
    assert isinstance(task, ClassContrastTask)
    assert view is not None
    draws = {(f"{gate} gate", 0, 0): torch.tensor(0.9) for gate in ("jitter", "blur")}
    for name in ("source ", "contrast target "):
        for part, value in (("brightness", 1.15), ("contrast", 0.85), ("saturation", 1.2), ("hue", 0.1)):
            draws[f"{name}jitter {part}", 0, 0] = torch.full((4,), value)
    state.streams, state.step = Recorded(0, draws), 0
    alike = Batch(view.source.image[:1].expand(4, -1, -1, -1), view.source.ground_truth[:1].expand(4, -1, -1))
    seen = seen_source(state, adaptation, alike).image
    target = task._target_image(replace(view, target=alike, streams=state.streams))
    for images in (seen, target):
        assert not torch.equal(images, alike.image)
        assert all(torch.equal(images[0], other) for other in images[1:])


@pytest.mark.slow
def test_a_trial_resumes_with_its_statistics_bit_for_bit(tmp_path: Path) -> None:
    """Cut off between checkpoints; the exported student has none of the task."""
    config = sepico(SCALE, model=ClassModel.BANK)
    whole = trained(config, tmp_path / "whole", tmp_path)
    cut = trained(config, tmp_path / "cut", tmp_path, cuts=(1, 5))
    assert [numbers(report) for report in whole] == [numbers(report) for report in cut]
    one, other = (tensor_file.load(tmp_path / name / CHECKPOINT)[0] for name in ("whole", "cut"))
    assert same_arrays(one, other)
    assert {"tasks.0.statistics.bank", "tasks.0.averaged.network.0.weight"} <= set(one)
    assert (tmp_path / "whole" / FINAL).read_bytes() == (tmp_path / "cut" / FINAL).read_bytes()


# -- the recipe -----------------------------------------------------------------------------------------------------


def test_the_recipe_is_the_published_one_and_its_control_lacks_the_loss_alone() -> None:
    """Crops, augmentation, no feature distance; sizes of the projection."""
    config, control = sepico(PAPER), sepico_control(PAPER)
    assert replace(config, auxiliary=()) == control
    assert control.data.training_size == (640, 640)
    assert isinstance(control.adaptation, SelfTraining)
    assert control.adaptation.augment_source
    assert control.adaptation.class_crop == ClassBalancedCrop(size=(640, 640), tries=10, max_class_share=0.75)
    assert config.auxiliary == (ClassContrast(hidden=256),)


def test_crops_of_two_sizes_are_refused() -> None:
    """Source and target are mixed; and a larger target has to be cropped by somebody."""
    control = sepico_control(PAPER)
    adaptation = replace(control.adaptation, class_crop=ClassBalancedCrop(size=(512, 512)))  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"class_crop\.size must be that of the source's training images, 640x640"):
        replace(control, adaptation=adaptation)
    with pytest.raises(ValueError, match=r"PackedPair\.target_crop differs from crop_size"):
        replace(control, adaptation=replace(control.adaptation, class_crop=None))  # type: ignore[type-var]
