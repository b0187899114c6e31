"""Source and target from Arrow stores, or a folder of real images: crops are read one step ahead of the training.

A batch is a function of (seed, purpose, step): nothing here has a position to save. B images, crops of H x W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config import PackedPair, RealPhotographs
from trainables.data.crops import Crop, box_of, draw_crop, draw_crop_of_class, draw_source_crop, padded, valid_box
from trainables.data.domains import Example, Opening, check_class, item_of_class
from trainables.data.images import Images
from trainables.data.labels import TrainIds, View
from trainables.data.packing.resize import Size, whole
from trainables.data.sampling import Draw, Sampler, Uniform, Wanted
from trainables.experiment.data import Means
from trainables.geometry import Box
from trainables.randomness import Streams
from trainables.step_data import Batch


class Kind(Enum):
    """The streams of batches."""

    SOURCE = "source"
    WARM_START = "warm start"
    TARGET = "target"
    LABELLED_TARGET = "labelled target"


@dataclass(frozen=True, slots=True)
class Request:
    """A batch that training needs; streams are the same if they are one object."""

    kind: Kind
    streams: Streams
    step: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class HostBatch:
    """A batch in the host's memory.

    Args:
        image: [B, H, W, 3], uint8.
        label: [B, H, W], uint8, or None.
        filled: (rows, columns) of each crop that hold image; the rest is padding, where an image is smaller.
        valid: Of `Batch`.
    """

    image: Tensor
    label: Tensor | None
    filled: tuple[Size, ...]
    valid: tuple[Box, ...] | None


@dataclass(frozen=True, slots=True)
class _Item:
    """One crop of a batch: [H, W, 3], [H, W] or None, how much of it is image, and its valid box."""

    image: Tensor
    label: Tensor | None
    filled: Size
    valid: Box | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The images of both domains, which of them are drawn, and how predictions are evaluated.

    Args:
        source: Labelled training images.
        sampler: Draws source images for training steps.
        pre_training_sampler: Draws them for source pre-training, which all configs share.
        held_out: Indices of source images that neither draws.
        target: Training images of the target.
        validation: Labelled images of the target.
        classes: Names of the ids of labels, and of the network's outputs.
        view: The classes that predictions are evaluated in.
        means: Of `Domains`.
        no_oracle: Why there is no oracle where the target has no training labels.
    """

    source: Images
    sampler: Sampler
    pre_training_sampler: Sampler
    held_out: tuple[int, ...]
    target: Images
    validation: Images
    classes: tuple[str, ...]
    view: View
    means: Means
    no_oracle: str


