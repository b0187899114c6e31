"""Batches from a pair with real photographs (see `trainables.data.datasets.real_pair` for its layout).

The network keeps its 19 outputs; its best class and the labels are merged to CamVid's 11 for the score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config import Margins, RareClassSampling, RealPhotographs, SourceHoldout
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.crops import Crop, box_of, draw_crop, draw_source_crop, padded, valid_box
from trainables.data.domains import Example
from trainables.data.holdout import Division, divide, without
from trainables.data.labels import CAMVID_VIEW, TrainIds, pixels_by_class
from trainables.data.packing.resize import Pixels, Size
from trainables.data.photographs import Pair, Photographs, open_pair
from trainables.data.sampling import Draw, RareClasses, Sampler
from trainables.data.scored import CAMVID_MEANS
from trainables.data.splits import LAYOUT
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.randomness import Purpose, Streams
from trainables.step_data import Batch


def open_real_photographs(
    config: RealPhotographs,
    data: Mapping[str, str],
    device: torch.device,
    sampling: RareClassSampling | None = None,
    margins: Margins | None = None,
    holdout: SourceHoldout | None = None,
) -> RealPhotographsDomains:
    """Open the store, or read the folder (once a process), ready to give batches on a device.

    Args:
        config: Which folder, and sizes.
        data: Name -> path of the folder or of its store.
        device: Where batches end up.
        sampling: Rare-class sampling of the source; None draws parts, then images, with equal chance.
        margins: Where pseudo-labels do not count; used here where they are measured on the whole image.
        holdout: Of the source; None trains on all of it.

    Raises:
        ValueError: No path is given, the folder lacks images or labels, a file of it is broken, the store cannot be
            used, or the holdout leaves nothing to train on.
    """
    if config.folder not in data:
        raise ValueError(
            f"The folder '{config.folder}' of photographs is not given; add --data {config.folder}=PATH, a folder with "
            f"{LAYOUT}, or a store that `python -m trainables.data prepare realpair` made of it."
        )
    pair = open_pair(Path(data[config.folder]), config.evaluation_size)
    division = divide(len(pair.source), holdout)
    return RealPhotographsDomains(config, pair, device, division, sampling, margins)


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
        pair: The images.
        device: Where batches end up.
        division: Which source images train and which are held out.
        sampling, margins: Of `open_real_photographs`.
    """

    classes: tuple[str, ...] = CITYSCAPES_CLASSES
    scored: tuple[str, ...] = CAMVID_VIEW.classes
    means = CAMVID_MEANS
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        config: RealPhotographs,
        pair: Pair,
        device: torch.device,
        division: Division,
        sampling: RareClassSampling | None = None,
        margins: Margins | None = None,
    ) -> None:
        self._config = config
        self._pair = pair
        self._device = device
        self._margins = margins if margins is not None and margins.of_size is not None else None
        self._held_out = division.held_out
        self._equal_parts = EqualParts(tuple(_kept(part, division) for part in pair.parts))
        self._sampler: Sampler = self._equal_parts
        if sampling is not None:
            counts = np.stack([pixels_by_class(pair.source.label(index)) for index in range(len(pair.source))])
            self._sampler = RareClasses(without(counts, division.held_out), sampling)
        self._scale = torch.tensor([self.mean, self.std], device=device)
        self._scored_class = torch.from_numpy(CAMVID_VIEW.of_train_id[: len(self.classes)].astype(np.int64)).to(device)

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops."""
        return self._batch([self._source_item(streams, step, item) for item in range(batch_size)])

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops of a stream of their own, parts drawn with equal chance whatever the sampler."""
        generators = [streams.numpy(Purpose.WARM_START, step, item) for item in range(batch_size)]
        return self._batch([self._source_crop(self._equal_parts.draw(each), each) for each in generators])

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target crops."""
        return self._batch([self._target_item(streams, step, item, labelled=False) for item in range(batch_size)])

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target crops with their labels.

        Raises:
            ValueError: The folder has no target/train/labels.
        """
        if not self._pair.target.labelled:
            raise ValueError(
                f"The oracle needs labels of the target's training images, and the folder '{self._config.folder}' has "
                "no target/train/labels; add them, or leave the oracle out."
            )
        return self._batch([self._target_item(streams, step, item, labelled=True) for item in range(batch_size)])

    def validation(self) -> Iterator[Example]:
        """Labelled target validation images in the order of their names, labels merged to CamVid's classes."""
        return self._examples(self._pair.validation, range(len(self._pair.validation)))

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows, labels merged to CamVid's classes."""
        return self._examples(self._pair.source, self._held_out.tolist())

    def merge(self, scores: Tensor) -> Tensor:
        """CamVid's class of the best of the 19: [B, 19, H, W] -> [B, H, W]."""
        return self._scored_class[scores.max(dim=1).indices]

    def _examples(self, photographs: Photographs, indices: Sequence[int]) -> Iterator[Example]:
        for index in indices:
            merged = torch.from_numpy(CAMVID_VIEW.of_train_id[photographs.label(index)])
            image = torch.from_numpy(photographs.image(index)[None])
            yield Example(self._normalised(image), merged.to(self._device).long())

    def _source_item(self, streams: Streams, step: int, item: int) -> _Item:
        which = streams.numpy(Purpose.SOURCE, step, item)
        return self._source_crop(self._sampler.draw(which), streams.numpy(Purpose.SOURCE_CROP, step, item))

    def _source_crop(self, draw: Draw, where: np.random.Generator) -> _Item:
        image, label = self._pair.source.image(draw.index), self._pair.source.label(draw.index)
        crop_size, max_share = self._config.crop_size, self._config.max_class_share
        return self._cut(image, label, draw_source_crop(where, label, crop_size, max_share, draw.wanted))

    def _target_item(self, streams: Streams, step: int, item: int, *, labelled: bool) -> _Item:
        photographs = self._pair.target
        index = int(streams.numpy(Purpose.TARGET, step, item).integers(len(photographs)))
        image = photographs.image(index)
        size = (image.shape[0], image.shape[1])
        crop = draw_crop(streams.numpy(Purpose.TARGET_CROP, step, item), size, self._config.crop_size)
        cut = self._cut(image, photographs.label(index) if labelled else None, crop)
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
