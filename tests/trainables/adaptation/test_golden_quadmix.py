"""QuadMix's mixer gives what the released code gave on recorded steps: images, labels and weights, exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.trainables.golden_cases import Arrays, read, tensor
from trainables.adaptation.mixer import MixView
from trainables.adaptation.quadmix import QuadMixer, Remembered, templates
from trainables.config import Exclusion, PatchColour, QuadMix, RarePatches
from trainables.data.datasets.gta import LABEL_IDS
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.randomness import Recorded
from trainables.step_data import Batch, Mixed, PseudoLabel

RELEASED = QuadMix(start=0.0).as_released()
SURE, UNSURE = 0.95, 0.5  # what is recorded is whether a probability reaches 0.9
Draws = dict[tuple[str, int, int], Tensor]


@pytest.fixture(scope="module")
def arrays(golden: Path) -> Arrays:
    """The recorded steps."""
    return read(golden / "quadmix" / "quadmix_visible.npz")


def keys_that_draw(ids: np.ndarray) -> Tensor:
    """Random keys under which each image draws the given ids [B, n]; -1 is none."""
    keys = torch.ones(len(ids), 256, dtype=torch.float64)
    for row, each in enumerate(ids):
        keys[row, each[each >= 0].tolist()] = 0
    return keys


def recorded_draws(arrays: Arrays) -> Draws:
    """All draws, by purpose and step."""
    draws: Draws = {}
    pool = arrays["rare_pool"].tolist()
    for row in range(len(arrays["rare_classes"])):
        draws["quadmix source classes", row + 1, 0] = keys_that_draw(arrays["source_classes"][row])
        draws["quadmix target classes", row + 1, 0] = keys_that_draw(arrays["target_classes"][row])
        places = [pool.index(each) for each in arrays["rare_classes"][row]]
        draws["quadmix rare classes", row + 1, 0] = torch.tensor(places)
    return draws


@dataclass
class RecordedPatches:
    """The recorded source images of rare classes, as the source domain gives them."""

    arrays: Arrays
    step: int

    def __call__(self, purpose: str, class_id: int, count: int, more_than: int = 0) -> Batch:
        assert more_than == self.arrays["rare_min_pixels"]
        view = int(re.fullmatch(r"quadmix patch \d of view (\d)", purpose)[1])  # type: ignore[index]
        rows = [row for row in self.arrays["rare_patches"].tolist() if row[:2] == [self.step, view]]
        crops = [self.crop(file, x, y) for _, _, _, each, file, x, y, _ in rows if each == class_id]
        assert len(crops) == count
        label = torch.stack([label for _, label in crops])
        assert ((label == class_id).flatten(1).sum(1) > more_than).all()
        return Batch(torch.stack([image for image, _ in crops]), label)

    def crop(self, file: int, x: int, y: int) -> tuple[Tensor, Tensor]:
        """A window of a file, normalised, and its trainIds."""
        rows, columns = self.arrays["source_label"].shape[-2:]
        size = tuple(int(side) for side in self.arrays["rare_resized_wh"])
        image = Image.fromarray(self.arrays["rare_images_u8"][file]).resize(size, Image.Resampling.BILINEAR)
        label = Image.fromarray(self.arrays["rare_label_ids"][file]).resize(size, Image.Resampling.NEAREST)
        window = np.s_[y : y + rows, x : x + columns]
        pixels = torch.from_numpy(np.array(image)[window]).float()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        normalised = ((pixels - mean) / std).permute(2, 0, 1)
        return normalised, torch.from_numpy(LABEL_IDS(np.array(label)[window])).long()


def given(arrays: Arrays, step: int) -> MixView:
    """What the mixer sees of a recorded step."""
    sure = tensor(arrays["confident"][step])
    weight = tensor(arrays["weight"][step])
    confidence = torch.where(sure, SURE, UNSURE)
    return MixView(
        step=step,
        total_steps=len(arrays["weight"]),
        streams=Recorded(0, recorded_draws(arrays)),
        source=Batch(tensor(arrays["source_image"][step]), tensor(arrays["source_label"][step]).long()),
        target=Batch(tensor(arrays["target_image"][step])),
        pseudo=PseudoLabel(tensor(arrays["pseudo_label"][step]).long(), weight, confidence, weight.max()),
        source_of_class=RecordedPatches(arrays, step),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def mixed_by(settings: QuadMix, arrays: Arrays) -> list[tuple[Mixed, ...]]:
    """What the mixer makes of all recorded steps, one after the other."""
    mixer = QuadMixer(settings)
    return [mixer.mix(given(arrays, step)) for step in range(len(arrays["weight"]))]


def assert_is(mixed: Mixed, arrays: Arrays, name: str, row: int) -> None:
    """Every pixel of image, label and weight."""
    assert torch.equal(mixed.image, tensor(arrays[f"{name}_image"][row]))
    assert torch.equal(mixed.label, tensor(arrays[f"{name}_label"][row]).long())
    weight = f"{name.removesuffix('_plain')}_weight"
    assert torch.equal(mixed.weight, tensor(arrays[weight][row]))


def test_both_views_are_the_references(arrays: Arrays) -> None:
    """With the switches as released, over all steps with the mixer's own memory; each view has half the weight."""
    first, *views = mixed_by(RELEASED, arrays)
    assert len(first) == 1  # without memory a step is ClassMix's
    for row, (on_source, on_target) in enumerate(views):
        assert_is(on_source, arrays, "tss", row)
        assert_is(on_target, arrays, "tst", row)
        assert on_source.share == on_target.share == 0.5
        assert not on_source.augmented


