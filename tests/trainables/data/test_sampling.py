"""Images are drawn by rare class with the stated probabilities, and crops show the class and a mixture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.trainables.data import native_files as native
from trainables.config import Margins, RareClassSampling
from trainables.data.crops import Crop, box_of, draw_crop, draw_source_crop, is_mixed, padded, valid_box
from trainables.data.labels import pixels_by_class
from trainables.data.packing.resize import resize_label
from trainables.data.sampling import Draw, RareClasses, Uniform, Wanted
from trainables.geometry import Box

DRAWS = 20_000


def pixel_counts() -> np.ndarray:
    """200 images whose class shares run over four decades; class 9 never has enough pixels, 14 and 16 none at all."""
    generator = np.random.default_rng(0)
    counts = (10 ** generator.uniform(2, 6, 20) * generator.uniform(0, 1, (200, 20)) ** 4).astype(np.int64)
    counts[:, 9] = counts[:, 9].clip(max=3000)
    counts[:, [14, 16]] = 0
    return counts


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_classes_follow_the_softmax_of_their_rarity(temperature: float) -> None:
    counts = pixel_counts()
    sampler = RareClasses(counts, RareClassSampling(temperature=temperature))
    frequency = counts[:, :19].sum(axis=0) / counts[:, :19].sum()
    possible = [c for c in range(19) if (counts[:, c] > 3000).any()]
    weights = np.exp((1 - frequency[possible]) / temperature)
    generator = np.random.default_rng(1)
    drawn = [sampler.draw(generator).wanted.train_id for _ in range(DRAWS)]
    observed = np.array([drawn.count(train_id) for train_id in possible])
    assert observed.sum() == DRAWS
    assert not {9, 14, 16} & set(possible)
    expected = DRAWS * weights / weights.sum()
    often = expected > 5  # the test is for cells that are hit; the rest is one cell
    pooled = [np.append(cells[often], cells[~often].sum()) for cells in (observed, expected)]
    keep = pooled[1] > 0
    assert chisquare(pooled[0][keep], pooled[1][keep]).pvalue > 1e-3


def test_images_of_a_class_are_drawn_alike_and_show_more_than_the_minimum() -> None:
    counts = pixel_counts()
    sampler = RareClasses(counts, RareClassSampling(temperature=10))
    generator = np.random.default_rng(2)
    draws = [sampler.draw(generator) for _ in range(DRAWS)]
    classes = [train_id for train_id in range(19) if (counts[:, train_id] > 3000).sum() > 20]
    assert len(classes) > 2
    for train_id in classes:
        enough = np.flatnonzero(counts[:, train_id] > 3000)
        drawn = [draw.index for draw in draws if draw.wanted.train_id == train_id]
        observed = np.array([drawn.count(index) for index in enough])
        assert observed.sum() == len(drawn)
        assert chisquare(observed).pvalue > 1e-3


def test_a_crop_ratio_of_0_asks_nothing_of_crops() -> None:
    """As published: then the first crop is used, whether it shows the class or not."""
    counts = pixel_counts()
    asked, free = (RareClasses(counts, RareClassSampling(min_crop_ratio=ratio)) for ratio in (0.5, 0.0))
    one, other = (sampler.draw(np.random.default_rng(4)) for sampler in (asked, free))
    assert one.wanted is not None
    assert one.wanted.more_than == 1500
    assert other == Draw(one.index)


def test_uniform_images_are_uniform() -> None:
    generator = np.random.default_rng(3)
    drawn = np.bincount([Uniform(37).draw(generator).index for _ in range(DRAWS)], minlength=37)
    assert chisquare(drawn).pvalue > 1e-3


def test_a_source_without_enough_of_any_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_pixels must be below .* got 3000, but the largest count is 200"):
        RareClasses(np.full((4, 20), 200), RareClassSampling())


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), size=st.tuples(st.integers(8, 60), st.integers(8, 60)))
def test_a_crop_lies_in_the_image_and_is_as_large_as_it_can_be(seed: int, size: tuple[int, int]) -> None:
    label = native.blocks(*size, [0, 1, 12, 255], seed, cell=3)
    crop = draw_source_crop(np.random.default_rng(seed), label, (24, 32), 0.75, Wanted(12, 20))
    assert 0 <= crop.box.top <= size[0] - crop.box.height
    assert 0 <= crop.box.left <= size[1] - crop.box.width
    assert (crop.box.height, crop.box.width) == (min(24, size[0]), min(32, size[1]))


def test_crops_show_the_wanted_class_in_the_required_number_of_pixels() -> None:
    """In images where one window in four does: a miss needs eleven bad draws, 4 % of the images."""
    held, mixed = [], []
    for seed in range(200):
        label = native.blocks(70, 128, [0, 1, 2, 8], seed, cell=10)
        label[20:36, 90:106] = 17
        crop = draw_source_crop(np.random.default_rng(seed), label, (36, 48), 0.75, Wanted(17, 100))
        counts = pixels_by_class(box_of(label, crop.box))
        held.append(counts[17] > 100)
        mixed.append(is_mixed(counts, 0.75))
    assert np.mean(held) > 0.93
    assert np.mean(mixed) > 0.97


def test_crop_corners_and_flips_are_uniform() -> None:
    crops = [draw_crop(np.random.default_rng(seed), (20, 30), (16, 20)) for seed in range(4000)]
    corners = np.bincount([crop.box.top * 11 + crop.box.left for crop in crops], minlength=55)
    assert chisquare(corners).pvalue > 1e-3
    assert abs(np.mean([crop.flip for crop in crops]) - 0.5) < 0.03


def test_an_image_smaller_than_the_crop_is_padded_with_ignored_pixels() -> None:
    label = np.zeros((3, 5), dtype=np.uint8)
    crop = draw_crop(np.random.default_rng(0), (3, 5), (4, 8))
    filled = padded(box_of(label, crop.box), (4, 8))
    assert (filled[:3, :5] == 0).all()
    assert (filled == 255).sum() == 4 * 8 - 15


@settings(max_examples=100)
@given(data=st.data())
def test_the_valid_box_is_where_a_mask_of_the_margins_would_be_after_resize_crop_and_flip(data: st.DataObject) -> None:
    native_size = (data.draw(st.integers(8, 50)), data.draw(st.integers(8, 50)))
    size = (data.draw(st.integers(8, 50)), data.draw(st.integers(8, 50)))
    names = ("top", "bottom", "left", "right")
    margins = Margins(**{name: data.draw(st.integers(0, 3)) for name in names}, of_size=native_size)
    mask = np.zeros(native_size, dtype=np.uint8)
    mask[margins.top : native_size[0] - margins.bottom, margins.left : native_size[1] - margins.right] = 1
    height, width = data.draw(st.integers(1, size[0])), data.draw(st.integers(1, size[1]))
    box = Box(data.draw(st.integers(0, size[0] - height)), data.draw(st.integers(0, size[1] - width)), height, width)
    crop = Crop(box, data.draw(st.booleans()))
    expected = box_of(resize_label(mask, size), box)[:, :: -1 if crop.flip else 1]
    valid = valid_box(margins, native_size, size, crop)
    drawn = np.zeros((height, width), dtype=np.uint8)
    drawn[valid.top : valid.top + valid.height, valid.left : valid.left + valid.width] = 1
    np.testing.assert_array_equal(drawn, expected)
