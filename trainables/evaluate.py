"""Evaluate a model: IoU of every class, and its means, on a labelled data set.

python -m trainables.evaluate models/mine --data cityscapes=/stores/cityscapes
python -m trainables.evaluate models/mine --data toy-city
python -m trainables.evaluate models/mine --images test/images --labels test/labels --classes classes.csv

NAME=STORE is any store that `python -m trainables.data prepare` made, whose labelled evaluation split is used; it
serves models of its classes. `toy-city` is the embedded benchmark, as the model was trained on it;
`realpair=FOLDER` is the folder of real images. Folders of one's own need no store: every image is fitted into the
model's size, and its label keeps its own. 255 is ignored; all numbers are in percent.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from mfm_tune.console import Parser, integer, steady_streams
from trainables.command_line import exit_status, new_file
from trainables.config import Evaluation
from trainables.data.arguments import check_place
from trainables.data.class_table import ClassTable, read_class_table
from trainables.data.domains import Example, GivenPaths, Opening
from trainables.data.given import differing
from trainables.data.images import StoredImages
from trainables.data.labels import TrainIds, view_of
from trainables.data.own_folders import OwnFolders, folder_reader
from trainables.data.packing.check import read_sample
from trainables.data.packing.format import Store
from trainables.data.packing.progress import ProgressLine
from trainables.data.packing.resize import Pixels, fit_size, resize_image, whole
from trainables.data.readers import BrokenSample
from trainables.data.scored import SYNTHIA, evaluated_classes, evaluated_means
from trainables.data.splits import Split
from trainables.description import Description
from trainables.evaluation import Scored, Scores, evaluate
from trainables.experiment.data import Means
from trainables.geometry import IGNORE
from trainables.inference.model import Model, in_use, load_model
from trainables.user_code import add_code_option, load_code

TOY_CITY = "toy-city"


class LabelledImages:
    """Labelled images of a data set, for a model with its classes.

    Args:
        count: How many there are.
        read: The image of an index, [H, W, 3] at the model's size, and its label [h, w] at its own.
        model: Normalises images.
        target: Name of the data set.
        means: Over some of the classes, beside those of the data set.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[int], tuple[Pixels, TrainIds]],
        model: Model,
        target: str,
        means: Means = MappingProxyType({}),
    ) -> None:
        self._count, self._read, self._model = count, read, model
        classes = model.description.classes
        self.scored = evaluated_classes(classes, target)
        self.means = {**evaluated_means(classes, SYNTHIA, target), **means}  # SYNTHIA's are over some of the classes
        self._view = view_of(self.scored, classes)
        self._scored_class = self._view.of_outputs(next(model.segmentor.parameters()).device)

    def __len__(self) -> int:
        return self._count

    def validation(self) -> Iterator[Example]:
        """Every image, in order."""
        for index in range(self._count):
            pixels, own = self._read(index)
            label = self._view.of_label(own)
            image = self._model.normalised(torch.from_numpy(np.array(pixels)).unsqueeze(0))
            yield Example(image, label.to(self._scored_class.device).long())

    def merge(self, scores: Tensor) -> Tensor:
        """The evaluated class of the best network class: [B, K, H, W] -> [B, H, W]."""
        return self._scored_class[scores.argmax(dim=1)]


