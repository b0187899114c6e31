"""HRDA against a slow, obvious reference, against recorded figures, and at its limits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.golden_cases import read, tensor
from tests.trainables.models.tiny import RECORDED, TINY_HRDA, box_of, built, normalised, recorded
from trainables.config import HRDA
from trainables.geometry import Box
from trainables.losses import cross_entropy
from trainables.models.hrda import HRDASegmentor
from trainables.models.segmentor import Segmentor
from trainables.randomness import Recorded, Streams

NAMES = list(TINY_HRDA)
SIZE = (96, 160)


def tiny(name: str) -> HRDASegmentor:
    """A tiny HRDA with recorded weights."""
    segmentor = recorded(TINY_HRDA[name], read(RECORDED / f"{name}.npz"))
    assert isinstance(segmentor, HRDASegmentor)
    return segmentor


def resized(x: Tensor, rows: int, columns: int) -> Tensor:
    """Bilinear, corners not aligned."""
    return F.interpolate(x, size=(rows, columns), mode="bilinear", align_corners=False)


def head_of(segmentor: HRDASegmentor, head: str, image: Tensor) -> Tensor:
    """What one head says of one image on its own."""
    pyramid = segmentor.encoder(image)
    return segmentor.decoder.get_submodule(head)(*[pyramid[stage] for stage in segmentor.decoded_stages])


def slow_logits(segmentor: HRDASegmentor, image: Tensor, boxes: list[Box], whole: bool) -> Tensor:
    """Fused logits of one image [1, 3, H, W]: crop by crop, cell by cell, zero-padded maps and a count.

    Args:
        segmentor: Its encoder and heads are used one image at a time.
        image: One image.
        boxes: Where detail is looked at.
        whole: The boxes cover the image, so that attention counts everywhere; else only inside the one box.
    """
    stride = segmentor.logit_stride
    rows, columns = image.shape[-2] // stride, image.shape[-1] // stride
    small = resized(image, image.shape[-2] // 2, image.shape[-1] // 2)
    context, attention = head_of(segmentor, "head", small), head_of(segmentor, "attention", small).sigmoid()
    if not whole:
        (box,) = boxes
        for row in range(attention.shape[-2]):
            for column in range(attention.shape[-1]):
                inside_rows = int(box.top / (2 * stride)) <= row < int((box.top + box.height) / (2 * stride))
                inside_columns = int(box.left / (2 * stride)) <= column < int((box.left + box.width) / (2 * stride))
                if not (inside_rows and inside_columns):
                    attention[..., row, column] = 0
    total, count = torch.zeros(1, segmentor.num_classes, rows, columns), torch.zeros(rows, columns)
    for box in boxes:
        logits = head_of(segmentor, "head", box.crop(image))
        top, left = box.top // stride, box.left // stride
        for row in range(logits.shape[-2]):
            for column in range(logits.shape[-1]):
                total[..., top + row, left + column] += logits[..., row, column]
                count[top + row, left + column] += 1
    detail = total / count.clamp(min=1)
    return resized(attention, rows, columns) * detail + resized((1 - attention) * context, rows, columns)


def slow_windows(size: tuple[int, int], window: int) -> list[Box]:
    """Windows of half overlap, the last ones moved back to the border, as a double loop over a grid."""
    stride, boxes = window // 2, []
    for row in range(max(math.ceil((size[0] - window) / stride), 0) + 1):
        for column in range(max(math.ceil((size[1] - window) / stride), 0) + 1):
            bottom, right = min(row * stride + window, size[0]), min(column * stride + window, size[1])
            boxes.append(Box(max(bottom - window, 0), max(right - window, 0), window, window))
    return boxes


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("box", [Box(16, 48, 64, 64), Box(8, 24, 64, 64), Box(32, 96, 64, 64)])
def test_training_pass_equals_the_slow_reference(name: str, box: Box) -> None:
    """Fused logits of a batch with one detail crop, also at odd multiples of 8, equal those made image by image."""
    segmentor = tiny(name)
    image = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    outputs = segmentor(image, box)
    slow = torch.cat([slow_logits(segmentor, one.unsqueeze(0), [box], whole=False) for one in image])
    torch.testing.assert_close(outputs.logits, slow, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_inference_equals_the_slow_reference(name: str) -> None:
    """Logits with all detail windows in one batch equal those made window by window."""
    segmentor = tiny(name)
    image = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    boxes = slow_windows(SIZE, 64)
    slow = torch.cat([slow_logits(segmentor, one.unsqueeze(0), boxes, whole=True) for one in image])
    torch.testing.assert_close(segmentor.predict(image), resized(slow, *SIZE), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_figures_of_the_reference_implementation(name: str) -> None:
    """Fused logits, both losses and inference equal the figures recorded from the reference implementation."""
    case = read(RECORDED / f"{name}.npz")
    segmentor = tiny(name)
    image, label = normalised(tensor(case["image_u8"])), tensor(case["label"]).long()
    outputs = segmentor(image, box_of(tensor(case["train1/hr_crop_box_y1y2x1x2"])))
    fused = tensor(case["train1/fused_logits_every4"])
    torch.testing.assert_close(outputs.logits[..., ::4, ::4], fused, rtol=0, atol=1e-4)
    loss = segmentor.loss(outputs, label)
    assert loss.detail is not None
    assert float(loss.main) == pytest.approx(float(case["train1/unweighted/loss_seg"]), rel=1e-6)
    assert float(loss.detail) == pytest.approx(float(case["train1/unweighted/hr.loss_seg"]), rel=1e-6)
    logits = segmentor.predict(image)[..., ::16, ::16]
    torch.testing.assert_close(logits, tensor(case["infer/upsampled_every16"]), rtol=0, atol=1e-4)


@torch.no_grad()
def test_loss_is_nine_tenths_fused_and_one_tenth_detail() -> None:
    """The two terms by hand: label and weight are cropped for the detail, ignored pixels count in the mean."""
    segmentor = tiny("hrda_daformer")
    generator = torch.Generator().manual_seed(3)
    image, weight = torch.randn(1, 3, *SIZE, generator=generator), torch.rand(1, *SIZE, generator=generator)
    label = torch.randint(0, 19, (1, *SIZE), generator=generator)
    label[:, :20] = 255
    box = Box(16, 48, 64, 64)
    outputs = segmentor(image, box)
    loss = segmentor.loss(outputs, label, weight)
    fused = cross_entropy(resized(outputs.logits, *SIZE), label, weight)
    assert outputs.detail is not None
    assert loss.detail is not None
    detail = cross_entropy(resized(outputs.detail, 64, 64), box.crop(label), box.crop(weight))
    torch.testing.assert_close(loss.main, 0.9 * fused)
    torch.testing.assert_close(loss.detail, 0.1 * detail)
    torch.testing.assert_close(loss.total(), 0.9 * fused + 0.1 * detail)


@torch.no_grad()
def test_decoding_edited_features_uses_them() -> None:
    """Edited pyramids are decoded; attention from other features changes the fused logits and not the detail's."""
    segmentor = tiny("hrda_daformer")
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))
    encoded = segmentor.encode(image, Box(0, 0, 64, 64))
    plain = segmentor.decode(encoded)
    context, detail = encoded.pyramids
    assert [a.shape for a in context] == [b.shape for b in detail]
    edited = encoded.with_pyramids((tuple(torch.zeros_like(stage) for stage in context), detail))
    rebuilt = segmentor.decode(edited)
    assert not torch.allclose(plain.logits, rebuilt.logits)
    assert plain.detail is not None
    assert rebuilt.detail is not None
    assert torch.equal(plain.detail, rebuilt.detail)
    other = segmentor.decode(edited.with_pyramids(edited.pyramids, attention=context))
    assert not torch.allclose(other.logits, rebuilt.logits)


