"""Masked image modelling as a task: its target, its loss, and what learns from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainables.tasks.training import FEW, SMALL_HRDA, names, reached, smoke, train, view_and_task, with_hrda
from trainables.config import HRDA, DAFormer, MaskedImageModelling
from trainables.randomness import Recorded
from trainables.tasks.masked_image import MaskedImageTask, masked_error, normalised_patches, spread


def test_patches_are_normalised_by_hand() -> None:
    """Patches of two columns in one channel repeated: 1 and 3 have mean 2, variance 12 / 11; a flat patch is 0."""
    image = torch.tensor([[1.0, 3.0, 5.0, 5.0]]).expand(1, 3, 2, 4)
    wanted = torch.tensor([[-1.0, 1.0, 0.0, 0.0]]).expand(1, 3, 2, 4) * (11 / 12) ** 0.5
    torch.testing.assert_close(normalised_patches(image, 2), wanted, rtol=0, atol=1e-5)


def test_channels_share_a_patchs_statistics() -> None:
    """As in MAE: a patch of constant channels 0, 3, 6 has mean 3 and variance 48 * 6 / 47."""
    image = torch.tensor([0.0, 3.0, 6.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    normal = normalised_patches(image, 4)[0, :, 0, 0]
    torch.testing.assert_close(normal, torch.tensor([-3.0, 0.0, 3.0]) / (288 / 47) ** 0.5, rtol=0, atol=1e-5)


def test_patches_cut_off_at_the_border_have_statistics_of_their_own() -> None:
    """5 columns in patches of 4: the last patch is one column, and its statistics are that column's."""
    image = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    normal = normalised_patches(image, 4)
    for rows in (slice(0, 4), slice(4, 6)):
        for columns in (slice(0, 4), slice(4, 5)):
            patch = normal[:, :, rows, columns].flatten(1)
            torch.testing.assert_close(patch.mean(dim=1), torch.zeros(2), rtol=0, atol=1e-5)
            torch.testing.assert_close(patch.var(dim=1), torch.ones(2), rtol=0, atol=1e-3)


def test_the_target_is_maes() -> None:
    """`patchify`, then (target - mean) / (var + 1e-6) ** 0.5 with torch's var over N - 1, as MAE's code writes it."""
    image = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    target = image.reshape(2, 3, 2, 4, 3, 4).permute(0, 2, 4, 3, 5, 1).reshape(2, 6, 48)
    wanted = (target - target.mean(dim=-1, keepdim=True)) / (target.var(dim=-1, keepdim=True) + 1e-6) ** 0.5
    found = normalised_patches(image, 4).reshape(2, 3, 2, 4, 3, 4).permute(0, 2, 4, 3, 5, 1).reshape(2, 6, 48)
    torch.testing.assert_close(found, wanted)


def test_the_error_counts_masked_pixels_only() -> None:
    """By hand: squares 4 and 16 (mean over channels 4 and 16), the first masked: 4; none masked: 0, not NaN."""
    predicted = torch.tensor([2.0, 4.0]).expand(1, 3, 1, 2)
    masked = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert float(masked_error(predicted, torch.zeros(1, 3, 1, 2), masked)) == 4
    assert float(masked_error(predicted, torch.zeros(1, 3, 1, 2), masked * 0)) == 0


def test_the_loss_is_that_of_the_masked_patches() -> None:
    """Given draws: the encoder sees zeros there; a linear map of its features is compared with the patch's pixels."""
    score = torch.arange(32.0).view(1, 1, 4, 8).expand(2, 1, 4, 8) / 32  # the first 20 of 32 patches are masked
    streams = Recorded(0, {("image patches", 0, 0): score})
    view, task = view_and_task(smoke(MaskedImageModelling(ratio=0.6, patch=8)), streams)
    assert isinstance(task, MaskedImageTask)
    loss = task.loss(view)
    image = view.target.image
    masked = torch.zeros(32, dtype=torch.bool)
    masked[:20] = True
    hidden = masked.view(4, 1, 8, 1).expand(4, 8, 8, 8).reshape(32, 64)
    features = view.student.encode(image.masked_fill(hidden, 0.0)).pyramids[0][-1]
    cell = image.shape[-1] // features.shape[-1]
    predicted = task.head(features).view(2, 3, cell, cell, *features.shape[-2:])
    predicted = predicted.permute(0, 1, 4, 2, 5, 3).reshape(image.shape)
    error = (predicted - normalised_patches(image, 8)).square().mean(dim=1)[:, hidden]
    torch.testing.assert_close(loss, error.mean())


