"""Resize, crop rule, normalisation and rare-class counts agree with the recorded reference pipeline (cv2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.golden_cases import Arrays, read
from trainables.config import RareClassSampling
from trainables.data.crops import Crop, box_of, draw_source_crop, is_mixed
from trainables.data.labels import pixels_by_class
from trainables.data.packing.resize import fit_size, resize_image, resize_label
from trainables.data.sampling import RareClasses, Wanted
from trainables.data.stored_pair import normalised
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box


@pytest.fixture(scope="module")
def pipeline(golden: Path) -> Arrays:
    return read(golden / "image_pipeline.npz")


@pytest.fixture(scope="module")
def rare(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "rare_class_sampling.json").read_text())
    return content


SCALE = torch.tensor([IMAGENET_MEAN, IMAGENET_STD])


class Scripted:
    """A generator that draws the recorded corners of windows, one after another."""

    def __init__(self, corners: list[int]) -> None:
        self.corners = corners
        self.drawn = 0

    def integers(self, high: int) -> int:
        corner = self.corners[self.drawn]
        assert corner < high
        self.drawn += 1
        return corner

    def random(self) -> float:
        return 0.9


@pytest.mark.parametrize("which", ["fit_1280x720", "fit_2560x1440"])
def test_kept_ratio_sizes(pipeline: Arrays, which: str) -> None:
    box = {"fit_1280x720": (720, 1280), "fit_2560x1440": (1440, 2560)}[which]
    for (width, height), (columns, rows) in zip(
        pipeline["resize_rule/w_h"].tolist(), pipeline[f"resize_rule/{which}"].tolist(), strict=True
    ):
        assert fit_size((height, width), box) == (rows, columns)


@pytest.mark.parametrize("case", ["case0", "case1"])
def test_a_resized_image_and_its_label_are_the_references_bit_by_bit(pipeline: Arrays, case: str) -> None:
    image, label = pipeline[f"{case}/image_rgb_u8"], pipeline[f"{case}/label"]
    width, height = pipeline[f"{case}/fit_w_h"].tolist()
    size = fit_size(label.shape, (height, width))
    expected = pipeline[f"{case}/resized_rgb_u8"]
    assert size == expected.shape[:2]
    np.testing.assert_array_equal(resize_image(image, size), expected)
    np.testing.assert_array_equal(resize_label(label, size), pipeline[f"{case}/resized_label"])


@pytest.mark.parametrize("case", ["case0", "case1"])
def test_the_window_that_is_used_and_its_pixels(pipeline: Arrays, case: str) -> None:
    label, image = pipeline[f"{case}/resized_label"], pipeline[f"{case}/resized_rgb_u8"]
    boxes = pipeline[f"{case}/candidate_boxes_y1y2x1x2"]
    used = int(pipeline[f"{case}/used_candidate"])
    crop_size = pipeline[f"{case}/crop_label"].shape
    generator: Any = Scripted([int(corner) for box in boxes for corner in (box[0], box[2])])
    box = draw_source_crop(generator, label, crop_size, 0.75, None).box
    top, bottom, left, right = boxes[used].tolist()
    assert box == Box(top, left, bottom - top, right - left)
    assert generator.drawn == 2 * (used + 1)
    columns = slice(None, None, -1 if pipeline[f"{case}/flipped"] else 1)
    np.testing.assert_array_equal(box_of(label, box)[:, columns], pipeline[f"{case}/crop_label"])
    cut = normalised(torch.from_numpy(box_of(image, box)[None, :, columns].copy()), *SCALE)[0]
    np.testing.assert_allclose(cut, pipeline[f"{case}/crop_normalised_chw"], rtol=0, atol=2e-6)


def test_the_rule_of_the_top_class(pipeline: Arrays) -> None:
    for index, drawn in enumerate(pipeline["rule/crops_drawn"].tolist()):
        label = pipeline[f"rule/label{index}"]
        generator: Any = Scripted([0] * 100)
        draw_source_crop(generator, label, label.shape, 0.75, None)
        assert generator.drawn == 2 * drawn
        assert is_mixed(pixels_by_class(label), 0.75) == (drawn == 1)


def pixel_table(stats: list[dict[str, Any]]) -> np.ndarray:
    """[N, 20] from the reference's counts per file."""
    return np.array([[int(entry.get(str(train_id), 0)) for train_id in range(19)] + [0] for entry in stats])


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_class_probabilities(rare: dict[str, Any], temperature: float) -> None:
    for case in rare["cases"]:
        pixels = pixel_table(case["sample_class_stats"])
        ours = RareClasses(pixels, RareClassSampling(temperature=temperature, min_pixels=0))
        for train_id, frequency in case["frequency"].items():
            assert ours.frequency[int(train_id)] == pytest.approx(frequency, rel=1e-5)
        theirs = case[f"temperature_{temperature}"]
        expected = dict(zip(theirs["classes"], theirs["probabilities"], strict=True))
        assert dict(zip(ours.classes.tolist(), ours.probabilities, strict=True)) == pytest.approx(expected, rel=2e-4)


def test_images_qualify_with_strictly_more_pixels(rare: dict[str, Any]) -> None:
    case = rare["candidate_files_for_class_7_min_pixels_3000"]
    pixels = np.zeros((len(case["file_pixels"]), 20), dtype=np.int64)
    pixels[:, 7] = case["file_pixels"]
    accepted = RareClasses(pixels, RareClassSampling(min_pixels=3000)).images[7]
    assert [f"{index}_labelTrainIds.png" for index in accepted] == case["accepted"]


def test_how_many_windows_are_drawn_for_the_wanted_class(rare: dict[str, Any]) -> None:
    """Windows are laid side by side: window i holds the recorded number of pixels of the class."""
    for case in rare["recrop_rule_min_pixels_3000_ratio_0_5"]:
        counts = (case["class_pixels_of_successive_crops"] + [0] * 11)[:11]
        label = np.zeros((100, 100 * len(counts)), dtype=np.uint8)
        for index, count in enumerate(counts):
            window = label[:, 100 * index : 100 * (index + 1)]
            window[np.unravel_index(np.arange(count), window.shape)] = 7
        corners: Any = Scripted([corner for index in range(11) for corner in (0, 100 * index)])
        crop = draw_source_crop(corners, label, (100, 100), 1.0, Wanted(7, 3000 * 0.5))
        assert crop == Crop(Box(0, 100 * case["crop_used_index"], 100, 100), False)
        assert corners.drawn == 2 * case["crops_drawn"]
        assert (box_of(label, crop.box) == 7).sum() == case["class_pixels_used"]