class StoredDomains:
    """The domains of one trial, from stores or a folder (see `trainables.data.domains.Domains`).

    Args:
        pair: Images and samplers.
        crops: Size and rule of crops.
        opening: Device, normalisation, and margins, which are used where they are measured on the whole image.
        layout: Memory format of images.
    """

    def __init__(
        self,
        pair: Pair,
        crops: PackedPair | RealPhotographs,
        opening: Opening,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self._pair = pair
        self._crops = crops
        own = crops.target_crop if isinstance(crops, PackedPair) else None
        self._target_crop = crops.crop_size if own is None else own
        self._margins = opening.margins
        self._device = opening.device
        self._layout = layout
        self.classes = pair.classes
        self.mean, self.std = opening.mean, opening.std
        self.scored = pair.view.classes
        self.means = pair.means
        self._target_sampler = Uniform(len(pair.target))
        self._ahead = OneAhead(self)
        self._images_by_class: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._scale = torch.tensor([self.mean, self.std], device=self._device)
        self._evaluated_class = pair.view.of_outputs(self._device)

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops."""
        return self._to_device(self._ahead.take(Request(Kind.SOURCE, streams, step, batch_size)))

    def source_of_class(
        self, streams: Streams, purpose: str, step: int, class_id: int, count: int, more_than: int = 0
    ) -> Batch:
        """Labelled source crops that show a class (see `Domains`): images and places in them with equal chance."""
        check_class(class_id, self.classes)
        items = []
        for item in range(count):
            draws = streams.numpy(purpose, step, item_of_class(class_id, item))
            items += self._item_of_class(draws, class_id, more_than)
        return self._to_device(self._batch(items) if items else self._no_item())

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops of a stream of their own, images drawn uniformly whatever the sampler."""
        return self._to_device(self._ahead.take(Request(Kind.WARM_START, streams, step, batch_size)))

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target crops, with the boxes in which pseudo-labels count."""
        return self._to_device(self._ahead.take(Request(Kind.TARGET, streams, step, batch_size)))

    def target_images(self, streams: Streams, purpose: str, step: int, count: int) -> tuple[Tensor, ...]:
        """Whole target images as they lie in the store."""
        target, found = self._pair.target, []
        for item in range(count):
            index = self._target_sampler.draw(streams.numpy(purpose, step, item)).index
            pixels = torch.from_numpy(np.array(target.window(index, whole(target.size(index)))))
            found.append(self._normalised(self._pinned(pixels[None])))
        return tuple(found)

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target crops with their labels.

        Raises:
            ValueError: The target has no training labels.
        """
        if not self._pair.target.labelled:
            raise ValueError(self._pair.no_oracle)
        return self._to_device(self._ahead.take(Request(Kind.LABELLED_TARGET, streams, step, batch_size)))

    def labelled_sample(self, streams: Streams, count: int) -> Batch | None:
        """Target crops of step 0 with their labels, where there are some; none of a next step are read ahead."""
        if not self._pair.target.labelled:
            return None
        return self._to_device(self.read(Request(Kind.LABELLED_TARGET, streams, 0, count)))

    def validation(self) -> Iterator[Example]:
        """Every labelled validation image, the next one read while this one is used."""
        return self._examples(self._pair.validation, range(len(self._pair.validation)))

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows, at the size that crops are cut from."""
        return self._examples(self._pair.source, self._pair.held_out)

    def merge(self, scores: Tensor) -> Tensor:
        """The evaluated class of the best network class: [B, K, H, W] -> [B, H, W]."""
        return self._evaluated_class[scores.max(dim=1).indices]

    # -- on the host -------------------------------------------------------------------------------------------------

    def read(self, request: Request) -> HostBatch:
        """Draw and copy the crops of a batch; runs in the reading thread or in the caller's."""
        return self._batch([self._item(request, item) for item in range(request.batch_size)])

    def _batch(self, items: Sequence[_Item]) -> HostBatch:
        image = torch.stack([item.image for item in items])
        labels = [item.label for item in items if item.label is not None]
        valid = tuple(item.valid for item in items if item.valid is not None)
        return HostBatch(
            image=self._pinned(image),
            label=self._pinned(torch.stack(labels)) if labels else None,
            filled=tuple(item.filled for item in items),
            valid=valid or None,
        )

    def _item(self, request: Request, item: int) -> _Item:
        match request.kind:
            case Kind.SOURCE:
                which = request.streams.numpy("source", request.step, item)
                where = request.streams.numpy("source crop", request.step, item)
                return self._source_item(self._pair.sampler.draw(which), where)
            case Kind.WARM_START:
                both = request.streams.numpy("warm start", request.step, item)
                return self._source_item(self._pair.pre_training_sampler.draw(both), both)
            case Kind.TARGET | Kind.LABELLED_TARGET:
                which = request.streams.numpy("target", request.step, item)
                where = request.streams.numpy("target crop", request.step, item)
                return self._target_item(which, where, labelled=request.kind is Kind.LABELLED_TARGET)

    def _source_item(self, draw: Draw, where: np.random.Generator) -> _Item:
        label = self._pair.source.label(draw.index)
        crop = draw_source_crop(where, label, self._crops.crop_size, self._crops.max_class_share, draw.wanted)
        return self._cut(self._pair.source, draw.index, crop, label)

    def _item_of_class(self, draws: np.random.Generator, class_id: int, more_than: int) -> list[_Item]:
        """One crop that shows the class; none where no image does. (It may be lost when a label is resized or cut.)"""
        for index in draws.permutation(self._showing(class_id, more_than)).tolist():
            label = self._pair.source.label(index)
            wanted = Wanted(class_id, more_than)
            crop = draw_crop_of_class(draws, label, self._crops.crop_size, self._crops.max_class_share, wanted)
            if crop is not None:
                return [self._cut(self._pair.source, index, crop, label)]
        return []

    def _showing(self, class_id: int, more_than: int = 0) -> npt.NDArray[np.int64]:
        """Indices of source images that show more pixels of a class than this and are not held out."""
        key = class_id, more_than
        if key not in self._images_by_class:
            showing = np.flatnonzero(self._pair.source.pixels()[:, class_id] > more_than)
            self._images_by_class[key] = np.setdiff1d(showing, self._pair.held_out)
        return self._images_by_class[key]

    def _no_item(self) -> HostBatch:
        """A batch of 0 images."""
        label = torch.zeros(0, *self._crops.crop_size, dtype=torch.uint8)
        return HostBatch(label.unsqueeze(3).expand(-1, -1, -1, 3), label, (), None)

    def _target_item(self, which: np.random.Generator, where: np.random.Generator, *, labelled: bool) -> _Item:
        target = self._pair.target
        index = self._target_sampler.draw(which).index
        size = target.size(index)
        crop = draw_crop(where, size, self._target_crop)
        item = self._cut(target, index, crop, target.label(index) if labelled else None, self._target_crop)
        if self._margins is None or self._margins.of_size is None:
            return item
        return replace(item, valid=valid_box(self._margins, self._margins.of_size, size, crop))

    def _cut(self, images: Images, index: int, crop: Crop, label: TrainIds | None, size: Size | None = None) -> _Item:
        size, box = size or self._crops.crop_size, crop.box
        image = torch.zeros((*size, 3), dtype=torch.uint8)
        image[: box.height, : box.width] = _writable(images.window(index, box), crop.flip)
        cut = None
        if label is not None:
            part = box_of(label, box)
            cut = torch.from_numpy(padded(part[:, ::-1] if crop.flip else part, size))
        return _Item(image, cut, (box.height, box.width), None)

    def _examples(self, images: Images, indices: Sequence[int]) -> Iterator[Example]:
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self._read_whole, images, indices[0]) if indices else None
            for place in range(1, len(indices) + 1):
                assert following is not None
                image, label = following.result()
                if place < len(indices):
                    following = pool.submit(self._read_whole, images, indices[place])
                yield Example(self._normalised(image[None]), self._moved(label).long())

    def _read_whole(self, images: Images, index: int) -> tuple[Tensor, Tensor]:
        image = images.window(index, whole(images.size(index)))
        label = self._pair.view.of_label(images.label(index))
        return self._pinned(torch.from_numpy(np.array(image))), self._pinned(label)

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

    # -- on the device -----------------------------------------------------------------------------------------------

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)

    def _to_device(self, host: HostBatch) -> Batch:
        image = self._normalised(host.image)
        for index, (rows, columns) in enumerate(host.filled):
            image[index, :, rows:] = 0  # padding is the mean colour, as in the reference implementation
            image[index, :, :, columns:] = 0
        label = None if host.label is None else self._moved(host.label).long()
        return Batch(image, label, host.valid)

    def _normalised(self, image: Tensor) -> Tensor:
        return normalised(self._moved(image), *self._scale).contiguous(memory_format=self._layout)


