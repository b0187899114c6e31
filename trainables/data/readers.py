"""What every reader of a native layout offers, and how files are paired and decoded.

A reader knows one layout: where the images and labels of a split lie, and how a label is encoded. It reports what is
wrong with the files instead of failing at the first one.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from heapq import heappop, heappush
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.labels import Ids, LabelMap, TrainIds, UnknownIds
from trainables.data.packing.resize import Pixels, Size
from trainables.data.splits import Split

__all__ = [
    "Fault",
    "Found",
    "LabelMap",
    "Problem",
    "Reader",
    "Sample",
    "Split",
    "by_ids",
    "by_stem",
    "pair",
    "read_colours",
    "read_ids",
]

# What Pillow raises for files that are no images, or broken ones.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif")

DEEP = "**/"  # the beginning of a pattern of files in all folders

TRAINING_SPLITS = (Split.SOURCE, Split.TRAIN)


class Fault(Enum):
    """What can be wrong with a data set's files."""

    EMPTY_FOLDER = "empty folder"
    WRONG_SPLIT = "wrong split"
    IMAGE_WITHOUT_LABEL = "image without label"
    LABEL_WITHOUT_IMAGE = "label without image"
    UNREADABLE_IMAGE = "unreadable or truncated image"
    UNREADABLE_LABEL = "unreadable or truncated label"
    SIZES_DIFFER = "image and label of different size"
    UNKNOWN_IDS = "unknown label ids"
    SAME_NAME = "two files of one name"


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken file.

    Args:
        fault: What is wrong.
        path: The file, relative to the data set's folder.
        detail: What exactly, in a few words.
    """

    fault: Fault
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its label, if the split has labels; `name` is unique in the split."""

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds of one split: usable pairs in the order of their names, and problems."""

    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]


class BrokenSample(Exception):
    """A file of a sample cannot be read."""

    def __init__(self, fault: Fault, path: Path, detail: str) -> None:
        super().__init__(f"{fault.value}: {path}: {detail}")
        self.fault = fault
        self.path = path
        self.detail = detail

    def problem(self, root: Path) -> Problem:
        """The same as a line of the table."""
        return Problem(self.fault, relative(self.path, root), self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One data set in its native layout.

    Args:
        dataset: Its name on the command line and in `--data NAME=PATH`.
        splits: What `prepare` packs.
        scored: The split that is evaluated when the data set is a target.
        training_size: The box that training images are fitted into by default; None keeps their own size.
        classes: Names of the classes, in the order of the ids that labels are decoded to.
        places: Class -> where a table of one's own names it, such as `classes.csv, line 3`.
        digest: Of what labels are decoded by, where a table of classes has it and not the code.
        file_digest: Of the file that describes it: a label map, or code of one's own.
        layout: Where its files lie in a root folder, for messages; of a `DATASET` the first line of its module.
        find: Pairs the files of a split in a root folder.
        train_ids: Decodes a label file to class ids [H, W], 255 where nothing is trained; raises `UnknownIds`, or one
            of `DECODING_ERRORS`.
    """

    dataset: str
    splits: tuple[Split, ...]
    scored: Split | None = None
    training_size: Size | None = None
    classes: tuple[str, ...] = CITYSCAPES_CLASSES
    places: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    file_digest: str = ""
    layout: str = ""
    find: Callable[[Path, Split], Found]
    train_ids: Callable[[Path], TrainIds]


def pair(
    root: Path,
    split: Split,
    images: Mapping[str, Path],
    labels: Mapping[str, Path] | None,
    elsewhere: Mapping[str, str] | None = None,
) -> Found:
    """Match images and labels by key.

    Args:
        root: The data set's folder, for messages.
        split: The split, for messages.
        images, labels: Files by key; `labels` is None where the split has none.
        elsewhere: For keys of labels of other splits: the name of that split.
    """
    if not images:
        return Found((), (Problem(Fault.EMPTY_FOLDER, str(root), f"no images of the split {split.value}"),))
    if labels is None:
        return Found(tuple(Sample(key, images[key], None) for key in sorted(images)), ())
    problems = []
    for key in sorted(images.keys() - labels.keys()):
        other = (elsewhere or {}).get(key)
        if other is None:
            problem = Problem(Fault.IMAGE_WITHOUT_LABEL, relative(images[key], root), "no label of this name")
        else:
            problem = Problem(Fault.WRONG_SPLIT, relative(images[key], root), f"its label lies in {other}")
        problems.append(problem)
    for key in sorted(labels.keys() - images.keys()):
        problems.append(Problem(Fault.LABEL_WITHOUT_IMAGE, relative(labels[key], root), "no image of this name"))
    both = sorted(images.keys() & labels.keys())
    return Found(tuple(Sample(key, images[key], labels[key]) for key in both), tuple(problems))


