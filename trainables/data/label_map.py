"""One's own data: folders of images and labels, described by a label-map file.

    {
      "name": "my-city",
      "splits": {
        "train": {"images": "train/image/image_*.png", "labels": "train/label/segmentation_*.png"},
        "val": {"images": "val/*.jpg", "labels": "val/*.png"}
      },
      "train_ids": {"0": 10, "7": 0, "#80db82": 8},
      "others": 255,
      "scored": "val"
    }

A pattern is relative to the root and has one `*`; what it matches pairs an image with its label. A split without
`labels` is unlabelled. Keys of `train_ids` are ids of one-channel labels, or colours `#rrggbb` of colour labels, never
both. Without `others`, an id or colour that is not listed is a fault. `scored` is the split that is evaluated: `val` by
default, or else `test`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.command_line import reason
from trainables.data.labels import NUM_CLASSES, LabelMap, TrainIds, UnknownColours, first_place
from trainables.data.readers import Found, Reader, by_ids, pair, read_colours
from trainables.data.splits import Split
from trainables.geometry import IGNORE

COLOUR = re.compile(r"#([0-9a-fA-F]{6})")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Patterns:
    """Where the files of a split lie; `labels` is None where it has none."""

    images: str
    labels: str | None


def read_label_map(path: Path) -> Reader:
    """Read a label-map file.

    Raises:
        ValueError: The file is missing, or something in it is; the message names it and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be a JSON file with splits and train_ids, but cannot be read: {reason(error)}."
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold one JSON object with splits and train_ids, got {type(content).__name__}.")
    unknown = sorted(content.keys() - {"name", "splits", "train_ids", "others", "scored"})
    if unknown:
        raise ValueError(f"{path}: {unknown[0]} must be one of name, splits, train_ids, others and scored.")
    name = content.get("name", "folder")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{path}: name must be lower-case letters, digits and dashes, got {name!r}.")
    codes, coloured = _codes(path, content.get("train_ids"))
    patterns = _splits(path, content.get("splits"))
    others = content.get("others")
    if others is not None and not _is_train_id(others):
        raise ValueError(f"{path}: others must be a trainId from 0 to 18, or 255, got {others!r}.")
    return Reader(
        dataset=name,
        splits=tuple(split for split in Split if split in patterns),
        scored=_scored(path, content.get("scored"), patterns),
        file_digest=hashlib.sha256(text.encode()).hexdigest(),
        find=lambda root, split: _find(root, split, patterns[split]),
        train_ids=_by_colours(codes, others) if coloured else _by_ids(codes, others),
    )


def _codes(path: Path, table: Any) -> tuple[dict[int, int], bool]:
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{path}: train_ids must map ids or #rrggbb colours to trainIds, got {table!r}.")
    coloured = {COLOUR.fullmatch(key) is not None for key in table}
    if len(coloured) > 1:
        raise ValueError(f"{path}: the keys of train_ids must all be ids, or all be colours #rrggbb, got both.")
    codes = {}
    for key, train_id in table.items():
        code = _code(key)
        if code is None:
            raise ValueError(
                f"{path}: a key of train_ids must be an id from 0 to 255 or a colour #rrggbb, got {key!r}."
            )
        if not _is_train_id(train_id):
            raise ValueError(f"{path}: train_ids[{key!r}] must be a trainId from 0 to 18, or 255, got {train_id!r}.")
        codes[code] = train_id
    return codes, coloured.pop()


def _code(key: str) -> int | None:
    colour = COLOUR.fullmatch(key)
    if colour:
        return int(colour[1], 16)
    return int(key) if key.isdecimal() and len(key) <= 3 and int(key) <= 255 else None


def _is_train_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (0 <= value < NUM_CLASSES or value == IGNORE)


def _splits(path: Path, table: Any) -> dict[Split, Patterns]:
    names = [split.value for split in Split]
    if not isinstance(table, dict) or not table or not set(table) <= set(names):
        raise ValueError(f"{path}: splits must hold one or more of {', '.join(names)}, got {table!r}.")
    patterns = {}
    for name, entry in table.items():
        entry = entry if isinstance(entry, dict) else {}
        for key, pattern in (("images", entry.get("images", "")), ("labels", entry.get("labels", "*"))):
            fits = isinstance(pattern, str) and pattern.count("*") == 1 and pattern.isprintable()
            if not fits or pattern.startswith("/"):
                raise ValueError(
                    f"{path}: splits.{name}.{key} must be a path with one *, relative to --root, got {pattern!r}."
                )
        patterns[Split(name)] = Patterns(entry["images"], entry.get("labels"))
    return patterns


def _scored(path: Path, name: Any, patterns: Mapping[Split, Patterns]) -> Split | None:
    labelled = [split for split in (Split.VAL, Split.TEST) if split in patterns and patterns[split].labels]
    if name is None:
        return labelled[0] if labelled else None
    if name not in [split.value for split in patterns]:
        raise ValueError(f"{path}: scored must be one of the file's splits, got {name!r}.")
    return Split(name)


def _find(root: Path, split: Split, patterns: Patterns) -> Found:
    """Pair files by what their patterns have at the `*`."""
    labels = None if patterns.labels is None else _by_star(root, patterns.labels)
    return pair(root, split, _by_star(root, patterns.images), labels)


def _by_ids(codes: Mapping[int, int], others: int | None) -> Callable[[Path], TrainIds]:
    if others is None:
        return by_ids(LabelMap(codes, codes))
    return by_ids(LabelMap(dict.fromkeys(range(256), others) | dict(codes), range(256)))


def _by_colours(codes: Mapping[int, int], others: int | None) -> Callable[[Path], TrainIds]:
    def train_ids(label: Path) -> TrainIds:
        rgb = read_colours(label).astype(np.int32)
        packed = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        present, where = np.unique(packed, return_inverse=True)
        unknown = [int(code) for code in present if int(code) not in codes]
        if unknown and others is None:
            raise UnknownColours(unknown, first_place(np.isin(packed, unknown)))
        table = np.array([codes.get(int(code), others) for code in present], dtype=np.uint8)
        return table[where].reshape(packed.shape)

    return train_ids


def _by_star(root: Path, pattern: str) -> dict[str, Path]:
    before, after = pattern.split("*")
    found = {}
    for path in root.glob(pattern):
        name = path.relative_to(root).as_posix()
        found[name[len(before) : len(name) - len(after)]] = path
    return found
