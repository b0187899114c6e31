"""What a pass draws is a function of (seed, name, step), and of nothing that was drawn before it."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.tasks.training import SMALL_HRDA
from trainables.geometry import Box
from trainables.randomness import Recorded, Streams
from trainables.step_data import Pass, first_step

IMAGE = torch.zeros(1, 3, 64, 64)


def masks(one: Pass, item: int = 0) -> torch.Tensor:
    """What dropout would draw in the pass."""
    one.seed_dropout(item)
    return torch.rand(4)


def test_the_dropout_of_a_pass_depends_on_seed_name_step_and_item_alone() -> None:
    """Whatever was drawn before; and each of the four changes it."""
    first = masks(Pass("source", 3, Streams(0)))
    torch.rand(1000)
    assert torch.equal(first, masks(Pass("source", 3, Streams(0))))
    others = (
        masks(Pass("mixed", 3, Streams(0))),
        masks(Pass("source", 4, Streams(0))),
        masks(Pass("source", 3, Streams(1))),
        masks(Pass("source", 3, Streams(0)), item=1),
    )
    assert not any(torch.equal(first, other) for other in others)


def test_beginning_a_pass_seeds_dropout_and_draws_the_detail_crop_of_its_name() -> None:
    """Rows and columns come from the stream of the pass, in units of 8 pixels."""
    network = SMALL_HRDA.build(12)
    drawn = {("detail crop, mixed pass", 3, item): torch.tensor(place) for item, place in enumerate((1, 2))}
    one = Pass("mixed", 3, Recorded(0, drawn))
    assert one.begin(network, IMAGE) == one.box(network, IMAGE) == Box(8, 16, 32, 32)
    following = torch.rand(4)
    assert torch.equal(following, masks(one))


@pytest.mark.parametrize("name", ["source", "mixed"])
def test_networks_without_a_detail_crop_have_no_box(name: str) -> None:
    """They encode the whole image alone."""
    assert Pass(name, 0, Streams(0)).begin(SMALL_HRDA.base.build(12), IMAGE) is None


@pytest.mark.parametrize(
    ("share", "steps", "first"),
    [(0.0, 10, 0), (1.0, 10, 10), (0.075, 540, 41), (1 / 6, 1600, 267), (0.15, 40_000, 6000), (0.1, 30, 3)],
)
def test_what_begins_after_a_share_of_the_run_begins_when_it_has_passed(share: float, steps: int, first: int) -> None:
    """Contrast and mixers by one rule; 0.1 x 30 is a little more than 3 in floating point."""
    assert first_step(share, steps) == first
