"""Real photographs as the target: a folder of images and trainId labels, CARLA + AirSim -> CamVid.

    source/images/NAME.*          source/labels/NAME.png
    source/PART.txt               optional: the names of a part, one a line; parts are drawn with equal chance
    target/train/images/NAME.*    target/train/labels/NAME.png (optional, for the oracle only)
    target/val/images/NAME.*      target/val/labels/NAME.png

Labels are one-channel PNG files of Cityscapes' 19 trainIds and 255. The network keeps its 19 outputs; its best class
and the labels are merged to CamVid's 11 for the score. Images are read once a process and kept at training size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from trainables.config import Margins, RareClassSampling, RealPhotographs, SourceHoldout
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.crops import Crop, box_of, draw_crop, draw_source_crop, padded, valid_box
from trainables.data.domains import IMAGENET_MEAN, IMAGENET_STD, Batch, Example
from trainables.data.holdout import Division, divide, without
from trainables.data.labels import CAMVID_VIEW, TRAIN_IDS, TrainIds, UnknownIds, pixels_by_class
from trainables.data.readers import DECODING_ERRORS, BrokenSample, Found, Split, by_stem, pair, read_ids, read_image
from trainables.data.resize import Pixels, Size, fit_size, resize_label
from trainables.data.sampling import Draw, RareClasses, Sampler
from trainables.models.segmentor import Box
from trainables.randomness import Purpose, Streams

EVERYTHING = "all"  # source/all.txt names every image: no part
FREQUENT = ("sky", "building", "pole", "road", "pavement", "tree", "car", "pedestrian")
LAYOUT = "source/images, source/labels, target/train/images, target/val/images and target/val/labels"


@dataclass(frozen=True, slots=True)
class Photographs:
    """Images of one domain in memory.

    Args:
        images: Each [h, w, 3], at training size.
        labels: Each [h, w] in trainIds, at training size, or (validation) at the label's own size; None: unlabelled.
    """

    images: tuple[Pixels, ...]
    labels: tuple[TrainIds, ...] | None


@dataclass(frozen=True, slots=True)
class Folder:
    """Everything that a folder holds; `parts` are indices of source images."""

    source: Photographs
    parts: tuple[npt.NDArray[np.int64], ...]
    target: Photographs
    validation: Photographs


def open_real_photographs(
    config: RealPhotographs,
    data: Mapping[str, str],
    device: torch.device,
    sampling: RareClassSampling | None = None,
    margins: Margins | None = None,
    holdout: SourceHoldout | None = None,
) -> RealPhotographsDomains:
    """Read the folder (once a process), ready to give batches on a device.

    Args:
        config: Which folder, and sizes.
        data: Name -> path.
        device: Where batches end up.
        sampling: Rare-class sampling of the source; None draws parts, then images, with equal chance.
        margins: Where pseudo-labels do not count; used here where they are measured on the whole image.
        holdout: Of the source; None trains on all of it.

    Raises:
        ValueError: No path is given, or the folder lacks images or labels, or a file of it is broken, or the holdout
            leaves nothing to train on.
    """
    if config.folder not in data:
        raise ValueError(
            f"The folder '{config.folder}' of photographs is not given; add --data {config.folder}=PATH, a folder with "
            f"{LAYOUT}."
        )
    folder = read_folder(Path(data[config.folder]), config.evaluation_size)
    division = divide(len(folder.source.images), holdout)
    return RealPhotographsDomains(config, folder, device, division, sampling, margins)


# --------------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def read_folder(root: Path, box: Size) -> Folder:
    """Read a folder; images are fitted into `box`, their ratio kept.

    Raises:
        ValueError: See `open_real_photographs`.
    """
    names, source = _read(root, "source", Split.TRAIN, box, labelled=True)
    _, target = _read(root, "target/train", Split.TRAIN, box, labelled=(root / "target/train/labels").is_dir())
    _, validation = _read(root, "target/val", Split.VAL, box, labelled=True, own_label_size=True)
    return Folder(source, _parts(root / "source", names), target, validation)


def _read(
    root: Path, place: str, split: Split, box: Size, *, labelled: bool, own_label_size: bool = False
) -> tuple[list[str], Photographs]:
    folder = root / place
    labels = by_stem(folder / "labels", "*.png") if labelled else None
    found = pair(root, split, by_stem(folder / "images", "*.*"), labels)
    _check(found, folder)
    images, ids = [], []
    for sample in found.samples:
        image = _read_image(sample.image)
        size = fit_size((image.height, image.width), box)
        images.append(np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)))
        if sample.label is not None:
            label = _read_label(sample.label, (image.height, image.width))
            ids.append(label if own_label_size else resize_label(label, size))
    return [sample.name for sample in found.samples], Photographs(tuple(images), tuple(ids) if labelled else None)


def _check(found: Found, folder: Path) -> None:
    """Refuse a folder without images, and images without labels (or the reverse)."""
    if not found.samples and not any(folder.glob("images/*.*")):
        raise ValueError(f"There are no images in {folder / 'images'}; give a folder with {LAYOUT}.")
    if found.problems:
        first = found.problems[0]
        raise ValueError(
            f"{folder} holds images without a label, or labels without an image ({len(found.problems)} in all, the "
            f"first: {first.path}, {first.detail}); every image needs a label of its name, so complete the folder."
        )


def _read_image(path: Path) -> Image.Image:
    try:
        return Image.fromarray(read_image(path))
    except BrokenSample as error:
        raise ValueError(
            f"{path} must be an image, but cannot be read ({error.detail}); replace or remove it."
        ) from None


def _read_label(path: Path, size: Size) -> TrainIds:
    try:
        label = TRAIN_IDS(read_ids(path))
    except UnknownIds as error:
        raise ValueError(f"{path} must hold trainIds 0 to 18 and 255, but holds {error}; convert the labels.") from None
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} must be a label in one channel, but cannot be read ({error}); replace it.") from None
    if label.shape != size:
        raise ValueError(
            f"{path} must have the size of its image, {size[0]}x{size[1]}, but has {label.shape[0]}x{label.shape[1]}; "
            "give labels at the images' size."
        )
    return label


def _parts(folder: Path, names: list[str]) -> tuple[npt.NDArray[np.int64], ...]:
    """Indices of the images of each part; one part of all of them without lists.

    Raises:
        ValueError: A list names an image that is not there, or none.
    """
    place = {name: index for index, name in enumerate(names)}
    parts = []
    for path in sorted(folder.glob("*.txt")):
        if path.stem == EVERYTHING:
            continue
        listed = path.read_text(encoding="utf-8").split()
        missing = next((name for name in listed if name not in place), None)
        if missing is not None or not listed:
            what = "names no image" if missing is None else f"names {missing}, which is not in {folder / 'images'}"
            raise ValueError(f"{path} must list names of images, one a line, but {what}; correct or remove the list.")
        parts.append(np.array(sorted(place[name] for name in listed)))
    return tuple(parts) or (np.arange(len(names)),)


# --------------------------------------------------------------------------------------------------------------------
# Batches
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EqualParts:
    """A part with equal chance, then one of its images: a small part is seen as often as a large one."""

    parts: tuple[npt.NDArray[np.int64], ...]

    def draw(self, generator: np.random.Generator) -> Draw:
        part = self.parts[int(generator.integers(len(self.parts)))]
        return Draw(int(part[generator.integers(len(part))]))


class RealPhotographsDomains:
    """The domains of one trial (see `trainables.data.domains.Domains`).

    Args:
        config: Sizes.
        folder: Images in memory.
        device: Where batches end up.
        division: Which source images train and which are held out.
        sampling, margins: Of `open_real_photographs`.
    """

    classes: tuple[str, ...] = CITYSCAPES_CLASSES
    scored: tuple[str, ...] = CAMVID_VIEW.classes
    means: Mapping[str, tuple[int, ...]] = {"miou8": tuple(CAMVID_VIEW.classes.index(name) for name in FREQUENT)}
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        config: RealPhotographs,
        folder: Folder,
        device: torch.device,
        division: Division,
        sampling: RareClassSampling | None = None,
        margins: Margins | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._device = device
        self._margins = margins if margins is not None and margins.of_size is not None else None
        self._held_out = division.held_out
        self._sampler: Sampler = EqualParts(tuple(_kept(part, division) for part in folder.parts))
        if sampling is not None and folder.source.labels is not None:
            counts = np.stack([pixels_by_class(label) for label in folder.source.labels])
            self._sampler = RareClasses(without(counts, division.held_out), sampling)
        self._scale = torch.tensor([self.mean, self.std], device=device)
        self._scored_class = torch.from_numpy(CAMVID_VIEW.of_train_id[: len(self.classes)].astype(np.int64)).to(device)

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops."""
        return self._batch([self._source_item(streams, step, item) for item in range(batch_size)])

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops of a stream of their own."""
        items = []
        for item in range(batch_size):
            generator = streams.numpy(Purpose.WARM_START, step, item)
            items.append(self._source_crop(generator, generator))
        return self._batch(items)

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target crops."""
        return self._batch([self._target_item(streams, step, item, None) for item in range(batch_size)])

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target crops with their labels.

        Raises:
            ValueError: The folder has no target/train/labels.
        """
        labels = self._folder.target.labels
        if labels is None:
            raise ValueError(
                f"The oracle needs labels of the target's training images, and the folder '{self._config.folder}' has "
                "no target/train/labels; add them, or leave the oracle out."
            )
        return self._batch([self._target_item(streams, step, item, labels) for item in range(batch_size)])

    def validation(self) -> Iterator[Example]:
        """Labelled target validation images in the order of their names, labels merged to CamVid's classes."""
        photographs = self._folder.validation
        assert photographs.labels is not None
        for image, label in zip(photographs.images, photographs.labels, strict=True):
            merged = torch.from_numpy(CAMVID_VIEW.of_train_id[label])
            yield Example(self._normalised(torch.from_numpy(image)[None]), merged.to(self._device).long())

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows, labels merged to CamVid's classes."""
        source = self._folder.source
        assert source.labels is not None
        for index in self._held_out:
            merged = torch.from_numpy(CAMVID_VIEW.of_train_id[source.labels[index]])
            image = self._normalised(torch.from_numpy(source.images[index])[None])
            yield Example(image, merged.to(self._device).long())

    def merge(self, scores: Tensor) -> Tensor:
        """CamVid's class of the best of the 19: [B, 19, H, W] -> [B, H, W]."""
        return self._scored_class[scores.max(dim=1).indices]

    def _source_item(self, streams: Streams, step: int, item: int) -> _Item:
        which = streams.numpy(Purpose.SOURCE, step, item)
        return self._source_crop(which, streams.numpy(Purpose.SOURCE_CROP, step, item))

    def _source_crop(self, which: np.random.Generator, where: np.random.Generator) -> _Item:
        draw = self._sampler.draw(which)
        assert self._folder.source.labels is not None
        image, label = self._folder.source.images[draw.index], self._folder.source.labels[draw.index]
        return self._cut(image, label, draw_source_crop(where, label, self._config.crop_size, 1.0, draw.wanted))

    def _target_item(self, streams: Streams, step: int, item: int, labels: tuple[TrainIds, ...] | None) -> _Item:
        images = self._folder.target.images
        index = int(streams.numpy(Purpose.TARGET, step, item).integers(len(images)))
        size = (images[index].shape[0], images[index].shape[1])
        crop = draw_crop(streams.numpy(Purpose.TARGET_CROP, step, item), size, self._config.crop_size)
        cut = self._cut(images[index], None if labels is None else labels[index], crop)
        if self._margins is None or self._margins.of_size is None:
            return cut
        return _Item(cut.image, cut.label, cut.filled, valid_box(self._margins, self._margins.of_size, size, crop))

    def _cut(self, image: Pixels, label: TrainIds | None, crop: Crop) -> _Item:
        rows, columns = crop.box.height, crop.box.width
        window = np.zeros((*self._config.crop_size, 3), dtype=np.uint8)
        window[:rows, :columns] = _mirrored(box_of(image, crop.box), crop.flip)
        cut = None if label is None else padded(_mirrored(box_of(label, crop.box), crop.flip), self._config.crop_size)
        return _Item(window, cut, (rows, columns))

    def _batch(self, items: list[_Item]) -> Batch:
        image = self._normalised(torch.from_numpy(np.stack([item.image for item in items])))
        for index, item in enumerate(items):
            image[index, :, item.filled[0] :] = 0  # padding is the mean colour
            image[index, :, :, item.filled[1] :] = 0
        labels = [item.label for item in items if item.label is not None]
        valid = tuple(item.valid for item in items if item.valid is not None)
        label = torch.from_numpy(np.stack(labels)).to(self._device).long() if labels else None
        return Batch(image, label, valid or None)

    def _normalised(self, image: Tensor) -> Tensor:
        """(grey level - mean) / std: [B, H, W, 3] uint8 on the host -> [B, 3, H, W] float32 on the device."""
        mean, std = self._scale
        return image.to(self._device).float().sub_(mean).div_(std).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, slots=True)
class _Item:
    """One crop of a batch.

    Args:
        image: [H, W, 3].
        label: [H, W] or None.
        filled: (rows, columns) that hold image; the rest is padding.
        valid: Where pseudo-labels count.
    """

    image: Pixels
    label: TrainIds | None
    filled: Size
    valid: Box | None = None


def _kept(part: npt.NDArray[np.int64], division: Division) -> npt.NDArray[np.int64]:
    """The images of a part that are not held out.

    Raises:
        ValueError: None is left.
    """
    kept = np.setdiff1d(part, division.held_out)
    if not len(kept):
        raise ValueError(
            f"SourceHoldout.share must leave every part of the source an image to train on, but it holds out all "
            f"{len(part)} of one; give a smaller share, or more images to the smallest of the source's lists."
        )
    return kept


def _mirrored(pixels: Pixels, flip: bool) -> Pixels:
    return pixels[:, ::-1] if flip else pixels