class OneAhead:
    """Reads the next step's batch of each stream in a thread while the device works on this one.

    What is read depends on the request only, so results are the same with or without it.
    """

    def __init__(self, domains: StoredDomains) -> None:
        self._read = domains.read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="crops")
        self._waiting: dict[Kind, tuple[Request, Future[HostBatch]]] = {}

    def take(self, request: Request) -> HostBatch:
        """Take a batch, and begin to read that of the step after it."""
        expected, future = self._waiting.pop(request.kind, (None, None))
        batch = future.result() if future is not None and expected == request else self._read(request)
        following = replace(request, step=request.step + 1)
        self._waiting[request.kind] = (following, self._thread.submit(self._read, following))
        return batch


def normalised(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(pixel value - mean) / std on the image's device: [B, H, W, 3] uint8 -> [B, 3, H, W] float32, channels last.

    A row of pixels is one long vector here, with mean and std repeated along it: three at a time would be slow.
    """
    columns = image.shape[2]
    rows = image.flatten(2).float().sub_(mean.repeat(columns)).div_(std.repeat(columns))
    return rows.view(image.shape).permute(0, 3, 1, 2)


def _writable(window: np.ndarray, flip: bool) -> Tensor:
    """A copy of a window [rows, columns, 3] of read-only memory, mirrored or not."""
    copy = torch.from_numpy(np.array(window))
    return copy.flip(1) if flip else copy
