"""From the settings of a pair to its domains: which stores or folder it needs, how they are drawn and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trainables.config import (
    Margins,
    PackedPair,
    RareClassSampling,
    RealPhotographs,
    SourceDataset,
    SourceHoldout,
    TargetDataset,
)
from trainables.data.given import prepare_command
from trainables.data.holdout import Division, divide, without
from trainables.data.images import StoredImages, open_image_pair
from trainables.data.labels import pixels_by_class, view_of
from trainables.data.packing.format import Store
from trainables.data.packing.manifest import StoreError
from trainables.data.sampling import Among, EqualParts, RareClasses, Sampler
from trainables.data.scored import further_means, scored_classes
from trainables.data.splits import LAYOUT, Split
from trainables.data.stored_pair import Pair, StoredDomains


def open_packed_pair(
    config: PackedPair,
    data: Mapping[str, str],
    device: torch.device,
    sampling: RareClassSampling | None = None,
    margins: Margins | None = None,
    holdout: SourceHoldout | None = None,
) -> StoredDomains:
    """Open the stores of a source and a target.

    Args:
        config: Which stores and sizes.
        data: Dataset name -> path of its store.
        device: Where batches end up.
        sampling: Rare-class sampling of the source; None draws images uniformly.
        margins: Where pseudo-labels of the target do not count; used here where they are measured on the whole image.
        holdout: Of the source; None trains on all of it.

    Raises:
        ValueError: A store is missing (the message names its command), damaged, or made for other sizes, or the holdout
            leaves nothing to train on.
    """
    source = _open(config.source, prepare_command(config.source.value, config.source_size), data)
    target = _open(
        config.target, prepare_command(config.target.value, config.target_size, config.evaluation_size), data
    )
    source.manifest.check_source(source.folder)
    images = source.split(Split.TRAIN)
    images.check_box(config.source_size)
    unlabelled = target.split(Split.TRAIN)
    unlabelled.check_box(config.target_size)
    evaluated = target.split(target.manifest.check_target(target.folder))
    evaluated.check_box(config.evaluation_size, "--evaluation-size")
    division = divide(len(images), holdout)
    uniform = Among(division.training)
    pair = Pair(
        source=StoredImages(images, config.source_size),
        sampler=uniform if sampling is None else RareClasses(without(images.pixels, division.held_out), sampling),
        pre_training_sampler=uniform,
        held_out=tuple(division.held_out.tolist()),
        target=StoredImages(unlabelled, config.target_size),
        validation=StoredImages(evaluated, config.evaluation_size, own_label_size=True),
        view=view_of(scored_classes(config)),
        means=further_means(config),
        no_oracle=f"{target.folder} must hold labels of its training images for the oracle, but has none.",
    )
    return StoredDomains(pair, config, margins, device)


def open_real_photographs(
    config: RealPhotographs,
    data: Mapping[str, str],
    device: torch.device,
    sampling: RareClassSampling | None = None,
    margins: Margins | None = None,
    holdout: SourceHoldout | None = None,
) -> StoredDomains:
    """Open the store of a pair with real images, or read its folder (once a process).

    Args:
        config: Which folder, and sizes.
        data: Name -> path of the folder or of its store.
        device, margins, holdout: As in `open_packed_pair`.
        sampling: Rare-class sampling of the source; None draws parts, then images, with equal chance.

    Raises:
        ValueError: No path is given, the folder lacks images or labels, a file of it is broken, the store cannot be
            used, or the holdout leaves nothing to train on.
    """
    if config.folder not in data:
        raise ValueError(
            f"The folder '{config.folder}' of photographs is not given; add --data {config.folder}=PATH, a folder with "
            f"{LAYOUT}, or a store that `python -m trainables.data prepare realpair` made of it."
        )
    images = open_image_pair(Path(data[config.folder]), config.evaluation_size)
    division = divide(len(images.source), holdout)
    parts = EqualParts(tuple(_kept(part, division) for part in images.parts))
    sampler: Sampler = parts
    if sampling is not None:
        counts = np.stack([pixels_by_class(images.source.label(index)) for index in range(len(images.source))])
        sampler = RareClasses(without(counts, division.held_out), sampling)
    pair = Pair(
        source=images.source,
        sampler=sampler,
        pre_training_sampler=parts,
        held_out=tuple(division.held_out.tolist()),
        target=images.target,
        validation=images.validation,
        view=view_of(scored_classes(config)),
        means=further_means(config),
        no_oracle=(
            f"The oracle needs labels of the target's training images, and the folder '{config.folder}' has no "
            "target/train/labels; add them, or leave the oracle out."
        ),
    )
    return StoredDomains(pair, config, margins, device, torch.contiguous_format)


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
