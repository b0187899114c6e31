"""One's own data: folders of images and of labels, whose classes a table names (`trainables.data.class_table`).

An image and its label have the same path below their folders, but for the type of the file: `images/a/1.jpg` and
`labels/a/1.png`. Where names differ otherwise, a pattern with one `*` takes the place of a folder: `labels/*_mask.png`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.data.class_table import ClassTable
from trainables.data.readers import Fault, Found, Problem, Reader, Sample, files_below, is_image_file, pair, relative
from trainables.data.splits import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFolders:
    """What the options of `prepare folder` name; each place is a folder, or a pattern with one `*`.

    Args:
        images: Training images.
        labels: Their labels; None where they have none.
        val_images, val_labels: What is evaluated, where it lies apart.
        validation: Share of the labelled images, the last ones by name, that is evaluated instead of trained on.
    """

    images: str
    labels: str | None = None
    val_images: str | None = None
    val_labels: str | None = None
    validation: float | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        """What there is."""
        return (Split.TRAIN,) if self.val_images is None and self.validation is None else (Split.TRAIN, Split.VAL)

    @property
    def root(self) -> Path:
        """The innermost folder that holds all of them."""
        places = [place for place in (self.images, self.labels, self.val_images, self.val_labels) if place]
        return Path(os.path.commonpath([_base(place).absolute() for place in places]))

    def find(self, root: Path, split: Split) -> Found:
        """Pair the files of a split; what is wrong with folders that both splits share is found with the first."""
        if split is Split.VAL and self.val_images is not None:
            return _pairs(root, split, self.val_images, self.val_labels, self.images)
        found = _pairs(root, split, self.images, self.labels, self.val_images)
        if self.validation is None:
            return found
        training, evaluated = _divide(found.samples, self.validation)
        return Found(training, found.problems) if split is Split.TRAIN else Found(evaluated, ())


def folder_reader(name: str, folders: OwnFolders, table: ClassTable) -> Reader:
    """The reader of folders of one's own.

    Args:
        name: What the store is called in `--data NAME=STORE`.
        folders: Where the files lie.
        table: What their labels mean.
    """
    return Reader(
        dataset=name,
        splits=folders.splits,
        scored=Split.VAL if Split.VAL in folders.splits else None,
        classes=table.classes,
        places=table.places,
        digest=table.digest,
        find=folders.find,
        train_ids=table.decode,
    )


def _divide(samples: tuple[Sample, ...], share: float) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Those that train and those that are evaluated: the last ones by name, as neighbours in a drive are alike."""
    if len(samples) < 2:
        return samples, ()
    evaluated = min(max(1, round(share * len(samples))), len(samples) - 1)
    return samples[:-evaluated], samples[-evaluated:]


def _pairs(root: Path, split: Split, images: str, labels: str | None, other_images: str | None) -> Found:
    """Pair files by name; labels of the other split's images may lie among these."""
    seen, problems = _by_name(root, images)
    if labels is None:
        found = pair(root, split, seen, None)
        return replace(found, problems=(*problems, *found.problems))
    masks, more = _by_name(root, labels)
    if seen and not seen.keys() & masks.keys():
        return Found((), (*problems, *more, _nothing_in_common(root, images, labels, seen, masks)))
    others = _by_name(root, other_images)[0] if other_images else {}
    own = {name: path for name, path in masks.items() if name in seen or name not in others}
    found = pair(root, split, seen, own)
    return replace(found, problems=(*problems, *more, *found.problems))


def _nothing_in_common(root: Path, images: str, labels: str, seen: dict[str, Path], masks: dict[str, Path]) -> Problem:
    if not masks:
        return Problem(Fault.EMPTY_FOLDER, relative(_base(labels).absolute(), root), f"no image files at {labels}")
    image, label = next(iter(seen.values())), next(iter(masks.values()))
    detail = (
        f"no label has the name of an image, {image.name} and {label.name} for example; give patterns whose * is what "
        f"an image and its label have in common, such as --labels '{_base(labels)}/*{label.suffix}'"
    )
    return Problem(Fault.IMAGE_WITHOUT_LABEL, relative(_base(images).absolute(), root), detail)


def _by_name(root: Path, place: str) -> tuple[dict[str, Path], list[Problem]]:
    """Image files by what pairs them; the second of two with one name is a problem, and is left out."""
    base = _base(place)
    before, star, after = place.rpartition("/")[2].partition("*") if "*" in place else ("", "", "")
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(base.glob(f"{before}*{after}") if star else files_below(base)):
        inside = path.relative_to(base)
        if not is_image_file(inside):
            continue
        name = inside.name[len(before) : len(inside.name) - len(after)] if star else inside.with_suffix("").as_posix()
        if name in files:
            detail = f"{files[name].name} is there too"
            problems.append(Problem(Fault.SAME_NAME, relative(path.absolute(), root), detail))
        files.setdefault(name, path.absolute())
    return files, problems


def _base(place: str) -> Path:
    """A folder itself, or the folder of the files that a pattern matches."""
    return Path(place).parent if "*" in place else Path(place)
