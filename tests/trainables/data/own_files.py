"""Two small folders of one's own: photographs as JPEG, labels as PNG, and a table of their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.trainables.data import native_files as native

SIZE = (24, 40)
CLASSES = ("lane", "kerb", "house")  # ids 10, 20 and 30; 99 is not to be trained on
IDS = (10, 20, 30, 99)
COLOURS = ((128, 64, 128), (1, 2, 3), (70, 70, 70), (0, 0, 0))
TABLE = "id,class\n10,lane\n20,kerb\n30,house\n99,ignore\n"
COLOUR_TABLE = "class,r,g,b\nlane,128,64,128\nkerb,1,2,3\nhouse,70,70,70\nvoid,0,0,0\n"


def label(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Class numbers 0 to 3 in blocks, all four in every label, [24, 40] or as `size` is."""
    numbers = native.blocks(*size, [0, 1, 2, 3], seed, cell=6)
    numbers[:4, :2] = np.arange(4)[:, None]
    return numbers


def write_folder(
    root: Path, images: int, first: int = 0, *, coloured: bool = False, size: tuple[int, int] = SIZE
) -> None:
    """`images/N.jpg` and `labels/N.png` with ids, or with colours."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(first, first + images):
        numbers = label(number, size)
        Image.fromarray(native.smooth(*size, number)).save(root / "images" / f"{number:03d}.jpg", quality=95)
        codes = np.array(COLOURS if coloured else IDS, dtype=np.uint8)
        native.write(root / "labels" / f"{number:03d}.png", native.png(codes[numbers]))


def write_table(root: Path, text: str = TABLE, name: str = "classes.csv") -> Path:
    """The table of the classes."""
    (root / name).write_text(text, encoding="utf-8")
    return root / name
