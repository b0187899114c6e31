"""PiPa's losses, sampling, embeddings and pairs are those of the published code on recorded cases, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.golden_cases import RECORDED, Arrays, read, tensor
from tests.trainables.models.tiny import TINY_DAFORMER, built
from trainables.adaptation.view_pairs import View, overlap, place_second, resized_size
from trainables.config import IgnoredPixels, PatchContrast, PatchFeatures, PixelContrast
from trainables.geometry import Box
from trainables.randomness import Recorded, Streams
from trainables.tasks.patch_contrast import Cells, PatchContrastTask
from trainables.tasks.pixel_contrast import (
    Anchors,
    concatenated,
    draw_anchors,
    embedded,
    gathered,
    nearest,
    pixel_contrast,
    projection,
    untrained_helper,
)

PIPA = RECORDED / "pipa"
PIXEL = read(PIPA / "pixel_contrast.npz")
CASES = sorted({key.split("/")[0] for key in PIXEL})


def case(arrays: Arrays, name: str) -> dict[str, Tensor]:
    """The arrays of one case; real numbers in float64."""
    found = {key.split("/", 1)[1]: tensor(value) for key, value in arrays.items() if key.startswith(f"{name}/")}
    return {key: value.double() if value.is_floating_point() else value.long() for key, value in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_pixel_loss_and_its_gradient_are_the_references(name: str) -> None:
    """At the recorded anchors, to 1e-12."""
    data = case(PIXEL, name)
    features = data["features"].requires_grad_()
    anchors = Anchors(data["anchor_image"], data["anchor_class"], data["anchor_index"], data["anchor_hard"])
    settings = PixelContrast()
    loss = pixel_contrast(*gathered(features, anchors), settings.temperature, settings.base_temperature)
    loss.backward()
    torch.testing.assert_close(loss.detach(), data["loss_f64"], rtol=0, atol=1e-12)
    torch.testing.assert_close(features.grad, data["grad_f64"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_anchors_are_sampled_by_the_references_rules(name: str) -> None:
    """The same labels, pairs and numbers of hard anchors, which come first; no cell twice, each of its class."""
    data = case(PIXEL, name)
    settings = PixelContrast(
        samples=int(data["max_samples"]),
        views=int(data["max_views"]),
        ignored=IgnoredPixels.CLASS if int(data["ignore_label"]) == -1 else IgnoredPixels.SKIP,
    )
    label = nearest(data["label"], tuple(data["features"].shape[-2:]))  # type: ignore[arg-type]
    assert torch.equal(label, data["label_small"])
    anchors = draw_anchors(label, data["prediction"], settings, Streams(0), 0)
    assert anchors is not None
    assert torch.equal(anchors.image, data["anchor_image"])
    assert torch.equal(anchors.classes, data["anchor_class"])
    assert torch.equal(anchors.hard, data["anchor_hard"])
    assert anchors.index.shape == data["anchor_index"].shape
    for image, one, cells, hard in zip(anchors.image, anchors.classes, anchors.index, anchors.hard, strict=True):
        assert len(set(cells.tolist())) == len(cells)
        assert (label[image].flatten()[cells] == one).all()
        right = data["prediction"][image].flatten()[cells] == one
        assert right.tolist() == [False] * int(hard) + [True] * (len(cells) - int(hard))


def loaded(module: nn.Module, data: dict[str, Tensor], names: dict[str, str]) -> nn.Module:
    """The module in float64 with recorded weights, by own name -> recorded prefix."""
    module.double()
    for own, recorded in names.items():
        layer = module.get_submodule(own)
        for part in ("weight", "bias"):
            getattr(layer, part).data.copy_(data[f"{recorded}.{part}"])
    return module


def test_the_embedding_of_all_stages_is_the_references() -> None:
    """Stages resized with aligned corners; BatchNorm in train mode; unit vectors."""
    arrays = read(PIPA / "embedding.npz")
    data = {key: tensor(value).double() for key, value in arrays.items()}
    features = concatenated(tuple(data[f"stage{stage}"] for stage in range(4)))
    torch.testing.assert_close(features, data["concatenated_f64"], rtol=0, atol=1e-12)
    names = {"0": "weight/proj.0", "1": "weight/proj.1.0", "3": "weight/proj.2"}
    head = loaded(projection(32, 8), data, names)
    torch.testing.assert_close(embedded(head, features).detach(), data["embedding_f64"], rtol=0, atol=1e-12)


def test_the_projection_of_patches_is_the_references() -> None:
    """The decoder's map pooled by two, then the task's own projection."""
    arrays = read(PIPA / "embedding.npz")
    data = {key: tensor(value).double() for key, value in arrays.items()}
    student = built(replace(TINY_DAFORMER, channels=16))
    task = PatchContrastTask(PatchContrast(dim=10), student)
    loaded(task.projection, data, {"0": "patch/weight/0", "2": "patch/weight/2"})
    found = embedded(task.projection, task.pooled(student, data["patch/decoder_features"]))
    torch.testing.assert_close(found.detach(), data["patch/projected_f64"], rtol=0, atol=1e-12)


def test_the_patch_loss_is_the_references_step_by_step() -> None:
    """Losses, gradients through the anchors alone, the bank's size: five steps, the bank carried along."""
    data = {key: tensor(value) for key, value in read(PIPA / "patch_contrast.npz").items()}
    settings = PatchContrast(
        dim=data["feature1"].shape[2],
        bank_cells=int(data["selected"]),
        bank_steps=int(data["bank_steps"]),
        confidence=float(data["confidence"]),
        temperature=float(data["temperature"]),
        weight=float(data["weight"]),
    )
    task = PatchContrastTask(settings, built(TINY_DAFORMER)).double()
    for step in range(len(data["loss"])):
        cells, views = [], []
        for index, name in enumerate("12"):
            vectors = data[f"feature{name}"][step].double().requires_grad_()
            cells.append(Cells(vectors, data[f"label{name}"][step].long(), data[f"confidence{name}"][step]))
            views.append(recorded_views(data, step, index))
        draws = {("patch bank", step, index): data[f"selected{name}"][step] for index, name in enumerate("12")}
        loss = task.weight * task.contrast(cells, views, Recorded(0, draws), step)
        loss.backward()
        torch.testing.assert_close(loss.detach(), data["loss"][step], rtol=0, atol=1e-12)
        for name, each in zip("12", cells, strict=True):
            torch.testing.assert_close(each.vectors.grad, data[f"grad{name}"][step], rtol=0, atol=1e-12)
        assert len(task.bank.vectors) == int(data["bank"][step])