def by_stem(folder: Path, pattern: str, suffix: str = "") -> dict[str, Path]:
    """Files under a folder by their relative path without the ending `suffix` and the file type.

    Raises:
        ValueError: Two have the same one, such as `a.jpg` and `a.png`.
    """
    rest = pattern.removeprefix(DEEP)
    deep = pattern.startswith(DEEP) and DEEP not in rest
    matching = (path for path in files_below(folder) if path.relative_to(folder).match(rest))
    found: dict[str, Path] = {}
    for path in sorted(matching if deep else folder.glob(pattern)):
        stem = path.relative_to(folder).with_suffix("").as_posix().removesuffix(suffix)
        if stem in found:
            raise ValueError(
                f"{folder} must have one file of a name, but has {relative(found[stem], folder)} and "
                f"{relative(path, folder)}; remove or rename one of them."
            )
        found[stem] = path
    return found


def files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder and of all folders in it, those that are symbolic links included, in any order.

    Each folder is read once, at its own place before that of a link to it: a link to a folder above goes in no circle,
    and one to a sibling doubles no file. One inside that may not be read (`lost+found` of a disk) is left out.

    Args:
        folder: One that is not there has none.

    Raises:
        PermissionError: It may not be read itself.
    """
    seen: set[Path] = set()
    folders = [folder] if folder.is_dir() else []
    links: list[Path] = []
    while folders or links:
        here = folders.pop() if folders else heappop(links)
        if (place := here.resolve()) in seen:
            continue
        seen.add(place)
        try:
            inside = [(path, path.is_dir()) for path in here.iterdir()]
        except PermissionError:
            if here == folder:
                raise
            _tell_unread(here)
            continue
        for path, is_folder in inside:
            if not is_folder:
                yield path
            elif path.is_symlink():
                heappush(links, path)
            else:
                folders.append(path)


@cache  # once, however many splits and labels are looked for
def _tell_unread(folder: Path) -> None:
    if not folder.name.startswith("."):  # hidden files are no images
        print(f"Warning: {folder} may not be read; what it holds is left out.", file=sys.stderr)


def is_image_file(path: Path) -> bool:
    """Whether a path in a folder ends as an image does and is not hidden, as the notes are that macOS puts beside."""
    return path.suffix.lower() in IMAGE_TYPES and not any(part.startswith(".") for part in path.parts)


def relative(path: Path, root: Path) -> str:
    """The path as messages show it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def image_size(path: Path, fault: Fault) -> Size:
    """(rows, columns) from an image file's header.

    Raises:
        BrokenSample: The header cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.size[1], image.size[0]
    except DECODING_ERRORS as error:
        raise BrokenSample(fault, path, _why(error)) from None


def read_image(path: Path) -> Pixels:
    """Decode an image to RGB [H, W, 3]; an alpha channel is dropped, 16-bit grey becomes 8-bit.

    Raises:
        BrokenSample: The file is unreadable or truncated, or its pixel values have no defined range.
    """
    try:
        with Image.open(path) as image:
            return _rgb(image)
    except DECODING_ERRORS as error:
        raise BrokenSample(Fault.UNREADABLE_IMAGE, path, _why(error)) from None


def read_ids(path: Path) -> Ids:
    """Decode a one-channel label file to its ids [H, W]; of a palette image the indices, not the colours."""
    with Image.open(path) as image:
        ids = np.asarray(image)
    if ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
        channels = 1 if ids.ndim == 2 else ids.shape[2]
        raise ValueError(f"{channels} channels of {ids.dtype}, expected one of uint8 or uint16")
    return ids


def by_ids(label_ids: LabelMap) -> Callable[[Path], TrainIds]:
    """Decode one-channel label files by a table of ids."""
    return lambda path: label_ids(read_ids(path))


def read_colours(path: Path) -> Pixels:
    """Decode a label file to RGB [H, W, 3]."""
    with Image.open(path) as image:
        return _rgb(image)


def _rgb(image: Image.Image) -> Pixels:
    """The pixels [H, W, 3]. Pillow's own conversion clips what has more than 8 bits to white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # those hold 16 bits
        levels = (np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8)  # 65535 is 255
        return np.repeat(levels[:, :, np.newaxis], 3, axis=2)
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its grey levels are {kind}, whose range is not defined, so convert it to 8 or 16 bits")
    return np.asarray(image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB"))


def read_train_ids(reader: Reader, path: Path) -> TrainIds:
    """Decode a label file to trainIds [H, W].

    Raises:
        BrokenSample: The file is unreadable or truncated, or holds ids that the data set does not define.
    """
    try:
        return reader.train_ids(path)
    except UnknownIds as error:
        raise BrokenSample(Fault.UNKNOWN_IDS, path, str(error)) from None
    except DECODING_ERRORS as error:
        raise BrokenSample(Fault.UNREADABLE_LABEL, path, _why(error)) from None


def _why(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "not an image" if "cannot identify image file" in text else text.splitlines()[0]