def test_outside_the_detail_crop_the_context_alone_speaks() -> None:
    """No gradient reaches the detail or the attention from logits away from the crop."""
    segmentor = tiny("hrda_daformer")
    encoded = segmentor.encode(torch.randn(1, 3, 128, 128), Box(0, 0, 64, 64))
    outputs = segmentor.decode(encoded)
    outputs.logits[..., 20:, 20:].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in segmentor.decoder.attention.parameters())
    assert any(p.grad is not None and p.grad.any() for p in segmentor.decoder.head.parameters())


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    """A tiny HRDA at random weights, detail crop 64 x 64."""
    return built(TINY_HRDA["hrda_daformer"])


@given(seed=st.integers(0, 2**31), rows=st.integers(0, 12), columns=st.integers(0, 12))
def test_detail_crops_lie_inside_at_multiples_of_eight(
    segmentor: Segmentor, seed: int, rows: int, columns: int
) -> None:
    """For every size and seed; the last place is never drawn where the room is a positive multiple of 8."""
    size = (64 + 8 * rows, 64 + 8 * columns)
    box = segmentor.draw_box(Streams(seed), "detail crop, source pass", 5, size)
    assert box is not None
    for start, room in ((box.top, 8 * rows), (box.left, 8 * columns)):
        assert start % 8 == 0
        assert 0 <= start <= max(0, room - 8)
    assert (box.height, box.width) == (64, 64)
    assert box == segmentor.draw_box(Streams(seed), "detail crop, source pass", 5, size)


