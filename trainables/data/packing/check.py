"""Checks of a data set's native files: everything that is wrong, in one table with counts and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.labels import TrainIds, pixels_by_class
from trainables.data.packing.progress import Progress
from trainables.data.packing.resize import Pixels, Size
from trainables.data.readers import (
    BrokenSample,
    Fault,
    Problem,
    Reader,
    Sample,
    image_size,
    read_image,
    read_train_ids,
    relative,
)
from trainables.data.splits import Split

EXAMPLES = 3
RARE = 1e-4  # share of the labelled pixels under which a class is named


class BrokenFiles(ValueError):
    """A data set has broken files, which are not to be left out, or a split without any.

    Args:
        problems: All of them.
        layout: Where the files of the data set lie (`Reader.layout`).
    """

    def __init__(self, problems: Sequence[Problem], layout: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(self._absent(layout) or self._broken())

    def _absent(self, layout: str) -> str:
        absent = next((problem for problem in self.problems if problem.fault is Fault.EMPTY_FOLDER), None)
        if absent is None:
            return ""
        remedy = f"give the folder of {layout.rstrip('.')}" if layout else "complete the folder, or give another"
        return f"{absent.path}: {absent.detail}; {remedy}."

    def _broken(self) -> str:
        if len(self.problems) > 1:
            return (
                f"{len(self.problems)} files are broken, missing or in the wrong place (see the table); mend them, or "
                "prepare with --skip-broken to leave them out."
            )
        (one,) = self.problems
        return (
            f"1 file is broken, missing or in the wrong place: {one.path}, {one.fault.value} ({one.detail}); mend it, "
            "or prepare with --skip-broken to leave it out."
        )


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A sample whose files have readable headers of one size.

    Args:
        sample: Where they lie.
        size: (rows, columns).
        stamps: Of the image and the label: path in the data set's folder, bytes, and when it was last changed [ns].
    """

    sample: Sample
    size: Size
    stamps: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a split holds, by its folders and the headers of its files."""

    samples: tuple[Surveyed, ...]
    problems: tuple[Problem, ...]


def survey(reader: Reader, root: Path, split: Split, workers: int, progress: Progress) -> Survey:
    """Pair the files of a split and read their headers (sizes), in threads.

    Args:
        progress: Receives the split, headers read, headers in all, and problems so far.
    """
    found = reader.find(root, split)
    samples: list[Surveyed] = []
    problems = list(found.problems)
    with ThreadPoolExecutor(workers) as pool:
        for looked in pool.map(lambda sample: _look(sample, root), found.samples):
            if isinstance(looked, Surveyed):
                samples.append(looked)
            else:
                problems.append(looked)
            done = len(samples) + len(problems) - len(found.problems)
            progress(f"{split.value}, headers", done, len(found.samples), len(problems))
    return Survey(tuple(samples), tuple(problems))


def read_sample(reader: Reader, sample: Sample) -> tuple[Pixels, TrainIds | None]:
    """Decode an image [H, W, 3] and its trainIds [H, W].

    Raises:
        BrokenSample: A file is unreadable or truncated, sizes differ, or ids are unknown.
    """
    image = read_image(sample.image)
    if sample.label is None:
        return image, None
    label = read_train_ids(reader, sample.label)
    if image.shape[:2] != label.shape:
        raise _sizes_differ(sample.label, image.shape[:2], label.shape)
    return image, label


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of decoding every file.

    Args:
        problems: Broken files.
        pixels: By labelled split: pixels of each class, and of 255 in the last place, [classes + 1].
    """

    problems: tuple[Problem, ...]
    pixels: Mapping[Split, Sequence[int]]


