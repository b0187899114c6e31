"""Pairs of overlapping crops: what they share, how often, and their colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as reference

from trainables.adaptation import view_pairs
from trainables.adaptation.view_pairs import (
    Pair,
    intersection_over_union,
    jittered_colours,
    place_second,
    recoloured,
    resized_size,
    view_pair,
)
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.randomness import Recorded, Streams

FEW = settings(max_examples=25)
SIDES = st.tuples(st.integers(24, 60), st.integers(24, 60))


@FEW
@given(seed=st.integers(0, 2**31), size=SIDES, cell=st.sampled_from([8, 16]), step=st.integers(0, 9))
def test_the_overlap_of_both_crops_shows_the_same_pixels(
    seed: int, size: tuple[int, int], cell: int, step: int
) -> None:
    """Where colours are left alone; it begins and ends at whole cells, and covers a tenth of what both show."""
    image = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 3, *size)))
    pair = Pair((16, 16), (40.0, 90.0), cell)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_pairs, "recoloured", lambda image, *rest: image)
        views = view_pair(image, pair, Streams(seed), step, 0, IMAGENET_MEAN, IMAGENET_STD)
    upright = [view.image.flip(-1) if view.flipped else view.image for view in views]
    assert {tuple(view.image.shape) for view in views} == {(1, 3, 16, 16)}
    first, second = (view.overlap.crop(one) for view, one in zip(views, upright, strict=True))
    torch.testing.assert_close(first, second)
    box = views[0].overlap
    assert not any(side % cell for side in (box.top, box.left, 16 - box.height, 16 - box.width))
    assert box.height * box.width >= 0.1 * (2 * 16 * 16 - box.height * box.width)


def test_the_second_crop_is_the_first_where_no_try_overlaps_enough() -> None:
    """And a try that is moved to the left of the image comes back by a cell."""
    assert place_second((0, 0), [(700, 700)] * 50, (720, 720), 8) == (0, 0)
    assert place_second((5, 5), [(2, 15)], (720, 720), 8) == (5, 13)


@FEW
@given(first=st.tuples(*[st.integers(0, 30)] * 2), second=st.tuples(*[st.integers(0, 30)] * 2), window=SIDES)
def test_intersection_over_union_counts_pixels(
    first: tuple[int, int], second: tuple[int, int], window: tuple[int, int]
) -> None:
    canvas = np.zeros((2, 100, 100), dtype=bool)
    for index, (top, left) in enumerate((first, second)):
        canvas[index, top : top + window[0], left : left + window[1]] = True
    wanted = (canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum()
    assert intersection_over_union(first, second, window) == pytest.approx(wanted)


def test_a_crop_fits_however_little_the_image_is_resized_to() -> None:
    """The longer side is what was drawn, unless a crop needs more."""
    assert resized_size((1024, 2048), 1638, (720, 720)) == (819, 1638)
    assert resized_size((640, 1280), 1300, (720, 720)) == (720, 1440)
    assert resized_size((30, 30), 10, (16, 24)) == (24, 24)


def test_half_a_pixel_is_rounded_up_as_published() -> None:
    """720 x 960 at 42 pixels has 31.5 rows, whatever 42 / 960 is in floating point."""
    assert resized_size((720, 960), 42, (8, 8)) == (32, 42)
    assert all(
        resized_size((720, 960), side, (8, 8)) == (int(1.0 * side * 720 / 960 + 0.5), side) for side in range(40, 400)
    )


def test_pairs_of_the_published_size_need_three_tries_and_overlap_by_a_third() -> None:
    """As was counted on the published loader: mean IoU 0.35; half of the crops are mirrored."""
    image, ious, flips = torch.zeros(1, 3, 64, 128), [], []
    pair = Pair((45, 45), (102.4, 256.0), 1)  # a sixteenth of the published sizes
    for item in range(300):
        views = view_pair(image, pair, Streams(0), 0, item, IMAGENET_MEAN, IMAGENET_STD)
        box = views[0].overlap
        ious.append(box.height * box.width / (2 * 45 * 45 - box.height * box.width))
        flips += [view.flipped for view in views]
    assert np.mean(ious) == pytest.approx(0.35, abs=0.03)
    assert np.mean(flips) == pytest.approx(0.5, abs=0.06)


@FEW
@given(seed=st.integers(0, 2**31), factors=st.tuples(*[st.floats(0.6, 1.4)] * 3, st.floats(-0.1, 0.1)))
def test_colours_are_torchvisions(seed: int, factors: tuple[float, float, float, float]) -> None:
    """Brightness, contrast, saturation and hue, in any order."""
    generator = np.random.default_rng(seed)
    image = torch.from_numpy(generator.uniform(size=(1, 3, 6, 7))).double()
    order = generator.permutation(4).tolist()
    wanted = image
    for operation in order:
        change = (
            reference.adjust_brightness,
            reference.adjust_contrast,
            reference.adjust_saturation,
            reference.adjust_hue,
        )[operation]
        wanted = change(wanted, factors[operation])
    torch.testing.assert_close(jittered_colours(image, list(factors), order), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(24, 32), (48, 720)])
def test_a_crop_of_any_size_is_blurred_by_the_published_kernel(size: tuple[int, int]) -> None:
    """5 x 5 pixels, as OpenCV weighs them, where colours stay as they are."""
    image = torch.from_numpy(np.random.default_rng(0).uniform(size=(1, 3, *size)))
    streams = Recorded(0, {("view gates", 0, 0): torch.tensor([0.0, 1.0, 1.0])})
    wanted = reference.gaussian_blur(image, [5, 5], [1.1, 1.1])
    torch.testing.assert_close(recoloured(image, streams, 0, 0), wanted, rtol=0, atol=1e-6)
