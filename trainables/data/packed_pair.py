"""Source and target from Arrow stores: crops are copied out of mapped memory, one step ahead of the training.

A batch is a function of (seed, purpose, step): nothing here has a position to save. B images, crops of H x W.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainables.config import Margins, PackedPair, RareClassSampling, SourceDataset, SourceHoldout, TargetDataset
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.crops import Crop, box_of, draw_crop, draw_source_crop, padded, valid_box
from trainables.data.domains import Example
from trainables.data.holdout import divide, without
from trainables.data.labels import CAMVID_VIEW, CITYSCAPES_VIEW, View
from trainables.data.packing.commands import source_command, target_command
from trainables.data.packing.format import PackedSplit, Store
from trainables.data.packing.manifest import StoreError
from trainables.data.packing.resize import Size, whole
from trainables.data.sampling import Among, Draw, RareClasses, Sampler, Uniform
from trainables.data.scored import further_means
from trainables.data.splits import Split
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.randomness import Purpose, Streams
from trainables.step_data import Batch


def open_packed_pair(
    config: PackedPair,
    sampling: RareClassSampling | None,
    margins: Margins | None,
    data: Mapping[str, str],
    device: torch.device,
    holdout: SourceHoldout | None = None,
) -> PackedDomains:
    """Open the stores of a source and a target.

    Args:
        config: Which stores and sizes.
        sampling: Rare-class sampling of the source; None draws images uniformly.
        margins: Where pseudo-labels of the target do not count; used here where they are measured on the whole image.
        data: Dataset name -> path of its store.
        device: Where batches end up.
        holdout: Of the source; None trains on all of it.

    Raises:
        ValueError: A store is missing (the sentence says which command makes it), damaged, or made for other sizes, or
            the holdout leaves nothing to train on.
    """
    source = _open(config.source, source_command(config), data)
    target = _open(config.target, target_command(config), data)
    source.manifest.check_source(source.folder)
    images = source.split(Split.TRAIN)
    images.check_box(config.source_size)
    unlabelled = target.split(Split.TRAIN)
    unlabelled.check_box(config.target_size)
    scored = target.split(target.manifest.check_target(target.folder))
    scored.check_box(config.evaluation_size, "--evaluation-size")
    division = divide(len(images), holdout)
    sampler: Sampler = Among(division.training)
    if sampling is not None:
        sampler = RareClasses(without(images.pixels, division.held_out), sampling)
    view = CAMVID_VIEW if config.target is TargetDataset.CAMVID else CITYSCAPES_VIEW
    scoring, held_out = Scoring(view, further_means(config)), tuple(division.held_out.tolist())
    return PackedDomains(images, sampler, unlabelled, scored, config, scoring, margins, device, held_out)


def _open(dataset: SourceDataset | TargetDataset, command: str, data: Mapping[str, str]) -> Store:
    name = dataset.value
    if name not in data:
        raise StoreError(
            f"The {name} store is not given: make it once with `{command}`, then add "
            f"`--data {name}={_store_word(command)}`."
        )
    folder = Path(data[name])
    if not folder.exists():
        raise StoreError(
            f"--data {name}={folder} must be a store, but is not there; make it with "
            f"`{command.replace(_store_word(command), str(folder))}`."
        )
    store = Store(folder)
    store.manifest.check_dataset(name, f"--data {name}={folder}")
    return store


def _store_word(command: str) -> str:
    words = command.split()
    return words[words.index("--out") + 1]


class Kind(Enum):
    """The streams of batches."""

    SOURCE = "source"
    WARM_START = "warm start"
    TARGET = "target"
    LABELLED_TARGET = "labelled target"


@dataclass(frozen=True, slots=True)
class Request:
    """A batch that training asks for; streams are the same if they are one object."""

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


class Sizes(Protocol):
    """How images are seen; `trainables.config.PackedPair` says what each one is."""

    @property
    def crop_size(self) -> Size: ...
    @property
    def source_size(self) -> Size: ...
    @property
    def target_size(self) -> Size: ...
    @property
    def evaluation_size(self) -> Size: ...
    @property
    def max_class_share(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Scoring:
    """In which classes predictions are scored, and the further means over them (see `Domains`)."""

    view: View
    means: Mapping[str, tuple[int, ...]]


class PackedDomains:
    """The domains of one trial, from stores (see `trainables.data.domains.Domains`).

    Args:
        source: Labelled training images.
        sampler: Which of them are drawn.
        target: Training images of the target.
        scored: Labelled validation images of the target.
        sizes: Of images and crops.
        scoring: Of predictions.
        margins: Of pseudo-labels.
        device: Where batches end up.
        held_out: Indices of source images that the sampler never draws.
        mean, std: That images are normalised by (grey levels, RGB).
    """

    classes: tuple[str, ...] = CITYSCAPES_CLASSES

    def __init__(
        self,
        source: PackedSplit,
        sampler: Sampler,
        target: PackedSplit,
        scored: PackedSplit,
        sizes: Sizes,
        scoring: Scoring,
        margins: Margins | None,
        device: torch.device,
        held_out: tuple[int, ...] = (),
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        self._sizes = sizes
        self._margins = margins if margins is not None and margins.of_size is not None else None
        self._source = source
        self._sampler = sampler
        self._target = target
        self._scored = scored
        self._held_out = held_out
        self._device = device
        self._view = scoring.view
        self.scored: tuple[str, ...] = scoring.view.classes
        self.means = scoring.means
        self.mean = mean
        self.std = std
        self._uniform_source = Among(np.setdiff1d(np.arange(len(source)), held_out))
        self._uniform_target = Uniform(len(target))
        self._ahead = OneAhead(self)
        self._scale = torch.tensor([self.mean, self.std], device=device)
        self._scored_class = torch.from_numpy(self._view.of_train_id[: len(self.classes)].astype(np.int64)).to(device)

    def source(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops."""
        return self._to_device(self._ahead.take(Request(Kind.SOURCE, streams, step, batch_size)))

    def warm_start(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Labelled source crops of a stream of their own, images drawn uniformly whatever the sampler."""
        return self._to_device(self._ahead.take(Request(Kind.WARM_START, streams, step, batch_size)))

    def target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """Unlabelled target crops, with the boxes in which pseudo-labels count."""
        return self._to_device(self._ahead.take(Request(Kind.TARGET, streams, step, batch_size)))

    def labelled_target(self, streams: Streams, step: int, batch_size: int) -> Batch:
        """The same target crops with their labels.

        Raises:
            ValueError: The target has no training labels.
        """
        if not self._target.manifest.labelled:
            raise StoreError(
                f"{self._target.folder} must hold labels of its training images for the oracle, but has none."
            )
        return self._to_device(self._ahead.take(Request(Kind.LABELLED_TARGET, streams, step, batch_size)))

    def validation(self) -> Iterator[Example]:
        """Every labelled validation image, the next one read while this one is used."""
        return self._examples(range(len(self._scored)), self._read_example)

    def held_out(self) -> Iterator[Example]:
        """Labelled source images that no batch shows, at the size that crops are cut from."""
        return self._examples(self._held_out, self._read_held_out)

    def merge(self, scores: Tensor) -> Tensor:
        """The scored class of the best network class: [B, 19, H, W] -> [B, H, W]."""
        return self._scored_class[scores.max(dim=1).indices]

    # -- on the host -------------------------------------------------------------------------------------------------

    def read(self, request: Request) -> HostBatch:
        """Draw and copy the crops of a batch; runs in the reading thread or in the caller's."""
        items = [self._item(request, item) for item in range(request.batch_size)]
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
                which = request.streams.numpy(Purpose.SOURCE, request.step, item)
                where = request.streams.numpy(Purpose.SOURCE_CROP, request.step, item)
                return self._source_item(self._sampler.draw(which), where)
            case Kind.WARM_START:
                both = request.streams.numpy(Purpose.WARM_START, request.step, item)
                return self._source_item(self._uniform_source.draw(both), both)
            case Kind.TARGET | Kind.LABELLED_TARGET:
                which = request.streams.numpy(Purpose.TARGET, request.step, item)
                where = request.streams.numpy(Purpose.TARGET_CROP, request.step, item)
                return self._target_item(which, where, labelled=request.kind is Kind.LABELLED_TARGET)

    def _source_item(self, draw: Draw, where: np.random.Generator) -> _Item:
        size = self._source.size(draw.index, self._sizes.source_size)
        label = self._source.sized_label(draw.index, size)
        crop = draw_source_crop(where, label, self._sizes.crop_size, self._sizes.max_class_share, draw.wanted)
        return self._cut(self._source, draw.index, size, crop, label)

    def _target_item(self, which: np.random.Generator, where: np.random.Generator, *, labelled: bool) -> _Item:
        index = self._uniform_target.draw(which).index
        size = self._target.size(index, self._sizes.target_size)
        crop = draw_crop(where, size, self._sizes.crop_size)
        label = self._target.sized_label(index, size) if labelled else None
        item = self._cut(self._target, index, size, crop, label)
        if self._margins is None or self._margins.of_size is None:
            return item
        return replace(item, valid=valid_box(self._margins, self._margins.of_size, size, crop))

    def _cut(self, split: PackedSplit, index: int, size: Size, crop: Crop, label: np.ndarray | None) -> _Item:
        box = crop.box
        window = split.image_window(index, size, box)
        image = torch.zeros((*self._sizes.crop_size, 3), dtype=torch.uint8)
        image[: box.height, : box.width] = _writable(window, crop.flip)
        cut = None
        if label is not None:
            part = box_of(label, box)
            cut = torch.from_numpy(padded(part[:, ::-1] if crop.flip else part, self._sizes.crop_size))
        return _Item(image, cut, (box.height, box.width), None)

    def _examples(self, indices: Sequence[int], read: Callable[[int], tuple[Tensor, Tensor]]) -> Iterator[Example]:
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(read, indices[0]) if indices else None
            for place in range(1, len(indices) + 1):
                assert following is not None
                image, label = following.result()
                if place < len(indices):
                    following = pool.submit(read, indices[place])
                yield Example(self._normalised(image[None]), self._moved(label).long())

    def _read_example(self, index: int) -> tuple[Tensor, Tensor]:
        size = self._scored.size(index, self._sizes.evaluation_size)
        return self._read_whole(self._scored, index, size, self._scored.label(index))

    def _read_held_out(self, index: int) -> tuple[Tensor, Tensor]:
        size = self._source.size(index, self._sizes.source_size)
        return self._read_whole(self._source, index, size, self._source.sized_label(index, size))

    def _read_whole(self, split: PackedSplit, index: int, size: Size, label: np.ndarray) -> tuple[Tensor, Tensor]:
        image = split.image_window(index, size, whole(size))
        seen = torch.from_numpy(self._view.of_train_id[label])
        return self._pinned(torch.from_numpy(np.array(image))), self._pinned(seen)

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
        return normalised(self._moved(image), *self._scale)


class OneAhead:
    """Reads the next step's batch of each stream in a thread while the device works on this one.

    What is read depends on the request only, so results are the same with or without it.
    """

    def __init__(self, domains: PackedDomains) -> None:
        self._read = domains.read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="crops")
        self._waiting: dict[Kind, tuple[Request, Future[HostBatch]]] = {}

    def take(self, request: Request) -> HostBatch:
        """The batch that is asked for; the one of the step after it is begun."""
        expected, future = self._waiting.pop(request.kind, (None, None))
        batch = future.result() if future is not None and expected == request else self._read(request)
        following = replace(request, step=request.step + 1)
        self._waiting[request.kind] = (following, self._thread.submit(self._read, following))
        return batch


def normalised(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(grey level - mean) / std on the image's device: [B, H, W, 3] uint8 -> [B, 3, H, W] float32, channels last.

    A row of pixels is one long vector here, with mean and std repeated along it: three at a time would be slow.
    """
    columns = image.shape[2]
    rows = image.flatten(2).float().sub_(mean.repeat(columns)).div_(std.repeat(columns))
    return rows.view(image.shape).permute(0, 3, 1, 2)


def _writable(window: np.ndarray, flip: bool) -> Tensor:
    """A copy of a window [rows, columns, 3] of read-only memory, mirrored or not."""
    copy = torch.from_numpy(np.array(window))
    return copy.flip(1) if flip else copy