def shown(examples: Iterable[Example], total: int | None) -> Iterator[Example]:
    """The same examples, with a line of progress where their number is known."""
    show = ProgressLine()
    for done, example in enumerate(examples, start=1):
        yield example
        if total is not None:
            show("evaluate", done, total, 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for bad input."""
    return exit_status(lambda: _run(_parser().parse_args(argv)))


def _run(given: argparse.Namespace) -> None:
    load_code(given.code)
    model = load_model(given.model)
    model.segmentor.to("cuda" if torch.cuda.is_available() else "cpu")
    with in_use(given.model):
        examples, total = open_given(given, model)
        result = score(model, examples, total, given.batch_size)
    print(as_table(result, examples))
    if given.json is not None:
        given.json.write_text(json.dumps(as_json(result, examples), indent=1) + "\n")


def open_given(given: argparse.Namespace, model: Model) -> tuple[Scored, int | None]:
    """The labelled images that the options name, and their number where it is known.

    Raises:
        ValueError: There are none, they are unknown or broken, or have other classes than the model.
    """
    folders = (given.images, given.labels)
    if (given.data is None) == (None in folders) or (given.data is not None and any((*folders, given.classes))):
        raise ValueError("--data, or --images and --labels must be given, and --classes with these alone; see --help.")
    if given.data is not None:
        return open_examples(given.data, model)
    own = own_examples(given.images, given.labels, given.classes, model)
    return own, len(own)


def own_examples(images: str, labels: str, table: Path | None, model: Model) -> LabelledImages:
    """Folders of one's own, or patterns of the files in them; without a table, ids are those of the model's classes.

    Raises:
        ValueError: A folder is not there, a file has no partner, or the table has other classes than the model.
    """
    classes, size = model.description.classes, model.description.size
    check_place("--images", images)
    check_place("--labels", labels)
    numbered = {IGNORE: IGNORE, **{index: index for index in range(len(classes))}}
    meant = (
        ClassTable(classes, numbered, False, {})
        if table is None
        else read_class_table(table, classes, "the model's classes")
    )
    reader = folder_reader("folder", OwnFolders(images=images, labels=labels), meant)
    found = reader.find(Path(images), Split.TEST)
    if found.problems:
        first, more = found.problems[0], len(found.problems) - 1
        raise ValueError(
            f"--images and --labels must have a label for every image and an image for every label, but {first.path}: "
            f"{first.detail}{f', and {more} more' if more else ''}; complete the folders."
        )

    def read(index: int) -> tuple[Pixels, TrainIds]:
        sample = found.samples[index]
        try:
            image, label = read_sample(reader, sample)
        except BrokenSample as error:
            raise ValueError(f"{error}; mend or remove the file, or name its ids in --classes.") from None
        assert label is not None
        return resize_image(image, fit_size(image.shape[:2], size)), label

    named = tuple(sorted({*meant.codes.values()} - {IGNORE}))  # the others are in no label
    means = {} if len(named) == len(classes) else {f"miou{len(named)}": named}
    return LabelledImages(len(found.samples), read, model, reader.dataset, means)


def _stored_examples(store: Store, model: Model) -> LabelledImages:
    split = store.split(store.manifest.check_scored(store.folder))
    split.check_box(model.description.size)
    images = StoredImages(split, model.description.size, own_label_size=True)

    def read(index: int) -> tuple[Pixels, TrainIds]:
        return images.window(index, whole(images.size(index))), images.label(index)

    return LabelledImages(len(images), read, model, store.manifest.dataset)


def open_examples(data: str, model: Model) -> tuple[Scored, int | None]:
    """The labelled images that `--data` names, and their number where it is known.

    Raises:
        ValueError: It is unknown, missing, or has other classes than the model.
    """
    name, _, path = data.partition("=")
    device = next(model.segmentor.parameters()).device
    description = model.description
    trained_on = description.data
    if trained_on is not None and name == trained_on.evaluation_name:
        opening = Opening(GivenPaths({name: path} if path else {}), device, mean=description.mean, std=description.std)
        return trained_on.open(opening), getattr(trained_on, "validation_images", None)
    if name == TOY_CITY:
        raise ValueError(f"--data {TOY_CITY} needs a model that was trained on it, and this one {_was(description)}.")
    if not path:
        raise ValueError(
            f"--data must be {TOY_CITY}, or NAME=STORE with a store that `python -m trainables.data prepare` made, got "
            f"'{data}'."
        )
    stored = _stored_examples(_store(name, Path(path), description), model)
    return stored, len(stored)


def _store(name: str, path: Path, description: Description) -> Store:
    """A store of this name, with the classes of a model.

    Raises:
        ValueError: It is another.
    """
    given = f"--data {name}={path}"
    store = Store(path, given)
    store.manifest.check_dataset(name, given)
    classes = store.manifest.classes
    if classes != description.classes:
        raise ValueError(
            f"{given} must have the model's {len(description.classes)} classes, but has {len(classes)} and "
            f"{differing(description.classes, classes)}; the model {_was(description)}, so give a store of those."
        )
    return store


def _was(description: Description) -> str:
    on = "is a published one" if description.data is None else f"was trained on {description.data.benchmark}"
    return f"{on} and has {len(description.classes)} classes"


def score(model: Model, examples: Scored, total: int | None = None, batch_size: int = 1) -> Scores:
    """Scores of a model on labelled images, as at evaluation in training."""
    settings = Evaluation(slide=model.description.slide, batch_size=batch_size)
    device, images = next(model.segmentor.parameters()).device, shown(examples.validation(), total)
    return evaluate([model.segmentor], examples, settings, device, examples=images)[0]


def as_table(result: Scores, examples: Scored) -> str:
    """A line a class, then the means."""
    numbers = as_json(result, examples)
    width = max(map(len, numbers))
    return "\n".join(f"{name:<{width}}  {'-' if value is None else f'{value:6.2f}'}" for name, value in numbers.items())


def as_json(result: Scores, examples: Scored) -> dict[str, float | None]:
    """Name -> percent; None for a class in neither labels nor predictions."""
    values = dict(zip(examples.scored, result.iou.tolist(), strict=True))
    values["mIoU"] = result.mean()
    values |= {name.replace("miou", "mIoU"): result.mean(classes) for name, classes in examples.means.items()}
    values["accuracy"] = result.accuracy
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _parser() -> Parser:
    parser = Parser(prog="python -m trainables.evaluate", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="a folder that python -m trainables.export wrote")
    add("--data", metavar="NAME=STORE", help=f"labelled images; {TOY_CITY} is the embedded benchmark")
    add("--images", metavar="PLACE", help="in the place of a store: a folder, or a quoted pattern with one *")
    add("--labels", metavar="PLACE", help="of these images")
    add("--classes", type=Path, metavar="TABLE", help="what labels mean: CSV with id,class or colour,class, or JSON")
    add("--batch-size", type=integer, metavar="N", default=1, help="images at once (1)")
    add("--json", type=new_file, metavar="FILE", help="write the numbers there as well")
    add_code_option(parser)
    return parser


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
