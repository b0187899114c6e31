"""Colours of classes that people without red or green cones can tell apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.colour_vision import SEEN, lab
from trainables.data.palette import COLOURS

LEAST = 19.0  # CIELAB units (CIE 1976); about 2.3 are just noticeable side by side


@pytest.mark.parametrize("seen", SEEN)
def test_any_two_classes_are_told_apart_by_everyone(seen: str) -> None:
    """Black, which is where nothing is known, too. Names of one class share a colour."""
    of_colour = {colour: name for name, colour in COLOURS.items()} | {(0, 0, 0): "unknown"}
    places = lab(np.array(list(of_colour), dtype=float), SEEN[seen])
    apart = {
        (first, second): float(np.linalg.norm(places[a] - places[b]))
        for (a, first), (b, second) in combinations(enumerate(of_colour.values()), 2)
    }
    assert min(apart.values()) >= LEAST, min(apart, key=lambda pair: apart[pair])
