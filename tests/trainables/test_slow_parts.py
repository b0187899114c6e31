"""The parts of an iteration against slow, obvious references, on cases of every shape.

The recorded figures are a few cases. Here each part is written again as plainly as it can be said (pixel by pixel, in
float64, with numpy), from the published description and not from our code, and both are asked the same.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.slow_parts import Array, slow_blur, slow_jitter
from trainables.adaptation.augmentation import JitterDraw, augment, gaussian_blur, jitter_normalised
from trainables.adaptation.classmix import classmix
from trainables.adaptation.pseudo_label import label_logits
from trainables.config import Blur, ColourJitter, Margins, Schedule
from trainables.evaluation import ConfusionMatrix, scores
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.losses import cross_entropy
from trainables.optimization import learning_rate_factor
from trainables.randomness import Recorded, Streams
from trainables.step_data import Batch, PseudoLabel
from trainables.tasks.feature_distance import dominant_class, feature_distance
from trainables.tasks.masked_consistency import block_mask

FEW = settings(max_examples=20)
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def labels(generator: np.random.Generator, shape: tuple[int, ...], classes: list[int]) -> Tensor:
    """Random labels out of some classes."""
    return torch.from_numpy(generator.choice(classes, shape))


CLASSES = st.lists(st.sampled_from([*range(19), 255]), min_size=1, max_size=12, unique=True)


# -- ClassMix -------------------------------------------------------------------------------------------------------


@FEW
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 4), size=SIDES, classes=CLASSES)
def test_classmix(seed: int, batch: int, size: tuple[int, int], classes: list[int]) -> None:
    """Half of the batch's classes, rounded up, ignored ones counted: pixel by pixel, for odd numbers and one class."""
    generator = np.random.default_rng(seed)
    source_label = labels(generator, (batch, *size), classes)
    pseudo_of = labels(generator, (batch, *size), list(range(19)))
    source, target = (torch.from_numpy(generator.normal(size=(batch, 3, *size))) for _ in range(2))
    weight = torch.from_numpy(generator.uniform(size=(batch, *size))).float()
    keys = generator.uniform(size=(batch, 256))
    mixed = classmix(
        Batch(source, source_label),
        Batch(target),
        PseudoLabel(pseudo_of, weight, weight, weight.mean()),
        Recorded(0, {("mix classes", 0, 0): torch.from_numpy(keys)}),
        0,
    )
    present = sorted(set(source_label.flatten().tolist()))
    for image in range(batch):
        pasted = sorted(present, key=lambda one, image=image: keys[image, one])[: math.ceil(len(present) / 2)]
        for row, column in itertools.product(*map(range, size)):
            place = (image, row, column)
            mine = int(source_label[place]) in pasted
            assert bool(mixed.pasted[image, 0, row, column]) == mine
            assert int(mixed.label[place]) == int((source_label if mine else pseudo_of)[place])
            assert float(mixed.weight[place]) == (1.0 if mine else float(weight[place]))
            wanted = (source if mine else target)[image, :, row, column]
            assert torch.equal(mixed.image[image, :, row, column], wanted)


# -- Pseudo-labels and losses ---------------------------------------------------------------------------------------


def softmax(logits: Array) -> Array:
    """Over the second dimension."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


@FEW
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 4),
    size=SIDES,
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    threshold=st.sampled_from([0.0, 0.3, 0.968, 1.0]),
    margins=st.tuples(*[st.integers(0, 6)] * 4),
)
def test_pseudo_labels(
    seed: int, batch: int, size: tuple[int, int], spread: float, threshold: float, margins: tuple[int, int, int, int]
) -> None:
    """argmax, one q for the whole batch, zero in margins (which may cover everything) and outside valid boxes."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=spread, size=(batch, 5, *size))
    top, bottom, left, right = margins
    boxes = tuple(
        Box(int(generator.integers(size[0])), int(generator.integers(size[1])), int(generator.integers(size[0] + 1)),
            int(generator.integers(size[1] + 1)))
        for _ in range(batch)
    )  # fmt: skip
    found = label_logits(torch.from_numpy(logits), threshold, Margins(top=top, bottom=bottom, left=left, right=right))
    limited = label_logits(torch.from_numpy(logits), threshold, None, boxes)
    largest = softmax(logits).max(axis=1)
    if np.abs(largest - threshold).min() < 1e-12 and threshold not in (0.0,):
        return  # a probability at the threshold to rounding: either answer is right
    share = (largest >= threshold).mean()
    assert torch.equal(found.label, torch.from_numpy(logits.argmax(axis=1)))
    assert float(found.share) == pytest.approx(share, abs=1e-15)
    for image, row, column in itertools.product(range(batch), *map(range, size)):
        inside = top <= row < size[0] - bottom and left <= column < size[1] - right
        assert float(found.weight[image, row, column]) == (np.float32(share) if inside else 0)
        box = boxes[image]
        inside = box.top <= row < box.top + box.height and box.left <= column < box.left + box.width
        assert float(limited.weight[image, row, column]) == (np.float32(share) if inside else 0)


