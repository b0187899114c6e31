"""Files of a trial's run: pictures under names that a replay repeats, the confusion matrix as a table."""

from __future__ import annotations

import io
import json
import math
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = uuid.UUID("6f6b5e0c-8f0b-5d0e-9a57-6d666d74756e")  # a namespace of our own for uuid5
MONTAGE = "montage"
LEGEND = "palette"  # which no montage holds
MONTAGE_SIDE = 1024  # pixels, about
THUMBNAIL = 256  # pixels on the longer side
UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises for a file that is no picture, or half of one
Matrix = Sequence[Sequence[int]]


def picture_files(trial_key: str, report: Mapping[str, Any], folder: Path) -> dict[str, bytes]:
    """The pictures of a report as MLflow's image grid finds them: name in the artefacts -> content.

    A picture that is no longer there, or is none, is left out.
    """
    files, contents = {}, {}
    for name, path in report.get("pictures", {}).items():
        with suppress(*UNREADABLE):
            content = (folder / path).read_bytes()
            contents[name] = content, _thumbnail(content)
    if has_montage(contents):
        whole = montage([content for name, (content, _) in contents.items() if name != LEGEND])
        contents[MONTAGE] = whole, _thumbnail(whole, MONTAGE_SIDE)
    for name, (content, small) in contents.items():
        stem = picture_name(trial_key, name, report["step"], report["time"])
        files[f"{stem}.png"] = content
        files[f"{stem}+compressed.webp"] = small
    return files


def picture_name(trial_key: str, name: str, step: int, time: int) -> str:
    """`images/<name>+step+<step>+timestamp+<ms>+<uuid>`, the same whenever it is asked for."""
    key = re.sub(r"[^A-Za-z0-9_\-./ ]", "_", name).replace("/", "~")
    return f"images/{key}+step+{step}+timestamp+{time}+{uuid.uuid5(NAMES, f'{trial_key}/{name}/{step}')}"


def has_montage(names: Collection[str]) -> bool:
    """Whether pictures of these names are shown together as well: where there are several."""
    return MONTAGE not in names and len(set(names) - {LEGEND}) > 1


def montage(contents: Sequence[bytes]) -> bytes:
    """All pictures in one that is about square, row by row in their order, small ones enlarged pixel by pixel."""
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    width, height = (max(sides) for sides in zip(*(image.size for image in images), strict=True))
    columns = max(1, min(len(images), round(math.sqrt(len(images) * height / width))))
    rows = math.ceil(len(images) / columns)
    factor = min(MONTAGE_SIDE / (columns * width), MONTAGE_SIDE / (rows * height))
    width, height = (max(1, int(side * factor)) for side in (width, height))
    whole = Image.new("RGB", (columns * width, rows * height), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        way = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
        whole.paste(image.resize((width, height), way), (column * width, row * height))
    buffer = io.BytesIO()
    whole.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _thumbnail(content: bytes, side: int = THUMBNAIL) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB")
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, format="webp", quality=80)
    return buffer.getvalue()


def confusion_files(confusion: Mapping[str, Matrix], classes: Sequence[str]) -> dict[str, bytes]:
    """A table for each network's confusion matrix: name in the artefacts -> content."""
    files = {}
    for network, matrix in confusion.items():
        name = re.sub(r"[^A-Za-z0-9_\-]", "_", network)
        names = tuple(classes) if len(classes) == len(matrix) else tuple(map(str, range(len(matrix))))
        files[table_path(name)] = confusion_table(matrix, names)
    return files


def table_path(network: str) -> str:
    """Where a network's confusion matrix lies as a table."""
    return f"confusion/{network}.json"


def confusion_table(matrix: Matrix, classes: Sequence[str]) -> bytes:
    """Rows are labels, columns predictions, entries pixels, in the form of MLflow's tables."""
    rows = [[name, *row] for name, row in zip(classes, matrix, strict=True)]
    return json.dumps({"columns": ["label \\ prediction", *classes], "data": rows}).encode()
