"""Files of a trial's run: pictures under names that a replay repeats, the confusion matrix as a table."""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = uuid.UUID("6f6b5e0c-8f0b-5d0e-9a57-6d666d74756e")  # a namespace of our own for uuid5
THUMBNAIL = 256  # pixels on the longer side
UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises for a file that is no picture, or half of one
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
    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
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
