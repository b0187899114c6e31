"""Files of a trial's run: pictures under names that a replay repeats, the confusion matrix as table and picture."""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image, ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

NAMES = uuid.UUID("6f6b5e0c-8f0b-5d0e-9a57-6d666d74756e")  # a namespace of our own for uuid5
THUMBNAIL = 256  # pixels on the longer side
UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises for a file that is no picture, or half of one
CELL = 34  # pixels of one entry of a confusion matrix
Matrix = Sequence[Sequence[int]]


def picture_files(trial_key: str, report: Mapping[str, Any], folder: Path) -> dict[str, bytes]:
    """The pictures of a report as MLflow's image grid finds them: name in the artefacts -> content.

    A picture that is no longer there, or is none, is left out.
    """
    files = {}
    for name, path in report.get("pictures", {}).items():
        try:
            content = (folder / path).read_bytes()
            small = _thumbnail(content)
        except UNREADABLE:
            continue
        stem = picture_name(trial_key, name, report["step"], report["time"])
        files[f"{stem}.png"] = content
        files[f"{stem}+compressed.webp"] = small
    return files


def picture_name(trial_key: str, name: str, step: int, time: int) -> str:
    """`images/<name>+step+<step>+timestamp+<ms>+<uuid>`, the same whenever it is asked for."""
    key = re.sub(r"[^A-Za-z0-9_\-./ ]", "_", name).replace("/", "~")
    return f"images/{key}+step+{step}+timestamp+{time}+{uuid.uuid5(NAMES, f'{trial_key}/{name}/{step}')}"


def _thumbnail(content: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        small.save(buffer, format="webp", quality=80)
    return buffer.getvalue()


def confusion_files(confusion: Mapping[str, Matrix], classes: Sequence[str]) -> dict[str, bytes]:
    """A table and a picture for each network's confusion matrix: name in the artefacts -> content."""
    files = {}
    for network, matrix in confusion.items():
        name = re.sub(r"[^A-Za-z0-9_\-]", "_", network)
        names = tuple(classes) if len(classes) == len(matrix) else tuple(map(str, range(len(matrix))))
        files[table_path(name)] = confusion_table(matrix, names)
        files[f"confusion/{name}.png"] = confusion_picture(matrix, names)
    return files


def table_path(network: str) -> str:
    """Where a network's confusion matrix lies as a table."""
    return f"confusion/{network}.json"


def confusion_table(matrix: Matrix, classes: Sequence[str]) -> bytes:
    """Rows are labels, columns predictions, entries pixels, in the form of MLflow's tables."""
    rows = [[name, *row] for name, row in zip(classes, matrix, strict=True)]
    return json.dumps({"columns": ["label \\ prediction", *classes], "data": rows}).encode()


def confusion_picture(matrix: Matrix, classes: Sequence[str]) -> bytes:
    """A PNG: each row as shares of its label's pixels in percent, darker is more."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    left = 12 + max((int(font.getlength(name)) for name in classes), default=0)
    size = CELL * len(classes)
    image = Image.new("RGB", (left + size + 8, left + size + 8), "white")
    draw = ImageDraw.Draw(image)
    for row, (name, counts) in enumerate(zip(classes, matrix, strict=True)):
        y = left + row * CELL
        draw.text((left - 6, y + CELL // 2), name, fill="black", font=font, anchor="rm")
        total = sum(counts)
        for column, count in enumerate(counts):
            _entry(draw, left + column * CELL, y, count / total if total else None, font)
    for column, name in enumerate(classes):
        _upright(image, name, left + column * CELL, left, font)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _entry(draw: ImageDraw.ImageDraw, x: int, y: int, share: float | None, font: Font) -> None:
    """One entry; a label without pixels has none."""
    box = (x, y, x + CELL - 1, y + CELL - 1)
    if share is None:
        draw.rectangle(box, fill=(240, 240, 240))
        return
    shade = tuple(round(255 + (dark - 255) * share) for dark in (8, 48, 107))
    draw.rectangle(box, fill=(shade[0], shade[1], shade[2]))
    text = f"{100 * share:.0f}"
    colour = "white" if share > 0.5 else "black"
    draw.text((x + CELL // 2, y + CELL // 2), text, fill=colour, font=font, anchor="mm")


def _upright(image: Image.Image, name: str, x: int, bottom: int, font: Font) -> None:
    """A column's name, from bottom to top."""
    from PIL import Image, ImageDraw

    label = Image.new("RGB", (bottom - 6, CELL), "white")
    ImageDraw.Draw(label).text((0, CELL // 2), name, fill="black", font=font, anchor="lm")
    image.paste(label.rotate(90, expand=True), (x, 0))
