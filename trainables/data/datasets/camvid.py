"""CamVid with 11 classes (the SegNet copy): `{split}/*.png`, `{split}annot/*.png`, and the pairs in `{split}.txt`."""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import LabelMap
from trainables.data.readers import Fault, Found, Problem, Reader, Sample, by_ids, by_stem, pair, relative
from trainables.data.splits import Split

# 11 merged classes, and 11 = void. A sign may be a light, a car a truck or a bus, a tree grass: see CAMVID_VIEW.
LABEL_IDS = LabelMap({0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 18}, range(12))


def find(root: Path, split: Split) -> Found:
    """The pairs that the list names; without a list, files of one name."""
    folder = folder_of(root)
    listed = folder / f"{split.value}.txt"
    if listed.is_file():
        return _find_listed(folder, split, listed)
    labels = by_stem(folder / f"{split.value}annot", "*.png")
    return pair(folder, split, by_stem(folder / split.value, "*.png"), labels)


def folder_of(root: Path) -> Path:
    """The folder with the splits: the one that is given, or `CamVid` in it."""
    return root / "CamVid" if (root / "CamVid").is_dir() else root


def _find_listed(folder: Path, split: Split, listed: Path) -> Found:
    samples, problems = [], []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        checked = _check_line(folder, split, line.split(), f"{listed.name}, line {number}")
        if isinstance(checked, Sample):
            samples.append(checked)
        else:
            problems.append(checked)
    if not samples and not problems:
        problems.append(Problem(Fault.EMPTY_FOLDER, str(folder), f"{listed.name} lists no images"))
    return Found(tuple(sorted(samples, key=lambda sample: sample.name)), tuple(problems))


def _check_line(folder: Path, split: Split, paths: list[str], where: str) -> Sample | Problem:
    """A line holds the paths of an image and its label, of which the last two parts count."""
    parts = [Path(path).parts[-2:] for path in paths]
    if len(parts) != 2 or any(len(part) != 2 for part in parts):
        return Problem(Fault.IMAGE_WITHOUT_LABEL, where, "expected the paths of an image and a label")
    (image_folder, image_name), (label_folder, label_name) = parts
    if (image_folder, label_folder) != (split.value, f"{split.value}annot"):
        return Problem(Fault.WRONG_SPLIT, where, f"names files of {image_folder} and {label_folder}")
    image, label = folder / image_folder / image_name, folder / label_folder / label_name
    if not image.is_file():
        return Problem(
            Fault.LABEL_WITHOUT_IMAGE, relative(label, folder), f"{where} names {image_name}, which is missing"
        )
    if not label.is_file():
        return Problem(
            Fault.IMAGE_WITHOUT_LABEL, relative(image, folder), f"{where} names {label_name}, which is missing"
        )
    return Sample(image.stem, image, label)


# 367, 101 and 233 images of 360 x 480. Test is evaluated: val shares its drive with half of the training split.
DATASET = Reader(
    dataset="camvid",
    splits=(Split.TRAIN, Split.VAL, Split.TEST),
    scored=Split.TEST,
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
