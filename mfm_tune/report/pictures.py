"""Pictures of predictions for the page: image, ground truth and predictions side by side, as inlined data.

A trial leaves `image-i`, `label-i`, `prediction-i` and `palette` (one pixel a class, in the order of the classes), and
with self-training `source`, `source-label`, `target`, `mixed` and `pseudo-label` of its last step; what a storage
folder does not have, is left out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mfm_tune.ledger.records import TrialRecord
from mfm_tune.program import Outcome
from mfm_tune.report.classes import pairs
from mfm_tune.results.study import Results
from mfm_tune.results.trials import ConfigResult

EXAMPLES = 3
UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises for a file that is no picture, or half of one
TRAINING = {
    "source": "source image, training",
    "source-label": "its ground truth",
    "target": "target image, training",
    "pseudo-label": "its pseudo-label",
}
PHOTOGRAPHS = ("image", "source", "target", "mixed")  # how names of pictures begin that are no maps of classes
LARGEST = 384  # pixels; larger pictures are made smaller


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with its caption; `data` is a data URI, width and height are pixels."""

    caption: str
    description: str
    data: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Rows of pictures of one seed under a title, and the colours of the classes as `#rrggbb`."""

    title: str
    rows: tuple[tuple[Picture, ...], ...]
    colours: tuple[tuple[str, str], ...]


Named = Sequence[tuple[str, ConfigResult]]


def strips(results: Results, storage: Path) -> tuple[Strip, ...]:
    """Predictions on the same images: of the study's references, and of rows beside baselines of their own."""
    groups: dict[str, Named] = {"": [(each.name, each) for each in results.references]}
    for pair in pairs(results):
        if pair.table:
            groups[pair.title] = [(pair.baseline, pair.comparison.baseline), (pair.name, pair.comparison.config)]
    examples = EXAMPLES if len(groups) == 1 else 1
    made = (_strip(title, named, examples, results.seeds, storage) for title, named in groups.items() if named)
    return tuple(each for each in made if each is not None)


def _strip(title: str, named: Named, examples: int, seeds: Sequence[int], storage: Path) -> Strip | None:
    """Of the first seed that all configs finished with pictures."""
    for seed in seeds:
        pictures = [_pictures(config, seed) for _, config in named]
        if all(pictures):
            names = [name for name, _ in named]
            rows = tuple(row for index in range(examples) if (row := _row(names, pictures, index, storage)))
            if rows and not title:
                rows = (*rows, *filter(None, [_training_row(names[0], pictures[0], storage)]))
            if rows:
                heading = f"{title}, seed {seed}" if title else f"Seed {seed}"
                return Strip(title=heading, rows=rows, colours=_colours(named[0][1], pictures[0], storage))
    return None


def _pictures(config: ConfigResult, seed: int) -> dict[str, Path]:
    """Where the pictures of a config's finished trial lie, relative to the storage folder."""
    record = config.trials.get(seed)
    if record is None or record.outcome is not Outcome.FINISHED:
        return {}
    return _named(record)


def _named(record: TrialRecord) -> dict[str, Path]:
    for report in reversed(record.reports):
        if report.get("pictures"):
            return {name: Path(record.folder) / path for name, path in report["pictures"].items()}
    return {}


def _row(
    names: Sequence[str], pictures: Sequence[Mapping[str, Path]], index: int, storage: Path
) -> tuple[Picture, ...]:
    wanted = [("image", f"image-{index}", pictures[0]), ("ground truth", f"label-{index}", pictures[0])]
    wanted += [(name, f"prediction-{index}", of_trial) for name, of_trial in zip(names, pictures, strict=True)]
    row = []
    for caption, name, of_trial in wanted:
        what = f"Example {index + 1}: " + (f"prediction of {caption}" if name.startswith("prediction") else caption)
        picture = _picture(storage, of_trial, name, caption, what)
        if picture is None:
            return ()
        row.append(picture)
    return tuple(row)


def _training_row(name: str, paths: Mapping[str, Path], storage: Path) -> tuple[Picture, ...]:
    """What the first config saw in its last step: a source image with its label, and a target image with its
    pseudo-label; nothing where one of them is not there."""
    row = [
        _picture(storage, paths, key, caption, f"Last step of {name}: {caption}") for key, caption in TRAINING.items()
    ]
    return tuple(picture for picture in row if picture is not None) if all(row) else ()


def _picture(storage: Path, paths: Mapping[str, Path], name: str, caption: str, what: str) -> Picture | None:
    image = _opened(storage, paths, name)
    if image is None:
        return None
    photograph = name.startswith(PHOTOGRAPHS) and not name.endswith("label")
    resample = Image.Resampling.LANCZOS if photograph else Image.Resampling.NEAREST
    factor = min(1.0, LARGEST / max(image.size))
    image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), resample)
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=not photograph, quality=85, method=6)
    data = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(caption=caption, description=what, data=data, width=image.width, height=image.height)


def _opened(storage: Path, paths: Mapping[str, Path], name: str) -> Image.Image | None:
    """A picture in RGB; None where the trial left none, or it cannot be read."""
    if name not in paths:
        return None
    try:
        with Image.open(storage / paths[name]) as opened:
            return opened.convert("RGB")
    except UNREADABLE:
        return None


def _colours(config: ConfigResult, paths: Mapping[str, Path], storage: Path) -> tuple[tuple[str, str], ...]:
    """(class, colour) pairs as the trial drew them; none where it kept no palette."""
    image, classes = _opened(storage, paths, "palette"), config.classes
    if image is None or image.width != len(classes):
        return ()
    pixels = [image.getpixel((index, 0)) for index in range(image.width)]
    return tuple(
        (name, "#{:02x}{:02x}{:02x}".format(*pixel))
        for name, pixel in zip(classes, pixels, strict=True)
        if isinstance(pixel, tuple)
    )