def check(reader: Reader, root: Path, splits: Iterable[Split], workers: int, progress: Progress) -> Checked:
    """Decode every file of the splits.

    Args:
        progress: Receives the split, images done, images in all, and problems so far.
    """
    problems: list[Problem] = []
    pixels: dict[Split, Sequence[int]] = {}
    for split in splits:
        counts = np.zeros(len(reader.classes) + 1, dtype=np.int64)
        surveyed = survey(reader, root, split, workers, progress)
        problems += surveyed.problems
        with ThreadPoolExecutor(workers) as pool:
            decoded = pool.map(lambda entry: _decode(reader, entry.sample, root), surveyed.samples)
            for done, result in enumerate(decoded, start=1):
                if isinstance(result, Problem):
                    problems.append(result)
                else:
                    counts += result
                progress(split.value, done, len(surveyed.samples), len(problems))
        if any(entry.sample.label for entry in surveyed.samples):
            pixels[split] = counts.tolist()
    return Checked(tuple(problems), pixels)


def class_warnings(reader: Reader, pixels: Mapping[Split, Sequence[int]]) -> list[str]:
    """A sentence for the classes that labels of a split never show, and one for each that they hardly show.

    Args:
        reader: Whose labels they are.
        pixels: As in `Checked`.
    """
    sentences = []
    for split, counts in pixels.items():
        shown = dict(zip((_placed(reader, name) for name in reader.classes), counts, strict=False))  # 255 is none
        total = sum(shown.values())
        absent = [name for name, count in shown.items() if not count]
        if absent:
            remedy = ": add images that show it, or leave it out." if reader.places else "."
            sentences.append(f"No pixel of {split.value} is {', '.join(absent)}{remedy}")
        sentences += [
            f"Only {100 * count / total:.2g} % of the labelled pixels of {split.value} are {name}: add images that "
            f"show it, or merge it with another class: under {100 * RARE:g} % it is hardly learnt."
            for name, count in shown.items()
            if 0 < count < RARE * total
        ]
    return sentences


def _placed(reader: Reader, name: str) -> str:
    return f"{name} ({reader.places[name]})" if name in reader.places else name


def table(problems: Sequence[Problem]) -> str:
    """All problems by fault: how many, and the first few files."""
    counts = Counter(problem.fault for problem in problems)
    width = max(len(fault.value) for fault in counts)
    lines = [f"{'fault':{width}}  files  examples"]
    for fault in (fault for fault in Fault if fault in counts):
        examples = [problem for problem in problems if problem.fault is fault][:EXAMPLES]
        for index, problem in enumerate(examples):
            head = f"{fault.value:{width}}  {counts[fault]:5}" if index == 0 else " " * (width + 7)
            lines.append(f"{head}  {problem.path} ({problem.detail})")
        if counts[fault] > EXAMPLES:
            lines.append(f"{' ' * (width + 7)}  ... and {counts[fault] - EXAMPLES} more")
    return "\n".join(lines)


def _look(sample: Sample, root: Path) -> Surveyed | Problem:
    try:
        size = image_size(sample.image, Fault.UNREADABLE_IMAGE)
        if sample.label is not None:
            label_size = image_size(sample.label, Fault.UNREADABLE_LABEL)
            if label_size != size:
                raise _sizes_differ(sample.label, size, label_size)
    except BrokenSample as broken:
        return broken.problem(root)
    files = (sample.image,) if sample.label is None else (sample.image, sample.label)
    return Surveyed(sample, size, tuple(_stamp(file, root) for file in files))


def _stamp(path: Path, root: Path) -> tuple[str, int, int]:
    facts = path.stat()
    return relative(path, root), facts.st_size, facts.st_mtime_ns


def _decode(reader: Reader, sample: Sample, root: Path) -> Problem | npt.NDArray[np.int64]:
    try:
        _, label = read_sample(reader, sample)
    except BrokenSample as broken:
        return broken.problem(root)
    classes = len(reader.classes)
    return np.zeros(classes + 1, dtype=np.int64) if label is None else pixels_by_class(label, classes)


def _sizes_differ(label: Path, image_size: Size, label_size: Size) -> BrokenSample:
    detail = f"image {image_size[0]} x {image_size[1]}, label {label_size[0]} x {label_size[1]} rows x columns"
    return BrokenSample(Fault.SIZES_DIFFER, label, detail)
