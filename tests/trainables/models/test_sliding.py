"""Sliding windows cover every pixel, and their mean is what it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.models.sliding import slide, windows


@given(size=st.tuples(st.integers(1, 60), st.integers(1, 60)), side=st.integers(1, 40), part=st.integers(1, 4))
def test_windows_cover_every_pixel_and_stay_inside(size: tuple[int, int], side: int, part: int) -> None:
    """For any size, window and stride; no window comes twice, all have one size."""
    boxes = windows(size, (side, side), (max(1, side // part),) * 2)
    covered = torch.zeros(size)
    for box in boxes:
        assert box.top + box.height <= size[0]
        assert box.left + box.width <= size[1]
        box.crop(covered).add_(1)
    assert bool((covered > 0).all())
    assert len(set(boxes)) == len(boxes)
    assert {(box.height, box.width) for box in boxes} == {(min(side, size[0]), min(side, size[1]))}


def test_nine_detail_windows_cover_a_training_crop() -> None:
    """512 windows at half overlap are 9 over 1024 x 1024; 1024 windows are 3 over Cityscapes' 1024 x 2048."""
    assert len(windows((1024, 1024), (512, 512), (256, 256))) == 9
    boxes = windows((1024, 2048), (1024, 1024), (512, 512))
    assert [(box.top, box.left) for box in boxes] == [(0, 0), (0, 512), (0, 1024)]


@given(size=st.tuples(st.integers(4, 40), st.integers(4, 40)), side=st.integers(2, 30))
def test_a_pointwise_prediction_slides_to_itself(size: tuple[int, int], side: int) -> None:
    """Where a pixel's logits do not depend on its window, their mean over windows is the prediction itself."""
    image = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
    logits = slide(lambda window: 2 * window + 1, image, (side, side), (side // 2, side // 2))
    torch.testing.assert_close(logits, 2 * image + 1)


def test_overlaps_are_averaged() -> None:
    """Three windows of width 4 at stride 2 over 8 columns, numbered 1, 2, 3: their means by hand."""
    numbers = iter([1.0, 2.0, 3.0])
    logits = slide(lambda window: torch.full_like(window, next(numbers)), torch.zeros(1, 1, 4, 8), (4, 4), (2, 2))
    assert logits[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3]


def test_a_stride_beyond_the_window_is_refused() -> None:
    """Pixels between windows would have no logits."""
    with pytest.raises(ValueError, match="stride from 1 to its own side, got stride 5 with side 4"):
        windows((8, 8), (4, 4), (5, 5))
