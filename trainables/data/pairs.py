"""From the settings of a pair to its domains: which stores or folder it needs, how they are drawn and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trainables.config import PackedPair, RealPhotographs
from trainables.data.classes import CAMVID_CLASSES, CITYSCAPES_CLASSES
from trainables.data.domains import Opening
from trainables.data.given import check_classes, prepare_command
from trainables.data.holdout import Division, divide, without
from trainables.data.images import StoredImages, open_image_pair
from trainables.data.labels import pixels_by_class, view_of
from trainables.data.packing.format import Store
from trainables.data.packing.manifest import StoreError
from trainables.data.sampling import Among, EqualParts, RareClasses, Sampler
from trainables.data.scored import CAMVID_MEANS, evaluated_classes, evaluated_means
from trainables.data.splits import LAYOUT, Split
from trainables.data.stored_pair import Pair, StoredDomains


def open_packed_pair(config: PackedPair, opening: Opening) -> StoredDomains:
    """Open the stores of a source and a target.

    Args:
        config: Which stores and sizes.
        opening: Paths, device and draws; of margins, those that are measured on the whole image are used here.

    Raises:
        ValueError: A store is missing (the message names its command), damaged, or made for other sizes, the two have
            different classes, or the holdout leaves nothing to train on.
    """
    source = _open(config.source, prepare_command(config.source, config.source_size), opening.data)
    command = prepare_command(config.target, config.target_size, config.evaluation_size)
    target = _open(config.target, command, opening.data)
    source.manifest.check_source(source.folder)
    scored = target.manifest.check_target(target.folder)
    check_classes(config, {str(store.folder): store.manifest.classes for store in (source, target)})
    images = source.split(Split.TRAIN)
    images.check_box(config.source_size)
    unlabelled = target.split(Split.TRAIN)
    unlabelled.check_box(config.target_size)
    evaluated = target.split(scored)
    evaluated.check_box(config.evaluation_size, "--evaluation-size")
    division = divide(len(images), opening.holdout)
    uniform, sampling = Among(division.training), opening.sampling
    classes = source.manifest.classes
    pair = Pair(
        source=StoredImages(images, config.source_size),
        sampler=uniform if sampling is None else RareClasses(without(images.pixels, division.held_out), sampling),
        pre_training_sampler=uniform,
        held_out=tuple(division.held_out.tolist()),
        target=StoredImages(unlabelled, config.target_size),
        validation=StoredImages(evaluated, config.evaluation_size, own_label_size=True),
        classes=classes,
        view=view_of(evaluated_classes(classes, config.target), classes),
        means=evaluated_means(classes, config.source, config.target),
        no_oracle=f"{target.folder} must hold labels of its training images for the oracle, but has none.",
    )
    return StoredDomains(pair, config, opening)


def open_real_photographs(config: RealPhotographs, opening: Opening) -> StoredDomains:
    """Open the store of a pair with real images, or read its folder (once a process).

    Args:
        config: Which folder, and sizes.
        opening: As in `open_packed_pair`; without rare-class sampling, parts, then images, have equal chance.

    Raises:
        ValueError: No path is given, the folder lacks images or labels, a file of it is broken, the store cannot be
            used, or the holdout leaves nothing to train on.
    """
    if config.folder not in opening.data:
        raise ValueError(
            f"The folder '{config.folder}' of photographs is not given; add --data {config.folder}=PATH, a folder with "
            f"{LAYOUT}, or a store that `python -m trainables.data prepare realpair` made of it."
        )
    images = open_image_pair(Path(opening.data[config.folder]), config.evaluation_size)
    division = divide(len(images.source), opening.holdout)
    parts = EqualParts(tuple(_kept(part, division) for part in images.parts))
    sampler: Sampler = parts
    if opening.sampling is not None:
        counts = np.stack([pixels_by_class(images.source.label(index)) for index in range(len(images.source))])
        sampler = RareClasses(without(counts, division.held_out), opening.sampling)
    pair = Pair(
        source=images.source,
        sampler=sampler,
        pre_training_sampler=parts,
        held_out=tuple(division.held_out.tolist()),
        target=images.target,
        validation=images.validation,
        classes=CITYSCAPES_CLASSES,
        view=view_of(CAMVID_CLASSES, CITYSCAPES_CLASSES),
        means=CAMVID_MEANS,
        no_oracle=(
            f"The oracle needs labels of the target's training images, and the folder '{config.folder}' has no "
            "target/train/labels; add them, or leave the oracle out."
        ),
    )
    return StoredDomains(pair, config, opening, torch.contiguous_format)


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


def _open(name: str, command: str, data: Mapping[str, str]) -> Store:
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