def test_views_without_patches_are_the_references(arrays: Arrays) -> None:
    """And so they are without the target template: nothing reaches the probability asked for."""
    plain = replace(RELEASED, rare=None)
    for settings, names in ((plain, ("tss_plain", "tst_plain")), (replace(plain, confidence=1.0), ("ss", "st"))):
        for row, views in enumerate(mixed_by(settings, arrays)[1:]):
            for mixed, name in zip(views, names, strict=True):
                assert_is(mixed, arrays, name, row)


def test_templates_are_the_references(arrays: Arrays) -> None:
    """Which pixels of the step before are pasted; with the exclusion as intended some step pastes others."""
    streams, others = Recorded(0, recorded_draws(arrays)), 0
    for row in range(len(arrays["mask_source"])):
        seen = given(arrays, row)
        assert seen.source.label is not None
        before = Remembered(
            seen.source.image,
            seen.source.label,
            seen.target.image,
            seen.pseudo.label,
            seen.pseudo.confidence,
            seen.pseudo.weight,
        )
        of_source, of_target = templates(before, RELEASED, streams, row + 1)
        assert torch.equal(of_source, tensor(arrays["mask_source"][row]))
        assert torch.equal(of_target, tensor(arrays["mask_target"][row]))
        intended = templates(before, replace(RELEASED, exclude=Exclusion.IDS), streams, row + 1)[1]
        others += not torch.equal(intended, of_target)
    assert others


def test_patches_have_the_colours_of_their_images_by_default(arrays: Arrays) -> None:
    """(RGB - mean) / std on the pixels of the patches; labels, weights and all other pixels are as released."""
    assert RarePatches().colour is PatchColour.NORMALISED
    coloured = mixed_by(replace(RELEASED, rare=RarePatches()), arrays)[1:]
    for row, views in enumerate(coloured):
        for index, (mixed, name) in enumerate(zip(views, ("tss", "tst"), strict=True)):
            expected = tensor(arrays[f"{name}_plain_image"][row])
            for _, _, image, class_id, file, x, y, _ in (
                each for each in arrays["rare_patches"].tolist() if each[:2] == [row + 1, index]
            ):
                patch, label = RecordedPatches(arrays, row + 1).crop(file, x, y)
                expected[image] = torch.where(label == class_id, patch, expected[image])
            assert torch.equal(mixed.image, expected)
            assert torch.equal(mixed.label, tensor(arrays[f"{name}_label"][row]).long())
            assert torch.equal(mixed.weight, tensor(arrays[f"{name}_weight"][row]))
