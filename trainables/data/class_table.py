"""A table of one's own classes: which id or colour of a label means which class, by name.

    id,class        colour,class        name,r,g,b            {"0": "road",
    0,road          #804080,road        road,128,64,128        "1": "car",
    1,car           #00008e,car         car,0,0,142            "7": "ignore"}
    7,ignore        0 0 0,ignore        void,0,0,0

A CSV file names its columns in the first line; a JSON file is one object, whose keys are ids or colours. Several ids
may mean one class. Classes are numbered in the order in which the table names them first, or in that of a given list.
`ignore`, `void` and an empty name are no class: nothing is trained or evaluated there, as at the id 255.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mfm_tune.fields import OneLine
from trainables.command_line import reason
from trainables.data.labels import UNKNOWN, TrainIds, UnknownColours, UnknownIds, first_place
from trainables.data.readers import read_colours, read_ids
from trainables.geometry import IGNORE, MOST_CLASSES

COLUMNS = "id,class or colour,class or class,r,g,b"
NO_CLASS = ("", "ignore", "void")
HEXADECIMAL = re.compile(r"#([0-9a-fA-F]{6})")
LARGEST_ID = 65535
LEAST_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: where it is (`classes.csv, line 3`), an id or a colour as written, and a class's name."""

    place: str
    code: str
    name: str


@dataclass(frozen=True, eq=False)
class ClassTable:
    """What labels are decoded by.

    Args:
        classes: Names, in the order of their ids.
        codes: Id or colour (0xRRGGBB) in a label file -> class id, or 255.
        coloured: Whether the codes are colours.
        places: Class -> where the table names it first.
    """

    classes: tuple[str, ...]
    codes: Mapping[int, int]
    coloured: bool
    places: Mapping[str, str]
    table: TrainIds = field(init=False)

    def __post_init__(self) -> None:
        table = np.full(1 << 24 if self.coloured else LARGEST_ID + 1, UNKNOWN, dtype=np.uint8)
        table[list(self.codes)] = list(self.codes.values())
        object.__setattr__(self, "table", table)

    @property
    def digest(self) -> str:
        """Equal tables decode equally."""
        content = [self.classes, self.coloured, sorted(self.codes.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def decode(self, path: Path) -> TrainIds:
        """Class ids [H, W] of a label file.

        Raises:
            UnknownIds: It holds an id or a colour that the table does not list.
            ValueError: It is of another kind than the table, or compressed with loss.
        """
        with Image.open(path) as image:
            mode, kind = image.mode, image.format
        if kind == "JPEG":
            raise ValueError("JPEG changes the values of labels, so save them as PNG")
        if not self.coloured and mode in ("RGB", "RGBA"):
            raise ValueError("a colour image, but the table of classes lists ids, so list colours instead")
        codes = self._codes(path)
        decoded: TrainIds = self.table[codes]
        strange = decoded == UNKNOWN
        if strange.any():
            error = UnknownColours if self.coloured else UnknownIds
            raise error(np.unique(codes[strange]).tolist(), first_place(strange))
        return decoded

    def _codes(self, path: Path) -> np.ndarray:
        if not self.coloured:
            return read_ids(path)
        rgb = read_colours(path).astype(np.int32)
        return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def read_class_table(path: Path, order: tuple[str, ...] | None = None, ordered_by: str = "--class-list") -> ClassTable:
    """Read a table of classes.

    Args:
        path: A CSV or a JSON file.
        order: The classes that a store is to have, of which the table names some; None is those of the table.
        ordered_by: What has this order, for the message.

    Raises:
        ValueError: The file is missing, or something in it is; the message names the line and what is allowed.
    """
    rows = list(_json_rows(path) if path.suffix == ".json" else _csv_rows(path))
    coloured = _are_colours(path, rows)
    names = list(dict.fromkeys(row.name for row in rows if not _is_no_class(row.name)))
    classes = tuple(names) if order is None else order
    codes: dict[int, int] = {}
    lines: dict[int, str] = {}
    places: dict[str, str] = {}
    for row in rows:
        code = _code(row, coloured)
        if code in codes:
            raise ValueError(f"{row.place}: {row.code} must be listed once, but is in {lines[code]} too.")
        if not OneLine().fits(row.name):
            raise ValueError(f"{row.place}: the name of a class must {OneLine.wanted}, got {row.name!r}.")
        if not _is_no_class(row.name) and row.name not in classes:
            raise ValueError(f"{row.place}: {row.name!r} must be one of {ordered_by}: {', '.join(classes)}.")
        codes[code] = IGNORE if _is_no_class(row.name) else classes.index(row.name)
        lines[code] = row.place
        places.setdefault(row.name, row.place)
    if not LEAST_CLASSES <= len(names) <= MOST_CLASSES:
        raise ValueError(f"{path} must name {LEAST_CLASSES} to {MOST_CLASSES} classes, got {len(names)}.")
    if not coloured:
        codes.setdefault(IGNORE, IGNORE)
    return ClassTable(classes, codes, coloured, places)


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} must be a CSV file with the columns {COLUMNS}, but cannot be read: {reason(error)}."
        ) from None
    first = text.split("\n", 1)[0]
    separator = next((sign for sign in (",", ";", "\t") if sign in first), ",")
    table = csv.reader(text.splitlines(), delimiter=separator)
    header = [cell.strip().lower().replace("color", "colour") for cell in next(table, [])]
    name = next((header.index(word) for word in ("class", "name") if word in header), None)
    code = _code_columns(header)
    if name is None or not code:
        raise ValueError(f"{path}, line 1 must name the columns {COLUMNS}, got {first.strip()!r}.")
    for cells in table:
        place = f"{path}, line {table.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f"{place} must have {len(header)} cells as line 1 has, got {len(cells)}.")
        yield Row(place, " ".join(cells[column].strip() for column in code), cells[name].strip())