def test_what_is_masked_cannot_be_seen() -> None:
    """Other pixels under the mask change the target of the loss, never the prediction."""
    view, task = view_and_task(smoke(MaskedImageModelling(ratio=0.5, patch=8)))
    assert isinstance(task, MaskedImageTask)
    seen: list[Tensor] = []
    handle = view.student.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    before = task.loss(view)
    hidden = (seen[0] == 0).all(dim=1, keepdim=True)
    assert 0.45 < float(hidden.float().mean()) < 0.55
    view.target.image.copy_(torch.where(hidden, view.target.image.flip(-1), view.target.image))
    after = task.loss(view)
    handle.remove()
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(before, after)


def test_every_image_masks_the_same_count() -> None:
    """Ratio 0.6 of 32 patches: 20 are masked (MAE keeps floor(0.4 * 32) = 12)."""
    view, task = view_and_task(smoke(MaskedImageModelling(ratio=0.6, patch=8)))
    seen: list[Tensor] = []
    handle = view.student.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    task.loss(view)
    handle.remove()
    hidden = (seen[0] == 0).all(dim=1).float()
    assert hidden.flatten(1).sum(dim=1).tolist() == [20 * 64, 20 * 64]


def test_patches_spread_over_their_pixels() -> None:
    """One value a patch becomes one a pixel, cut at the border."""
    assert spread(torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 2), 2, (2, 3)).tolist() == [[[[1, 1, 2], [1, 1, 2]]]]


def test_the_encoder_learns_and_the_decoder_does_not() -> None:
    """Gradients reach the encoder and the task's own map, never the segmentation decoder nor the teacher."""
    view, task = view_and_task(smoke(MaskedImageModelling(patch=8)))
    task.loss(view).backward()
    assert reached(view.student.encoder) == names(view.student.encoder)
    assert not reached(view.student.decoder)
    assert reached(task) == names(task) == {"head.weight", "head.bias"}
    assert not any(p.requires_grad or p.grad is not None for p in view.teacher.parameters())


def test_a_flat_image_stays_finite() -> None:
    """A batch of one grey level has patches without variance: loss and gradients are finite."""
    view, task = view_and_task(smoke(MaskedImageModelling(patch=8)))
    view.target.image.fill_(0.3)
    loss = task.loss(view)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in view.student.parameters() if p.grad is not None)


@pytest.mark.parametrize("patch", [5, 8, 32, 100])
def test_any_patch_fits_any_image(patch: int) -> None:
    """Patches that do not divide the image, or are larger than it, give a finite loss."""
    view, task = view_and_task(smoke(MaskedImageModelling(patch=patch)))
    assert bool(task.loss(view).isfinite())


@pytest.mark.parametrize(("network", "size"), [(SMALL_HRDA.base, (40, 72)), (SMALL_HRDA, (96, 64))])
def test_any_image_is_predicted_whole(network: DAFormer | HRDA, size: tuple[int, int]) -> None:
    """Where cells of the last stage do not divide the sides, or have another share of rows than of columns."""
    config = replace(smoke(MaskedImageModelling(patch=8)), network=network, data=replace(FEW, image_size=size))
    view, task = view_and_task(config)
    assert bool(task.loss(view).isfinite())


@pytest.mark.parametrize("hrda", [False, True])
def test_it_trains(tmp_path: Path, dacs_weights: Mapping[bool, dict[str, Tensor]], hrda: bool) -> None:
    """Three steps end with finite losses and other weights than DACS alone."""
    config = smoke(MaskedImageModelling(patch=8))
    report, weights = train(with_hrda(config) if hrda else config, tmp_path)
    without = dacs_weights[hrda]
    assert report["outcome"] == "finished"
    assert report["metrics"]["loss/masked_image"] > 0
    assert any(not torch.equal(weights[name], without[name]) for name in without)
    assert weights.keys() == without.keys()  # the exported student is the baseline's
