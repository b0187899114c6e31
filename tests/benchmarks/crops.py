"""Source crops per second and core: from a store, and by an honest version of the reference pipeline, in one run.

    python -m tests.benchmarks.crops [--images 16] [--crops 60]

Images have GTA's size (1052 x 1914) and a PNG of its weight (about 0.8 bytes a pixel and channel); both sides give a
normalised 512 x 512 crop with its label, one item at a time on one core, and time is processor time, so that a busy
machine slows neither. The reference pipeline decodes (torchvision; labels Pillow), resizes without antialias, draws the
crop, flips and normalises, and does all of it again where a rare-class crop shows too few pixels of its class, as the
published code does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import InterpolationMode, resize

from trainables.config import PackedPair, RareClassSampling
from trainables.data.crops import REPEATS, Crop, draw_box, draw_source_crop, is_mixed
from trainables.data.datasets import find_dataset
from trainables.data.labels import TrainIds, pixels_by_class
from trainables.data.packing.format import PackedSplit, Store
from trainables.data.packing.manifest import Codec
from trainables.data.packing.pack import prepare
from trainables.data.packing.plan import Job, make_plan
from trainables.data.packing.progress import ProgressLine, gigabytes
from trainables.data.packing.resize import fit_size
from trainables.data.readers import read_train_ids
from trainables.data.sampling import RareClasses, Sampler, Uniform
from trainables.data.splits import Split
from trainables.data.stored_pair import normalised
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD

NATIVE = (1052, 1914)
PAIR = PackedPair()
GTA_IMAGES = 24_966
CLASSES = [7, 8, 11, 12, 17, 20, 21, 23, 24, 26]
SCALE = torch.tensor([IMAGENET_MEAN, IMAGENET_STD])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--crops", type=int, default=60)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), arguments.images, arguments.crops)


def compare(folder: Path, images: int, crops: int) -> None:
    draw_files(folder / "gta", images)
    weight = np.mean([path.stat().st_size for path in (folder / "gta" / "images").iterdir()])
    print(f"{images} images of {NATIVE[0]} x {NATIVE[1]}, {weight / 1e6:.2f} MB a PNG")
    stores = {
        "raw, training size": pack(folder, "fitted", PAIR.source_size, Codec.RAW),
        "raw, native size": pack(folder, "native", None, Codec.RAW),
        "JPEG 95, training size": pack(folder, "jpeg", PAIR.source_size, Codec.JPEG),
    }
    counts = stores["raw, training size"].pixels
    samplers: dict[str, Sampler] = {
        "uniform": Uniform(images),
        "rare-class": RareClasses(counts, RareClassSampling()),
    }
    for kind, sampler in samplers.items():
        print(f"\n{kind} sampling: crops/s on one core")
        reference = Reference(folder / "gta", sampler)
        slow = rate(reference.item, crops)
        print(f"  {'reference pipeline':34} {slow:8.1f}   {reference.parts(crops)}")
        for name, split in stores.items():
            reader = FromStore(split, sampler)
            rate(reader.item, crops)  # the first touch of each band compares its checksum
            fast = rate(reader.item, crops)
            print(f"  {name:34} {fast:8.1f}   {fast / slow:5.1f} times; {reader.parts(2 * crops)}")
    print("\nbytes an image, and of GTA's 24,966")
    for name, split in stores.items():
        size = split.manifest.bytes / images
        print(f"  {name:34} {size / 1e6:6.2f} MB   {gigabytes(int(size * GTA_IMAGES))}{quality(name, stores)}")


def draw_files(root: Path, images: int) -> None:
    """GTA-shaped files: gradients, edges and noise, labels of rectangles of many sizes."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    rows, columns = np.mgrid[0 : NATIVE[0], 0 : NATIVE[1]]
    for number in range(images):
        generator = np.random.default_rng(number)
        ids = np.zeros(NATIVE, dtype=np.uint8)
        ids[:] = generator.choice(CLASSES, (40, 1))[rows * 40 // NATIVE[0], 0]
        for _ in range(60):
            top, left = generator.integers(NATIVE[0]), generator.integers(NATIVE[1])
            height, width = generator.integers(10, 300, 2)
            ids[top : top + height, left : left + width] = generator.choice(CLASSES)
        waves = np.stack(
            [127 + 70 * np.sin(rows * a + columns * b) for a, b in generator.uniform(0.003, 0.03, (3, 2))], 2
        )
        image = waves + ids[..., None] + generator.normal(0, 1.6, (*NATIVE, 1)) + generator.normal(0, 0.5, (*NATIVE, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number:05d}.png")
        label = Image.fromarray(ids, "P")
        label.putpalette(bytes(range(256)) * 3)
        label.save(root / "labels" / f"{number:05d}.png")


def pack(folder: Path, name: str, box: tuple[int, int] | None, codec: Codec) -> PackedSplit:
    job = Job(
        reader=find_dataset("gta"),
        root=folder / "gta",
        out=folder / name,
        splits=(Split.TRAIN,),
        box=box,
        evaluation_box=None,
        codec=codec,
    )
    progress = ProgressLine()
    prepare(job, make_plan(job, progress), progress)
    return Store(folder / name).split(Split.TRAIN)


class Timed:
    """Sums the processor time of the parts of an item."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = 0.0

    def start(self) -> None:
        self._since = time.process_time()

    def done(self, part: str) -> None:
        now = time.process_time()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._since
        self._since = now

    def parts(self, items: int) -> str:
        """Milliseconds an item by part."""
        return "ms: " + ", ".join(f"{part} {1000 * total / items:.2f}" for part, total in self._seconds.items())


class Reference(Timed):
    """Decode, resize, crop, flip, normalise: everything again for each rare-class attempt."""

    def __init__(self, root: Path, sampler: Sampler) -> None:
        super().__init__()
        self._root = root
        self._sampler = sampler

    def item(self, generator: np.random.Generator) -> object:
        draw = self._sampler.draw(generator)
        for _ in range(REPEATS + 1):
            image, label = self._attempt(draw.index, generator)
            if draw.wanted is None or (label == draw.wanted.train_id).sum() > draw.wanted.more_than:
                break
        return image, label

    def _attempt(self, index: int, generator: np.random.Generator) -> tuple[torch.Tensor, TrainIds]:
        self.start()
        image = decode_image(str(self._root / "images" / f"{index:05d}.png"), ImageReadMode.RGB)
        self.done("decode image")
        label = read_train_ids(find_dataset("gta"), self._root / "labels" / f"{index:05d}.png")
        self.done("decode label")
        size = fit_size(NATIVE, PAIR.source_size)
        small = resize(image, list(size), antialias=False)
        small_label = resize(torch.from_numpy(label)[None], list(size), InterpolationMode.NEAREST)[0].numpy()
        self.done("resize")
        for _ in range(REPEATS + 1):
            box = draw_box(generator, size, PAIR.crop_size)
            cut = small_label[box.top : box.top + box.height, box.left : box.left + box.width]
            if is_mixed(pixels_by_class(cut), PAIR.max_class_share):
                break
        window = box.crop(small)
        self.done("draw crop")
        result = normalised(window.permute(1, 2, 0)[None], *SCALE)
        self.done("normalise")
        return result, cut


class FromStore(Timed):
    """The same item from a store, by the parts that training uses."""

    def __init__(self, split: PackedSplit, sampler: Sampler) -> None:
        super().__init__()
        self._split = split
        self._sampler = sampler

    def item(self, generator: np.random.Generator) -> object:
        self.start()
        draw = self._sampler.draw(generator)
        size = self._split.size(draw.index, PAIR.source_size)
        label = self._split.sized_label(draw.index, size)
        self.done("label")
        crop: Crop = draw_source_crop(generator, label, PAIR.crop_size, PAIR.max_class_share, draw.wanted)
        self.done("draw crop")
        window = torch.from_numpy(np.array(self._split.image_window(draw.index, size, crop.box)))
        self.done("copy crop")
        result = normalised(window[None], *SCALE)
        self.done("normalise")
        return result


def rate(item: Callable[[np.random.Generator], object], count: int) -> float:
    """Items a second of processor time."""
    started = time.process_time()
    for number in range(count):
        item(np.random.default_rng(number))
    return count / (time.process_time() - started)


def quality(name: str, stores: dict[str, PackedSplit]) -> str:
    """How far a JPEG store is from the raw one."""
    if "JPEG" not in name:
        return ""
    errors = [
        ((stores[name].image(index).astype(float) - stores["raw, training size"].image(index)) ** 2).mean()
        for index in range(len(stores[name]))
    ]
    return f"   {10 * np.log10(255**2 / np.mean(errors)):.1f} dB"


if __name__ == "__main__":
    main()
