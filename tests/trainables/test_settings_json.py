"""Settings of one's own, of whatever kind of field, are read as they were written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import pytest

from mfm_tune.fields import AtLeast1, Makes, Settings
from trainables.settings_json import UnknownClass, imported_classes, plain, read_settings


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = 2


class Shape(Settings):
    """What makes a shape."""

    def make(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Circle(Shape):
    """One shape."""

    radius: float = 1.0

    def make(self) -> str:
        return "circle"


AnyShape = Annotated[Shape, Makes("a shape", "make", Shape)]


@dataclass(frozen=True, kw_only=True)
class Drawing(Settings):
    """A field of every kind that a network's settings may have."""

    shape: AnyShape
    shapes: tuple[AnyShape, ...] = (Circle(),)
    colour: Colour = Colour.RED
    other: Colour | None = None
    palette: tuple[Colour, ...] = ()
    pair: tuple[int, Colour] | None = None
    sizes: tuple[AtLeast1, AtLeast1] = (1, 2)
    name: str | None = "red"
    wide: bool = True


@pytest.mark.parametrize(
    "drawing",
    [
        Drawing(shape=Circle(2.0)),
        Drawing(shape=Circle(), shapes=(Circle(1.0), Circle(3.0)), other=Colour.BLUE, name=None),
        Drawing(shape=Circle(), palette=(Colour.BLUE, Colour.RED), pair=(2, Colour.BLUE), colour=Colour.BLUE),
    ],
)
def test_settings_come_back_as_they_were(drawing: Drawing) -> None:
    """Enums alone, optional and in tuples, and settings within settings; a text that looks like an enum's stays one."""
    assert read_settings(json.loads(json.dumps(plain(drawing))), Drawing) == drawing


def test_a_class_with_slots_is_known_once() -> None:
    """It is made twice, and the class without slots would be refused by fields that want the other."""
    found = [kind for kind in imported_classes(Shape) if kind.__name__ == "Circle" and kind.__module__ == __name__]
    assert found == [Circle]


def test_a_class_of_ones_own_is_no_class_of_ours() -> None:
    """A class of `trainables` is known by its name alone; one that has the same name elsewhere is not taken for it."""
    with pytest.raises(ValueError, match=r"^'Drawing' must be settings of this version$"):
        read_settings({"class": "Drawing"}, int)
    with pytest.raises(UnknownClass, match=r"^it was made with MiT of my_nets, which is not loaded; give its file"):
        read_settings({"class": "MiT", "module": "my_nets"}, Settings)
