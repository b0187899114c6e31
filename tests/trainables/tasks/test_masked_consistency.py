"""Masked image consistency: its mask, its weight, its view of the image."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.trainables.golden_cases import RECORDED, read, tensor
from tests.trainables.tasks.training import names, reached, smoke, view_and_task, with_hrda
from trainables.config import Experiment, MaskedConsistency, MaskedView, SelfTraining
from trainables.models.segmentor import Outputs, SegmentationLoss, upsample
from trainables.randomness import Recorded, Streams
from trainables.tasks.masked_consistency import MaskedConsistencyTask, block_mask

CASES = ("case0_64x96_block32_ratio0.7", "case1_72x104_block32_ratio0.7", "case2_64x64_block16_ratio0.5",
         "case3_64x64_block64_ratio0.7")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_masks_are_the_references(case: str) -> None:
    """Given draws, the full-size mask; in case 1 the size is no multiple of the block."""
    arrays = read(RECORDED / "image_masks.npz")
    rows, columns, block, ratio = re.fullmatch(r"case\d_(\d+)x(\d+)_block(\d+)_ratio(.+)", case).groups()  # type: ignore[union-attr]
    uniform, keep = tensor(arrays[f"{case}/uniform"]), tensor(arrays[f"{case}/keep"])
    streams = Recorded(0, {("image mask", 3, 0): uniform})
    got = block_mask(streams, 3, len(uniform), (int(rows), int(columns)), int(block), float(ratio))
    assert torch.equal(got, keep.float())
    if f"{case}/image" in arrays:
        assert torch.equal(tensor(arrays[f"{case}/image"]) * got, tensor(arrays[f"{case}/masked_image"]))


def test_masked_blocks_have_their_ratio() -> None:
    """Over 100 steps within five standard errors, and every block is square and whole."""
    masks = torch.stack([block_mask(Streams(0), step, 2, (32, 64), 8, 0.7) for step in range(100)])
    blocks = masks.reshape(100, 2, 4, 8, 8, 8)
    assert torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))
    assert float(1 - masks.mean()) == pytest.approx(0.7, abs=5 * (0.21 / 6400) ** 0.5)


@dataclass(frozen=True)
class Pass:
    """The masked pass as it was made: the task's loss, the image the student saw, and its loss's inputs and parts."""

    total: Tensor
    image: Tensor
    label: Tensor
    weight: Tensor
    loss: SegmentationLoss


def masked_pass(config: Experiment, streams: Streams | None = None) -> Pass:
    """Evaluate the task in a step's view, looking at what the student is given."""
    view, task = view_and_task(config, streams)
    images: list[Tensor] = []
    losses: list[tuple[Tensor, Tensor, SegmentationLoss]] = []
    original = view.student.loss

    def loss(outputs: Outputs, label: Tensor, weight: Tensor) -> SegmentationLoss:
        losses.append((label, weight, original(outputs, label, weight)))
        return losses[-1][-1]

    handle = view.student.register_forward_pre_hook(lambda module, args: images.append(args[0]))
    view.student.loss = loss  # type: ignore[method-assign,assignment]
    total = task.loss(view)
    handle.remove()
    (image,), ((label, weight, parts),) = images, losses
    return Pass(total, image, label, weight, parts)


def test_its_weight_multiplies_the_fused_term_only() -> None:
    """HRDA at weight 3: 3 * 0.9 fused + 0.1 detail, as in the reference implementation; the step multiplies by 1."""
    config = with_hrda(smoke(MaskedConsistency(weight=3.0, block=8)))
    made = masked_pass(config)
    assert made.loss.detail is not None
    torch.testing.assert_close(made.total, 3 * made.loss.main + made.loss.detail)
    assert MaskedConsistencyTask.weight == 1


def test_masked_pixels_are_the_mean_colour() -> None:
    """The student sees the target, 0 (in normalised space) where a block is masked."""
    config = smoke(MaskedConsistency(block=8, view=MaskedView.TARGET))
    made = masked_pass(config)
    view, _ = view_and_task(config)
    keep = block_mask(view.streams, 0, 2, (32, 64), 8, 0.7)
    assert torch.equal(made.image, view.target.image * keep)
    assert torch.equal(made.label, view.pseudo.label)
    assert torch.equal(made.weight, view.pseudo.weight)


def test_source_and_target_is_one_image_of_each() -> None:
    """A masked source image with its label and weight 1, and a masked target image with its pseudo-label."""
    config = smoke(MaskedConsistency(block=8, view=MaskedView.SOURCE_AND_TARGET, ratio=0.0))
    made = masked_pass(config)
    view, _ = view_and_task(config)
    assert torch.equal(made.image, torch.stack([view.source.image[0], view.target.image[0]]))
    assert view.source.label is not None
    assert torch.equal(made.label, torch.stack([view.source.label[0], view.pseudo.label[0]]))
    assert torch.equal(made.weight, torch.stack([torch.ones(32, 64), view.pseudo.weight[0]]))


def test_the_augmented_view_blurs_by_its_own_gate_even_without_blur() -> None:
    """As in the reference: `blur=None` blurs no mixed image, but the masked one where its own draw says so."""
    plain = smoke(MaskedConsistency(block=8, ratio=0.0, view=MaskedView.TARGET_AUGMENTED))
    config = Experiment(
        **{f: getattr(plain, f) for f in plain.__slots__ if f != "adaptation"},
        adaptation=SelfTraining(threshold=0.0, jitter=None, blur=None),
    )
    view, _ = view_and_task(config)
    for gate, blurred in ((0.4, False), (0.6, True)):
        draws = {("masked blur gate", 0, 0): torch.tensor(gate), ("masked blur sigma", 0, 0): torch.ones(1)}
        made = masked_pass(config, Recorded(0, draws))
        assert torch.equal(made.image, view.target.image) is not blurred


def test_encoder_and_decoder_learn_and_the_teacher_does_not() -> None:
    """Gradients reach every part of the student; the task has no parameters; the teacher has no gradients."""
    view, task = view_and_task(smoke(MaskedConsistency(block=8)))
    task.loss(view).backward()
    assert reached(view.student) == names(view.student)
    assert not names(task)
    assert not any(p.requires_grad or p.grad is not None for p in view.teacher.parameters())


def test_masking_nothing_is_the_pseudo_labels_cross_entropy() -> None:
    """Ratio 0 on the plain target: by hand, the mean over all pixels of q * -log p."""
    view, task = view_and_task(smoke(MaskedConsistency(ratio=0.0, view=MaskedView.TARGET)))
    logits = upsample(view.student(view.target.image).logits, (32, 64))
    log = logits.log_softmax(dim=1).gather(1, view.pseudo.label.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(task.loss(view), -(view.pseudo.weight * log).mean())