def _code_columns(header: list[str]) -> list[int]:
    for words in (("id",), ("colour",), ("r", "g", "b"), ("red", "green", "blue")):
        if all(word in header for word in words):
            return [header.index(word) for word in words]
    return []


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be a JSON object of ids or colours, but cannot be read: {reason(error)}."
        ) from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise ValueError(f"{path} must be one JSON object whose keys are ids or colours, and whose values are names.")
    for code, name in content.items():
        yield Row(f"{path}, {code!r}", code.strip(), name.strip())


def _is_no_class(name: str) -> bool:
    return name.lower() in NO_CLASS


def _are_colours(path: Path, rows: list[Row]) -> bool:
    kinds = {_looks_like_a_colour(row.code): row.place for row in rows}
    if len(kinds) > 1:
        raise ValueError(f"{path} must list ids or colours, got a colour in {kinds[True]} and an id in {kinds[False]}.")
    return True in kinds


def _looks_like_a_colour(code: str) -> bool:
    return code.startswith("#") or len(re.findall(r"\d+", code)) == 3


def _code(row: Row, coloured: bool) -> int:
    """The number of an id or a colour.

    Raises:
        ValueError: It is neither.
    """
    if not coloured:
        if not re.fullmatch(r"[0-9]{1,5}", row.code) or int(row.code) > LARGEST_ID:
            raise ValueError(f"{row.place}: id must be an integer from 0 to {LARGEST_ID}, got {row.code!r}.")
        return int(row.code)
    if found := HEXADECIMAL.fullmatch(row.code):
        return int(found[1], 16)
    channels = [int(digits) for digits in re.findall(r"\d+", row.code)]
    if row.code.startswith("#") or max(channels) > 255:
        raise ValueError(f"{row.place}: colour must be #rrggbb or three numbers from 0 to 255, got {row.code!r}.")
    return channels[0] << 16 | channels[1] << 8 | channels[2]
