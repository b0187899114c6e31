"""Label images with a model: for each a label map and an overlay, in colours close to those of Cityscapes.

python -m trainables.predict models/mine street.png folder/of/images --out predictions

`NAME_labels.png` holds the class of every pixel as a palette index (its colours are close to those of Cityscapes);
`NAME_overlay.png` is the image under these colours. Both have the image's own size.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mfm_tune.console import Parser, steady_streams
from trainables.command_line import exit_status, new_folder, size
from trainables.config import Evaluation
from trainables.data.packing.progress import ProgressLine
from trainables.data.packing.resize import Pixels, fit_size, resize_image
from trainables.data.palette import overlay, palette
from trainables.data.readers import IMAGE_TYPES, BrokenSample, is_image_file, read_image
from trainables.evaluation import predict
from trainables.inference.model import Model, in_use, load_model
from trainables.models.segmentor import upsample
from trainables.user_code import add_code_option, load_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for bad input."""
    return exit_status(lambda: _run(_parser().parse_args(argv)))


def _run(given: argparse.Namespace) -> None:
    load_code(given.code)
    if not 0 <= given.strength <= 1:
        raise ValueError(f"--strength must lie in [0, 1], got {given.strength:g}.")
    images = find_images(given.images)
    if given.out.resolve() in (path.resolve() for path in given.images):
        raise ValueError(
            f"--out must be another folder than IMAGES, got {given.out} for both; what is written there would be "
            "labelled by the next run."
        )
    model = load_model(given.model)
    model.segmentor.to("cuda" if torch.cuda.is_available() else "cpu")
    given.out.mkdir(parents=True, exist_ok=True)
    show = ProgressLine()
    show("predict", 0, len(images), 0)
    for done, path in enumerate(images, start=1):
        try:
            pixels = read_image(path)
        except BrokenSample as error:
            raise ValueError(f"{path} must be an image, but cannot be read ({error.detail}); leave it out.") from error
        with in_use(given.model):
            labels = label_image(model, pixels, given.size)
        write_prediction(given.out / path.stem, pixels, labels, model.description.classes, given.strength)
        show("predict", done, len(images), 0)
    print(given.out)


def find_images(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and the images of folders, by name.

    Raises:
        ValueError: One does not exist, a folder has no image, or two images share a name.
    """
    images: list[Path] = []
    for path in given:
        if not path.exists():
            raise ValueError(f"IMAGES must be files or folders, got {path}, which does not exist.")
        inside = sorted(file for file in path.iterdir() if is_image_file(Path(file.name))) if path.is_dir() else [path]
        if not inside:
            raise ValueError(
                f"IMAGES must be files or folders of images, got {path}, which has none ({', '.join(IMAGE_TYPES)})."
            )
        images += inside
    stem, count = Counter(path.stem for path in images).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"IMAGES must have different names, got {count} called {stem}; predict them in runs of their own."
        )
    return images


@torch.no_grad()
def label_image(model: Model, pixels: Pixels, seen: tuple[int, int] | None = None) -> Pixels:
    """The class of every pixel.

    The image is fitted into the model's size; logits are resized to what the network saw and then to the image, as at
    evaluation.

    Args:
        model: Segmentor and its use.
        pixels: RGB [H, W, 3], uint8.
        seen: (rows, columns) that the image is resized to instead.

    Returns:
        Class ids [H, W], uint8.
    """
    own = (pixels.shape[0], pixels.shape[1])
    small = resize_image(pixels, fit_size(own, model.description.size) if seen is None else seen)
    image = model.normalised(torch.from_numpy(np.ascontiguousarray(small)).unsqueeze(0))
    logits = upsample(image_logits(model, image), own)
    labels: Pixels = logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
    return labels


@torch.no_grad()
def image_logits(model: Model, image: Tensor) -> Tensor:
    """Logits [B, K, H, W] of normalised images [B, 3, H, W], whole or by sliding windows."""
    return predict(model.segmentor, image, Evaluation(slide=model.description.slide))


class LoadedModel:
    """A model as MLflow calls it. Files of one's own must be imported before it is loaded."""

    def __init__(self, folder: Path) -> None:
        self._model = load_model(folder)

    def predict(self, images: Pixels, params: object = None) -> Pixels:
        """Class ids [B, H, W], uint8, of RGB images [B, H, W, 3], uint8.

        Raises:
            ValueError: They are something else, such as images in [0, 1].
        """
        del params
        given = images if isinstance(images, np.ndarray) else np.empty(0)
        if given.dtype != np.uint8 or given.ndim != 4 or given.shape[-1] != 3 or len(given) == 0:
            got = f"{given.dtype} {given.shape}" if given is images else type(images).__name__
            raise ValueError(f"images must be an array of RGB images [B, H, W, 3] with pixel values, uint8, got {got}.")
        return np.stack([label_image(self._model, pixels) for pixels in given])


def _load_pyfunc(path: str) -> LoadedModel:
    """The name by which `mlflow.pyfunc.load_model` asks the module that a model names."""
    return LoadedModel(Path(path))


def write_prediction(stem: Path, pixels: Pixels, labels: Pixels, classes: tuple[str, ...], strength: float) -> None:
    """Write `STEM_labels.png` and `STEM_overlay.png`.

    Args:
        stem: Folder and name without an ending.
        pixels: The image, RGB [H, W, 3], uint8.
        labels: Class ids [H, W], uint8.
        classes: Their names.
        strength: Share of the colours in the overlay, the rest is the image.
    """
    label_map = Image.fromarray(labels)
    label_map.putpalette(palette(classes).tobytes())
    label_map.save(stem.with_name(f"{stem.name}_labels.png"), optimize=True)
    mixed = Image.fromarray(overlay(pixels, labels, classes, strength))
    mixed.save(stem.with_name(f"{stem.name}_overlay.png"))


def _parser() -> Parser:
    parser = Parser(prog="python -m trainables.predict", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="a folder that python -m trainables.export wrote")
    add("images", metavar="IMAGES", type=Path, nargs="+", help="images, or folders of images")
    add("--out", type=new_folder, required=True, help="folder of the label maps and overlays")
    add("--size", type=size, metavar="ROWSxCOLUMNS", help="what the network sees (the size of the model's evaluation)")
    add("--strength", type=float, default=0.5, help="share of the colours in the overlay (0.5)")
    add_code_option(parser)
    return parser


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
