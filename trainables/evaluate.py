"""Evaluate a model: IoU of every class, and its means, on a labelled data set.

python -m trainables.evaluate models/mine --data cityscapes=/stores/cityscapes
python -m trainables.evaluate models/mine --data toy-city

NAME=STORE is a store that `python -m trainables.data prepare` made, whose labelled evaluation split is used; it
serves models with Cityscapes' 19 classes. `toy-city` is the embedded benchmark, as the model was trained on it;
`realpair=FOLDER` is the folder of real images. 255 is ignored; all numbers are in percent.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.command_line import Parser, exit_status
from trainables.config import Evaluation, PackedPair, RealPhotographs, SourceDataset, TargetDataset, ToyCity
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.domains import Example
from trainables.data.images import StoredImages
from trainables.data.labels import view_of
from trainables.data.packing.format import Store
from trainables.data.packing.progress import ProgressLine
from trainables.data.packing.resize import whole
from trainables.data.scored import further_means, scored_classes
from trainables.description import Description
from trainables.evaluation import Scored, Scores, evaluate
from trainables.inference.model import Model, in_use, load_model

TOY_CITY = "toy-city"


class StoredExamples:
    """The evaluated split of a store, for a model with Cityscapes' classes.

    Args:
        name: The data set.
        store: Its store.
        model: Normalises images; its size is the box that they are fitted into.
    """

    def __init__(self, name: TargetDataset, store: Store, model: Model) -> None:
        split = store.split(store.manifest.check_scored(store.folder))
        split.check_box(model.description.size)
        self._images = StoredImages(split, model.description.size, own_label_size=True)
        self._model = model
        pair = PackedPair(source=SourceDataset.SYNTHIA, target=name)  # the one with means over some of the classes
        self.scored, self.means = scored_classes(pair), further_means(pair)
        self._view = view_of(self.scored)
        self._scored_class = self._view.of_outputs(next(model.segmentor.parameters()).device)

    def __len__(self) -> int:
        return len(self._images)

    def validation(self) -> Iterator[Example]:
        """Every labelled image, in the store's order."""
        for index in range(len(self._images)):
            pixels = torch.from_numpy(np.array(self._images.window(index, whole(self._images.size(index)))))
            label = self._view.of_label(self._images.label(index))
            yield Example(self._model.normalised(pixels.unsqueeze(0)), label.to(self._scored_class.device).long())

    def merge(self, scores: Tensor) -> Tensor:
        """The evaluated class of the best network class: [B, 19, H, W] -> [B, H, W]."""
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
    model = load_model(given.model)
    model.segmentor.to("cuda" if torch.cuda.is_available() else "cpu")
    with in_use(given.model):
        examples, total = open_examples(given.data, model)
        result = score(model, examples, total, given.batch_size)
    print(as_table(result, examples))
    if given.json is not None:
        given.json.write_text(json.dumps(as_json(result, examples), indent=1) + "\n")


def open_examples(data: str, model: Model) -> tuple[Scored, int | None]:
    """The labelled images that `--data` names, and their number where it is known.

    Raises:
        ValueError: It is unknown, missing, or has other classes than the model.
    """
    name, _, path = data.partition("=")
    device = next(model.segmentor.parameters()).device
    trained_on = model.description.data
    if name == TOY_CITY:
        if not isinstance(trained_on, ToyCity):
            raise ValueError(
                f"--data {TOY_CITY} needs a model that was trained on it, and this one {_was(model.description)}."
            )
        from trainables.data.toy_city.domains import ToyCityDomains

        return ToyCityDomains(trained_on, device), trained_on.validation_images
    if isinstance(trained_on, RealPhotographs) and name == trained_on.folder:
        from trainables.data.pairs import open_real_photographs

        return open_real_photographs(trained_on, {name: path}, device), None
    names = [dataset.value for dataset in TargetDataset]
    if name not in names or not path:
        raise ValueError(f"--data must be {TOY_CITY}, or NAME=STORE with NAME one of {', '.join(names)}, got '{data}'.")
    if model.description.classes != CITYSCAPES_CLASSES:
        raise ValueError(
            f"--data {name} needs a model with Cityscapes' {len(CITYSCAPES_CLASSES)} classes, and this one "
            f"{_was(model.description)}."
        )
    stored = StoredExamples(TargetDataset(name), _store(name, Path(path)), model)
    return stored, len(stored)


def _store(name: str, path: Path) -> Store:
    store = Store(path)
    store.manifest.check_dataset(name, f"--data {name}={path}")
    return store


def _was(description: Description) -> str:
    on = "is a published one" if description.data is None else f"was trained on {type(description.data).__name__}"
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
    add("--data", required=True, metavar="NAME=STORE", help=f"labelled images; {TOY_CITY} is the embedded benchmark")
    add("--batch-size", type=int, default=1, help="images at once (1)")
    add("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