def test_every_place_of_a_detail_crop_is_drawn(segmentor: Segmentor) -> None:
    """In a room of 64 pixels rows and columns take the eight places 0 to 56, each with its own draws."""
    drawn = [segmentor.draw_box(Streams(0), "detail crop, mixed pass", step, (128, 128)) for step in range(200)]
    places = [(box.top, box.left) for box in drawn if box is not None]
    assert {top for top, _ in places} == {left for _, left in places} == set(range(0, 64, 8))
    assert any(top != left for top, left in places)


def test_recorded_detail_crops_are_used(segmentor: Segmentor) -> None:
    """Injected draws, in units of 8 pixels, are rows at item 0 and columns at item 1."""
    purpose = "detail crop, auxiliary target pass"
    streams = Recorded(0, {(purpose, 3, 0): torch.tensor(2), (purpose, 3, 1): torch.tensor(5)})
    assert segmentor.draw_box(streams, purpose, 3, (128, 128)) == Box(16, 40, 64, 64)


def test_wrong_sizes_are_one_sentence(segmentor: Segmentor) -> None:
    """Too small images, sizes that the two resolutions cannot share, no box, and an odd crop are each refused."""
    with pytest.raises(ValueError, match=r"HRDA.detail_crop must fit into the training images of 32 x 128 pixels"):
        segmentor.draw_box(Streams(0), "detail crop, source pass", 0, (32, 128))
    with pytest.raises(ValueError, match=r"multiples of 8, got 100 x 128; resize or crop"):
        segmentor(torch.zeros(1, 3, 100, 128), Box(0, 0, 64, 64))
    with pytest.raises(ValueError, match=r"give `box` \(see `draw_box`\), or use `predict`"):
        segmentor(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match=r"HRDA.detail_crop must be two multiples of 8, got \(60, 64\)"):
        built(HRDA(base=TINY_HRDA["hrda_daformer"].base, detail_crop=(60, 64)))


@torch.no_grad()
@pytest.mark.parametrize("size", [(93, 311), (60, 128), (64, 129)])
def test_an_image_of_any_size_is_predicted_as_one_whose_border_goes_on(
    segmentor: Segmentor, size: tuple[int, int]
) -> None:
    """As KITTI's 375 x 1242, of which neither side is a multiple of 8; (60, 128) has fewer rows than a detail crop."""
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(6))
    rows, columns = (8 * math.ceil(side / 8) for side in size)
    below = [image] + [image[..., -1:, :]] * (rows - size[0])
    beside = torch.cat(below, dim=-2)
    whole = torch.cat([beside] + [beside[..., -1:]] * (columns - size[1]), dim=-1)
    logits = segmentor.predict(image)
    assert logits.shape[-2:] == size
    assert torch.equal(logits, segmentor.predict(whole)[..., : size[0], : size[1]])


def test_batch_norm_sees_all_detail_windows_at_once() -> None:
    """In train mode, a teacher's, the head's statistics move twice: with the context, and with all windows together."""
    segmentor = tiny("hrda_daformer").train()
    segmentor.predict(torch.randn(2, 3, 128, 128))
    assert int(segmentor.decoder.get_buffer("head.fusion.bottleneck.bn.num_batches_tracked")) == 2
    assert int(segmentor.decoder.get_buffer("attention.fusion.bn.num_batches_tracked")) == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_both_resolutions_reach_the_encoder_in_the_images_layout(layout: torch.memory_format) -> None:
    """Dense, whatever the box: the same strides, so that one compiled form does for both."""
    segmentor = tiny("hrda_daformer")
    strides: list[tuple[int, ...]] = []
    segmentor.encoder.register_forward_pre_hook(lambda _, inputs: strides.append(inputs[0].stride()))
    segmentor.encode(torch.randn(2, 3, 128, 128).contiguous(memory_format=layout), Box(8, 16, 64, 64))
    assert strides == [torch.empty(2, 3, 64, 64).contiguous(memory_format=layout).stride()] * 2
