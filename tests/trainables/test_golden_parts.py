"""The parts of an iteration give what the published reference implementation gave on recorded cases."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.golden_cases import RECORDED, read, tensor
from trainables.adaptation.augmentation import JitterDraw, gaussian_blur, jitter_normalised, kernel_size
from trainables.adaptation.classmix import chosen_classes, classmix
from trainables.adaptation.photometric import DistortionDraw, distort, distort_levels, draw_distortion
from trainables.adaptation.pseudo_label import label_logits
from trainables.adaptation.teacher import Teacher
from trainables.config import Margins, PhotoMetricDistortion, Schedule
from trainables.evaluation import ConfusionMatrix, scores
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.losses import cross_entropy
from trainables.models.segmentor import upsample
from trainables.optimization import learning_rate_factor
from trainables.randomness import Recorded, Streams
from trainables.step_data import Batch, PseudoLabel

WEIGHTS = ("ones", "constant", "random", "zero", "rows")


def keys_that_choose(chosen: list[torch.Tensor]) -> torch.Tensor:
    """Random keys under which each image pastes the given class ids."""
    keys = torch.ones(len(chosen), 256, dtype=torch.float64)
    for row, ids in enumerate(chosen):
        keys[row, ids] = 0
    return keys


@pytest.mark.parametrize("case", [0, 1, 2])
def test_classmix_pastes_what_the_reference_pasted(case: int) -> None:
    """Given the drawn classes, mixed images, labels and weights are the recorded ones."""
    data = {
        k.split("/")[1]: tensor(v) for k, v in read(RECORDED / "classmix.npz").items() if k.startswith(f"case{case}/")
    }
    batch = len(data["source_image"])
    keys = keys_that_choose([data[f"chosen_class_ids_image{image}"] for image in range(batch)])
    weight = data["pseudo_weight"]
    pseudo = PseudoLabel(data["pseudo_label"].long(), weight, weight, weight.max())
    mixed = classmix(
        Batch(data["source_image"], data["source_label"].long()),
        Batch(data["target_image"]),
        pseudo,
        Recorded(0, {("mix classes", 0, 0): keys}),
        0,
    )
    assert torch.equal(mixed.pasted.squeeze(1), data["mask"].bool())
    assert torch.equal(mixed.image, data["mixed_image"])
    assert torch.equal(mixed.label, data["mixed_label"].squeeze(1).long())
    assert torch.equal(mixed.weight, data["mixed_weight"].squeeze(1))


def test_half_of_the_classes_rounded_up_is_pasted() -> None:
    """The number of pasted classes follows the reference's count rule for 1 to 20 classes, 255 counted."""
    data = read(RECORDED / "classmix.npz")
    for present, wanted in zip(data["count_rule/n_classes"], data["count_rule/n_chosen"], strict=True):
        label = torch.arange(int(present)).view(1, 1, -1)
        label[..., -1] = 255
        assert int(chosen_classes(label, torch.rand(1, 256)).sum()) == wanted


def test_pseudo_labels_and_weights_are_the_references() -> None:
    """argmax, q and the weights under margins and a valid rectangle."""
    data = read(RECORDED / "pseudo_label.npz")
    logits = tensor(data["logits"])
    plain = label_logits(logits, 0.968)
    assert torch.equal(plain.label, tensor(data["pseudo_label"]).long())
    assert float(plain.share) == float(data["q"])
    assert torch.allclose(plain.confidence, tensor(data["max_probability"]), atol=1e-6)
    for name in ("none", "top_bottom", "top_only"):
        top, bottom = (int(part) for part in data[f"margins_{name}"])
        weight = label_logits(logits, 0.968, Margins(top=top, bottom=bottom)).weight
        assert torch.equal(weight, tensor(data[f"weight_{name}"])), name