def recorded_views(data: dict[str, Tensor], step: int, index: int) -> list[View]:
    """The overlap and the flip of one crop of each image."""
    name = "12"[index]
    views = []
    for image in range(data["flip"].shape[2]):
        top, left = data[f"ul{name}"][step, :, image].tolist()
        bottom, right = data[f"br{name}"][step, :, image].tolist()
        box = Box(top, left, bottom - top, right - left)
        views.append(View(torch.zeros(0), box, bool(data["flip"][step, index, image])))
    return views


def test_pairs_are_placed_as_the_reference_places_them() -> None:
    """400 pairs: the resized image, which tries are taken, where the second crop comes to lie, the overlap in both."""
    data = read(PIPA / "pair_geometry.npz")
    side = int(data["crop"])
    for long_side, *size in zip(data["long_side"], data["height"], data["width"], strict=True):
        assert list(resized_size((1024, 2048), int(long_side), (side, side))) == size
    for pair in range(len(data["y1"])):
        own = data["attempt_pair"] == pair
        tries = list(zip(data["attempt_y2"][own].tolist(), data["attempt_x2"][own].tolist(), strict=True))
        first = (int(data["y1"][pair]), int(data["x1"][pair]))
        wanted = (int(data["y2"][pair]), int(data["x2"][pair]))
        assert place_second(first, iter(tries), (side, side), int(data["stride"])) == wanted
        refused = [place_second(first, [one], (side, side), int(data["stride"])) for one in tries[:-1]]
        assert refused == [first] * int(data["rejected"][pair])
        for name, box in (
            ("1", overlap(first, wanted, (side, side))),
            ("2", overlap(wanted, first, (side, side))),
        ):
            assert [box.top, box.left] == data[f"ul{name}"][pair].tolist()
            assert [box.top + box.height, box.left + box.width] == data[f"br{name}"][pair].tolist()


def test_modules_have_the_published_numbers_of_parameters() -> None:
    """Over MiT-B5 and DAFormer: both projections, the helper, and what labels cells in the released code."""
    assert counted(projection(64 + 128 + 320 + 512, 256)) == 1_314_048
    assert counted(untrained_helper(1024, 19)) == 9_459_712
    student = built(replace(TINY_DAFORMER, channels=256))
    decoder = PatchContrastTask(PatchContrast().as_released(), student)
    logits = PatchContrastTask(replace(PatchContrast().as_released(), features=PatchFeatures.LOGITS), student)
    assert (counted(decoder.projection), counted(decoder.get_submodule("classifier"))) == (98_688, 4_883)
    assert (counted(logits.projection), counted(logits.get_submodule("classifier"))) == (2_940, 380)


def counted(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