@FEW
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 3), size=SIDES, weighted=st.booleans(), classes=CLASSES)
def test_cross_entropy_and_its_gradient(
    seed: int, batch: int, size: tuple[int, int], weighted: bool, classes: list[int]
) -> None:
    """-w log p of the label, the mean over all pixels, ignored ones 0; the gradient is w (p - 1[label]) / pixels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=4, size=(batch, 19, *size))
    label = labels(generator, (batch, *size), classes)
    weight = generator.uniform(size=(batch, *size)) if weighted else np.ones((batch, *size))
    probability, pixels = softmax(logits), batch * size[0] * size[1]
    wanted, gradient = 0.0, np.zeros_like(logits)
    for image, row, column in itertools.product(range(batch), *map(range, size)):
        one = int(label[image, row, column])
        if one == 255:
            continue
        at = weight[image, row, column] / pixels
        wanted -= at * math.log(probability[image, one, row, column])
        gradient[image, :, row, column] = at * probability[image, :, row, column]
        gradient[image, one, row, column] -= at
    given_logits = torch.from_numpy(logits).requires_grad_()
    loss = cross_entropy(given_logits, label, torch.from_numpy(weight) if weighted else None)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(given_logits.grad, gradient, rtol=0, atol=1e-14)


# -- Colour jitter and blur -----------------------------------------------------------------------------------------


def normalised(image_u8: Array) -> Tensor:
    """[B, 3, H, W] in float64."""
    centre, spread = (np.array(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.from_numpy((image_u8 - centre) / spread)


@FEW
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 4), levels=st.sampled_from([2, 3, 256]))
def test_colour_jitter(seed: int, batch: int, levels: int) -> None:
    """Pixel by pixel, each image with factors and an order of its own; few levels make greys, ties and pure colours."""
    generator = np.random.default_rng(seed)
    image = generator.integers(levels, size=(batch, 3, 4, 5)) * (255 // (levels - 1))
    factors = generator.uniform([0.8, 0.8, 0.8, -0.2], [1.2, 1.2, 1.2, 0.2], size=(batch, 4))
    order = np.stack([generator.permutation(4) for _ in range(batch)])
    columns = [torch.from_numpy(factors[:, operation].copy()) for operation in range(4)]
    found = jitter_normalised(
        normalised(image), JitterDraw(*columns, torch.from_numpy(order)), IMAGENET_MEAN, IMAGENET_STD
    )
    wanted = np.empty_like(image, dtype=np.float64)
    for one, row, column in itertools.product(range(batch), range(4), range(5)):
        pixel = [part / 255 for part in image[one, :, row, column].tolist()]
        wanted[one, :, row, column] = slow_jitter(pixel, factors[one].tolist(), order[one].tolist())
    torch.testing.assert_close(found, normalised(255 * wanted), rtol=0, atol=1e-9)


@pytest.mark.slow  # importing kornia takes seconds
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_colour_jitter_is_todays_color_jiggle(order: tuple[int, ...]) -> None:
    """All 24 orders, at the edges of the ranges and within: up to the epsilon of the saturation."""
    pytest.importorskip("kornia")
    from kornia.augmentation import ColorJiggle

    generator = torch.Generator().manual_seed(sum(place * 4**i for i, place in enumerate(order)))
    image = torch.rand(3, 3, 6, 7, generator=generator, dtype=torch.float64)
    factors = {
        "brightness_factor": torch.tensor([0.8, 1.2, 1.03], dtype=torch.float64),
        "contrast_factor": torch.tensor([1.2, 0.8, 0.91], dtype=torch.float64),
        "saturation_factor": torch.tensor([0.8, 1.2, 1.1], dtype=torch.float64),
        "hue_factor": torch.tensor([-0.2, 0.2, 0.05], dtype=torch.float64),
    }
    jiggle = ColorJiggle(0.2, 0.2, 0.2, 0.2, p=1.0)
    params = factors | {"order": torch.tensor(order), "batch_prob": torch.ones(3)}
    params["forward_input_shape"] = torch.tensor(image.shape)
    wanted = jiggle.apply_transform(image, params, {}, None)
    draw = JitterDraw(*factors.values(), torch.tensor(order).expand(3, 4))
    ones, zeros = (255.0, 255.0, 255.0), (0.0, 0.0, 0.0)
    torch.testing.assert_close(jitter_normalised(image, draw, zeros, ones), wanted, rtol=0, atol=2e-5)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(11, 150), st.integers(11, 150)),
    sigmas=st.lists(st.sampled_from([0.15, 0.16, 0.6, 1.0, 1.15]), min_size=1, max_size=3),
)
def test_blur(seed: int, size: tuple[int, int], sigmas: list[float]) -> None:
    """Each image with its own sigma, at both ends of the range, any shape: what the short kernel drops is 1e-6."""
    image = np.random.default_rng(seed).normal(size=(len(sigmas), 3, *size))
    found = gaussian_blur(torch.from_numpy(image), torch.tensor(sigmas, dtype=torch.float64), reach=5 * 1.15)
    wanted = np.stack([slow_blur(one, sigma, size) for one, sigma in zip(image, sigmas, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("jitter_gate", "blur_gate", "changes"),
    [(0.2, 0.5, False), (0.2000001, 0.5, True), (0.0, 0.5000001, True), (0.19, 0.49, False), (0.99, 0.99, True)],
)
def test_gates_open_above_their_bounds(jitter_gate: float, blur_gate: float, changes: bool) -> None:
    """Jitter where u > 0.2, blur where u > 0.5, strictly; closed gates leave the images bit for bit."""
    draws = {
        ("jitter gate", 3, 0): torch.tensor(jitter_gate, dtype=torch.float64),
        ("blur gate", 3, 0): torch.tensor(blur_gate, dtype=torch.float64),
    }
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = augment(image, ColourJitter(), Blur(), Recorded(1, draws), 3, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(found, image) != changes


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("jitter", "blur"), [(None, None), (1, None), (None, 1), (1, 1)])
def test_augmented_images_keep_their_memory_format(
    layout: torch.memory_format, jitter: float | None, blur: float | None
) -> None:
    """An encoder that is compiled or recorded has one form for them, whatever was drawn."""
    image = torch.randn(2, 3, 32, 48).contiguous(memory_format=layout)
    found = augment(
        image,
        None if jitter is None else ColourJitter(probability=jitter),
        None if blur is None else Blur(probability=blur),
        Streams(0),
        0,
        IMAGENET_MEAN,
        IMAGENET_STD,
    )
    assert found.stride() == image.stride()
    assert (found is image) == (jitter is None and blur is None)


# -- Masks, feature distance ----------------------------------------------------------------------------------------


@FEW
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 4),
    size=st.tuples(st.integers(3, 70), st.integers(3, 70)),
    block=st.integers(1, 40),
    ratio=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
def test_block_masks(seed: int, batch: int, size: tuple[int, int], block: int, ratio: float) -> None:
    """Pixel (i, j) belongs to coarse cell (floor(i n / H), floor(j m / W)), which is kept where its draw is > ratio."""
    rows, columns = (max(1, round(side / block)) for side in size)
    uniform = np.random.default_rng(seed).uniform(size=(batch, 1, rows, columns))
    uniform.flat[0] = ratio  # at the ratio itself a block is masked
    streams = Recorded(0, {("image mask", 2, 0): torch.from_numpy(uniform)})
    keep = block_mask(streams, 2, batch, size, block, ratio)
    for image, i, j in itertools.product(range(batch), range(0, size[0], 3), range(0, size[1], 3)):
        cell = uniform[image, 0, i * rows // size[0], j * columns // size[1]]
        assert float(keep[image, 0, i, j]) == (cell > ratio)


@FEW
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.sampled_from([2, 4, 5]),
    ratio=st.sampled_from([0.51, 0.6, 0.75, 1.0]),
    classes=st.lists(st.sampled_from([0, 3, 6, 11, 18, 255]), min_size=1, max_size=3, unique=True),
)
def test_feature_distance(
    seed: int, batch: int, cells: tuple[int, int], stride: int, ratio: float, classes: list[int]
) -> None:
    """Cell by cell and channel by channel: the mean of the norms on thing cells, 0 where there is none."""
    generator = np.random.default_rng(seed)
    things = (6, 7, *range(11, 19))
    label = np.repeat(np.repeat(generator.choice(classes, (batch, *cells)), stride, 1), stride, 2)
    noise = generator.uniform(size=label.shape) < 0.3
    label[noise] = generator.choice(classes, int(noise.sum()))
    features, reference = (generator.normal(size=(batch, 7, *cells)) for _ in range(2))
    dominant = dominant_class(torch.from_numpy(label), stride, ratio)
    norms = []
    for image, i, j in itertools.product(range(batch), *map(range, cells)):
        cell = label[image, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride].flatten().tolist()
        winner = max(sorted(set(cell)), key=cell.count)
        if cell.count(winner) / stride**2 < ratio:
            winner = 255
        assert int(dominant[image, i, j]) == winner
        if winner in things:
            norms.append(math.dist(features[image, :, i, j], reference[image, :, i, j]))
    counts = torch.isin(dominant, torch.tensor(things))
    found = feature_distance(torch.from_numpy(features), torch.from_numpy(reference), counts)
    assert float(found) == pytest.approx(sum(norms) / len(norms) if norms else 0.0, rel=1e-12)


# -- Schedule, scores -----------------------------------------------------------------------------------------------


@given(steps=st.integers(2, 50_000), warmup=st.integers(0, 3000), power=st.sampled_from([0.9, 1.0]))
def test_learning_rate_at_the_edges(steps: int, warmup: int, power: float) -> None:
    """First step, both sides of the warm-up's end, last step: polynomial decay times a line from 1e-6 to 1."""
    schedule = Schedule(steps=steps, warmup_steps=warmup, power=power)
    for step in {0, 1, warmup - 1, warmup, warmup + 1, steps - 1} & set(range(steps)):
        line = 1e-6 + (1 - 1e-6) * step / warmup if step < warmup else 1.0
        wanted = ((steps - step) / steps) ** power * line
        assert learning_rate_factor(schedule, step) == pytest.approx(wanted, rel=1e-9)


@FEW
@given(seed=st.integers(0, 2**31), shape=st.tuples(st.integers(1, 3), st.integers(1, 8)), classes=CLASSES)
def test_iou(seed: int, shape: tuple[int, int], classes: list[int]) -> None:
    """Set by set: pixels in both over pixels in either, NaN where there are none, ignored pixels in neither."""
    generator = np.random.default_rng(seed)
    matrix = ConfusionMatrix(19, torch.device("cpu"))
    label, predicted = labels(generator, shape, classes), labels(generator, shape, list(range(5)))
    for one, other in zip(label, predicted, strict=True):
        matrix.add(one, other)
    result = scores(matrix.counts)
    pixels = [(int(a), int(b)) for a, b in zip(label.flatten(), predicted.flatten(), strict=True) if a != 255]
    ious = []
    for one in range(19):
        both = sum(pair == (one, one) for pair in pixels)
        either = sum(one in pair for pair in pixels)
        ious.append(100 * both / either if either else math.nan)
    assert result.iou.tolist() == pytest.approx(ious, nan_ok=True)
    known = [value for value in ious if not math.isnan(value)]
    assert result.mean() == pytest.approx(sum(known) / len(known) if known else math.nan, nan_ok=True)