def test_a_valid_rectangle_limits_the_weights() -> None:
    """Outside the rectangle of an image the weight is 0, inside it is q."""
    logits = tensor(read(RECORDED / "pseudo_label.npz")["logits"])
    valid = (Box(2, 3, 10, 20), Box(0, 0, 32, 64))
    weight = label_logits(logits, 0.968, None, valid).weight
    inside = torch.zeros(32, 64)
    inside[2:12, 3:23] = 1
    q = label_logits(logits, 0.968).share.float()
    assert torch.equal(weight[0], inside * q)
    assert torch.equal(weight[1], torch.full((32, 64), float(q)))


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("ignored", [False, True])
def test_cross_entropy_is_a_mean_over_all_pixels(name: str, ignored: bool) -> None:
    """Loss and gradient agree with the reference for each weight map, one image ignored or not."""
    data = read(RECORDED / "cross_entropy.npz")
    label = tensor(data["label_image0_all_ignored" if ignored else "label"]).long()
    logits = tensor(data["logits"]).requires_grad_()
    suffix = f"{name}_image0_ignored" if ignored else name
    loss = cross_entropy(logits, label, tensor(data[f"weight_{name}"]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(data[f"loss_{suffix}"]), rel=1e-6, abs=1e-9)
    assert float(logits.grad.abs().sum()) == pytest.approx(float(data[f"grad_logits_{suffix}_sum_abs"]), rel=1e-5)
    if suffix == "random":
        assert torch.allclose(logits.grad, tensor(data["grad_logits_random"]), atol=1e-7)


def test_cross_entropy_without_weights_and_with_nothing_labelled() -> None:
    """No weight means 1; a batch of ignored pixels costs 0."""
    data = read(RECORDED / "cross_entropy.npz")
    logits, label = tensor(data["logits"]), tensor(data["label"]).long()
    assert float(cross_entropy(logits, label)) == pytest.approx(float(data["loss_none"]), rel=1e-6)
    assert float(cross_entropy(logits, torch.full_like(label, 255))) == float(data["loss_all_ignored"])


def test_the_heads_logits_are_upsampled_before_the_loss() -> None:
    """Quarter-size logits, resized bilinearly, give the reference's loss and gradient."""
    data = read(RECORDED / "cross_entropy.npz")
    low = tensor(data["head/low_logits"]).requires_grad_()
    label = tensor(data["label"]).long()
    loss = cross_entropy(upsample(low, (16, 24)), label, tensor(data["weight_random"]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(data["head/loss"]), rel=1e-6)
    assert torch.allclose(low.grad, tensor(data["head/grad_low_logits"]), atol=1e-7)


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_colour_jitter_is_kornia_0_5_8s(case: int) -> None:
    """Given factors and order, the jittered image agrees in normalised space."""
    data = {
        k.split("/")[1]: tensor(v)
        for k, v in read(RECORDED / "colour_jitter_blur.npz").items()
        if k.startswith(f"jitter{case}/")
    }
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    image = (data["image_u8"].float() - mean) / std
    draw = JitterDraw(
        data["brightness_factor"],
        data["contrast_factor"],
        data["saturation_factor"],
        data["hue_factor"],
        data["order"].expand(len(image), 4),
    )
    jittered = jitter_normalised(image, draw, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.allclose(jittered, data["output_normalised"], atol=1e-4)


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_blur_is_the_references(case: int) -> None:
    """Given sigma, the separable and shortened kernel agrees with the reference's dense one."""
    data = {
        k.split("/")[1]: tensor(v)
        for k, v in read(RECORDED / "colour_jitter_blur.npz").items()
        if k.startswith(f"blur{case}/")
    }
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    image = (data["image_u8"].float() - mean) / std
    blurred = gaussian_blur(image, data["sigma"].view(1), reach=5 * 1.15)
    assert torch.allclose(blurred, data["output_normalised"], atol=1e-4)
    assert [kernel_size(side) for side in image.shape[-2:]] == data["kernel_y_x"].tolist()


def test_kernel_sizes_follow_the_references_rule() -> None:
    """A tenth of the side, rounded up, made odd."""
    data = read(RECORDED / "colour_jitter_blur.npz")
    assert [kernel_size(int(side)) for side in data["kernel_rule/size"]] == data["kernel_rule/kernel"].tolist()


def test_learning_rates_are_mmcvs() -> None:
    """The formula at hand-worked points: the first step, inside the warm-up, at its end, half way, the last step."""
    schedule = Schedule(steps=100, warmup_steps=10, warmup_ratio=1e-6)
    assert learning_rate_factor(schedule, 0) == pytest.approx(1e-6)
    assert learning_rate_factor(schedule, 5) == pytest.approx(0.95 * (1 - 0.5 * (1 - 1e-6)))
    assert learning_rate_factor(schedule, 10) == pytest.approx(0.9)
    assert learning_rate_factor(schedule, 50) == pytest.approx(0.5)
    assert learning_rate_factor(schedule, 99) == pytest.approx(0.01)


def test_learning_rates_agree_with_the_recorded_hook() -> None:
    """Three base rates over 40,000 iterations, and a short schedule."""
    data = json.loads((RECORDED / "lr_schedule.json").read_text())
    for key, base in (("lr_base_6e_5", 6e-5), ("lr_base_6e_4", 6e-4), ("lr_base_2_5e_3", 2.5e-3)):
        rates = [base * learning_rate_factor(Schedule(), step) for step in data["iterations"]]
        assert rates == pytest.approx(data[key], rel=1e-9), key
    short = data["short_schedule"]
    schedule = Schedule(steps=short["max_iterations"], warmup_steps=short["warmup_iterations"])
    rates = [short["base"] * learning_rate_factor(schedule, step) for step in short["iterations"]]
    assert rates == pytest.approx(short["lr"], rel=1e-9)


class Small(nn.Module):
    """A matrix, a scalar and a buffer, as in the recorded EMA sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
        self.scalar = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("buffer", torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(("key", "momentum"), [("ema_sequence_alpha_0.99", 0.99), ("ema_sequence_alpha_0.6", 0.6)])
def test_the_teacher_follows_as_the_reference(key: str, momentum: float) -> None:
    """Parameters average with min(1 - 1/(t+1), alpha); the first iteration copies; buffers never move."""
    sequence = json.loads((RECORDED / "lr_schedule.json").read_text())[key]
    student = Small()
    teacher = Teacher(student, momentum)  # type: ignore[arg-type]
    for entry in sequence:
        with torch.no_grad():
            student.weight.copy_(torch.tensor(entry["student_weight"], dtype=torch.float64))
            student.scalar.copy_(torch.tensor(entry["student_scalar"], dtype=torch.float64))
            student.buffer.add_(1)
        teacher.follow(student, entry["iteration"])  # type: ignore[arg-type]
        network = teacher.network
        assert torch.allclose(network.weight, torch.tensor(entry["teacher_weight"], dtype=torch.float64), atol=1e-12)
        assert torch.allclose(network.scalar, torch.tensor(entry["teacher_scalar"], dtype=torch.float64), atol=1e-12)
    assert torch.equal(teacher.network.buffer, torch.zeros(2, dtype=torch.float64))


def test_iou_and_accuracy_are_the_references() -> None:
    """One confusion over three images: IoU a class, NaN where a class is nowhere, and the mean over the others."""
    data = read(RECORDED / "evaluation.npz")
    matrix = ConfusionMatrix(19, torch.device("cpu"))
    for prediction, label in zip(data["prediction"], data["label"], strict=True):
        matrix.add(tensor(label).long(), tensor(prediction).long())
    result = scores(matrix.counts)
    assert torch.allclose(result.iou / 100, tensor(data["class_iou"]), atol=1e-12, equal_nan=True)
    assert result.accuracy / 100 == pytest.approx(float(data["all_pixel_accuracy"]), abs=1e-12)
    assert result.mean() / 100 == pytest.approx(float(data["mean_iou_over_defined_classes"]), abs=1e-12)


def test_evaluation_resizes_logits_twice() -> None:
    """Head -> network input -> label size gives the recorded argmax in every pixel."""
    data = read(RECORDED / "evaluation.npz")
    sizes = [tuple(int(side) for side in size) for size in data["resize/sizes"]]
    logits = upsample(upsample(tensor(data["resize/low_logits"]), sizes[1]), sizes[2])
    assert torch.allclose(logits[..., ::8, ::8], tensor(data["resize/logits_every8"]), atol=1e-4)
    assert torch.equal(logits.argmax(1), tensor(data["resize/argmax"]).long())


# -- the distortion of source-only training -------------------------------------------------------------------------


def recorded_distortion() -> tuple[Tensor, Tensor, DistortionDraw]:
    """Grey levels before and after, and the draws between them."""
    data = read(RECORDED / "photometric_distortion.npz")
    columns = tensor(data["draws"]).unbind(dim=1)
    draw = DistortionDraw(*(column.bool() for column in columns[:5]), *columns[5:])
    return tensor(data["image"]).float(), tensor(data["distorted"]).float(), draw


def test_distorted_images_are_those_of_opencv() -> None:
    """Every combination of the five coin tosses, to the grey level; also as a normalised batch."""
    image, expected, draw = recorded_distortion()
    assert torch.equal(distort_levels(image, draw), expected)
    assert torch.equal(distort_levels(image.double(), draw), expected.double())
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = distort((image - mean) / std, draw, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(normalised * std + mean, distort_levels(image, draw), atol=1e-3, rtol=0)


def test_distortions_are_drawn_from_their_ranges() -> None:
    """Each part for about every second image, factors and shifts over the whole range; hues are whole, -18 to 17."""
    draw = draw_distortion(PhotoMetricDistortion(), Streams(0), 0, 4000)
    for happens in (draw.brighter, draw.contrasted, draw.saturated, draw.turned, draw.contrast_last):
        assert 0.45 < float(happens.double().mean()) < 0.55
    assert -32 <= float(draw.brightness.min()) < -31.9
    assert 31.9 < float(draw.brightness.max()) < 32
    for factor in (draw.contrast, draw.saturation):
        assert 0.5 <= float(factor.min()) < 0.501
        assert 1.499 < float(factor.max()) < 1.5
    assert draw.hue.unique().tolist() == list(range(-18, 18))
