"""What `--data` must name: the commands that make the stores of configs, and whether given files are what configs read.

Standard library only: a plan looks too, at the first and last bytes, in a few milliseconds. What lies deeper (sizes of
images, names of tensors) is seen when a trial opens.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from trainables.config import Experiment, ImageNetWeights, PackedPair, Pretrained, RealPhotographs
from trainables.data.classes import CITYSCAPES_CLASSES, OTHER_CLASSES
from trainables.data.datasets import dataset_names
from trainables.data.packing.manifest import MANIFEST, Manifest, StoreError, known_manifest
from trainables.data.splits import LAYOUT, PLACES
from trainables.experiment.data import StoreUse
from trainables.experiment.weights import published_encoder

FOLDER = "folder"  # what `prepare` calls one's own data
REAL_PAIR = "realpair"  # the data set, whatever its folder is called in --data
Box = tuple[int, int]
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save began files with up to 1.5
LARGEST_HEADER = 100_000_000  # bytes, of safetensors


def prepare_command(
    dataset: str, box: Box | None, evaluation_box: Box | None = None, *, evaluated: bool | None = None
) -> str:
    """What to type.

    Args:
        dataset: Name of the data set; one that nobody knows is a folder of one's own.
        box: (rows, columns) that training images are fitted into; None is their native size, which serves every other.
        evaluation_box: The same for evaluation images, where the data set is a target.
        evaluated: Whether it is a target; None is where it has an `evaluation_box`.
    """
    name = _capitals(dataset)
    files = f"{dataset} --root {name}_FOLDER"
    if dataset not in _known():
        files = f"{FOLDER} --name {dataset} --images {name}_IMAGES --labels {name}_LABELS --classes {name}_TABLE"
        evaluated = evaluation_box is not None if evaluated is None else evaluated
        files += " --validation 0.2" if evaluated else ""
    command = f"python -m trainables.data prepare {files} --out {store_name(dataset)}"
    command += " --size native" if box is None else f" --size {box[0]}x{box[1]}"
    if evaluation_box is not None:
        command += f" --evaluation-size {evaluation_box[0]}x{evaluation_box[1]}"
    return command


def store_name(dataset: str) -> str:
    """What commands call the store of a data set."""
    return f"{_capitals(dataset)}_STORE"


def store_commands(configs: Iterable[Experiment]) -> dict[str, str]:
    """For each name in --data that the configs read from a store, the command that makes a store for all of them.

    Configs that see a data set at different sizes (HRDA's is twice DAFormer's) share a store of native size.
    """
    uses: dict[str, set[StoreUse]] = {}
    for config in configs:
        for use in config.data.stores():
            uses.setdefault(use.name, set()).add(use)
    return {name: _command(wanted) for name, wanted in uses.items()}


def _command(uses: Collection[StoreUse]) -> str:
    first, *others = uses
    if others:
        return prepare_command(first.dataset, None, evaluated=any(use.evaluation_box for use in uses))
    return prepare_command(first.dataset, first.box, first.evaluation_box)


def check_given(configs: Iterable[Experiment], data: Mapping[str, str]) -> None:
    """See that stores, folders and weights are there and are the named ones.

    Args:
        configs: What will read them.
        data: Name -> path. What the configs do not read is not looked at.

    Raises:
        ValueError: One is something else.
    """
    configs = list(configs)
    for pair in dict.fromkeys(config.data for config in configs):  # each once
        pair.check(data)
    for name in _names_of_weights(configs):
        if name in data:
            check_weights_file(Path(data[name]), f"--data {name}")


def _names_of_weights(configs: Iterable[Experiment]) -> Iterator[str]:
    for initial, network in dict.fromkeys((config.initial, config.network) for config in configs):
        match initial:
            case ImageNetWeights():
                yield initial.value
            case Pretrained():
                yield published_encoder(network).weights_name


# -- stores ------------------------------------------------------------------------------------------------------------


def check_stores(pair: PackedPair, data: Mapping[str, str]) -> None:
    """See that given stores are those of a pair's names, can be its source and target, and have its classes.

    Raises:
        ValueError: One cannot.
    """
    found = {name: _store(name, Path(data[name])) for name in (pair.source, pair.target) if name in data}
    if pair.source in found:
        found[pair.source].check_source(Path(data[pair.source]))
    if pair.target in found:
        found[pair.target].check_target(Path(data[pair.target]))
    check_classes(pair, {f"--data {name}={data[name]}": manifest.classes for name, manifest in found.items()})


def check_classes(pair: PackedPair, stores: Mapping[str, tuple[str, ...]]) -> None:
    """See that stores have the classes of a pair, or all the same where it names none.

    Args:
        pair: Of these stores.
        stores: What names a store, such as `--data gta=PATH` -> its classes.

    Raises:
        ValueError: They differ; the sentence says in what.
    """
    wanted = {} if pair.classes is None else {"PackedPair.classes": pair.classes}
    (first, classes), *others = {**wanted, **stores}.items() or [("", ())]
    for name, own in others:
        if own != classes:
            raise StoreError(
                f"{name} must have the classes of {first}, in their order, but {differing(classes, own)}; prepare the "
                f"folder of one's own again with --class-list STORE{', or correct the setting' if wanted else ''}."
            )


def differing(wanted: tuple[str, ...], own: tuple[str, ...]) -> str:
    """In what two lists of classes differ: `lacks fern and has moss instead`."""
    missing, further = (
        ", ".join(name for name in one if name not in other) for one, other in ((wanted, own), (own, wanted))
    )
    if missing and further:
        return f"lacks {missing} and has {further} instead"
    if missing or further:
        return f"lacks {missing}" if missing else f"has {further} besides"
    place = next(index for index, (one, other) in enumerate(zip(wanted, own, strict=True)) if one != other)
    return f"class {place} is {own[place]} where it is {wanted[place]} there"


def classes_of(pair: PackedPair, data: Mapping[str, str]) -> tuple[str, ...]:
    """The classes of a pair's stores: as its settings name them, else those of a given store, else of a known data set.

    None of them where nothing is known yet. A store that cannot be read, or two that differ, are passed over here:
    `check_stores` refuses them.
    """
    if pair.classes is not None:
        return pair.classes
    found = {_classes_in(Path(data[name])) for name in (pair.source, pair.target) if name in data} - {()}
    if found:
        return found.pop() if len(found) == 1 else ()
    known = [name for name in (pair.target, pair.source) if name in _known()]
    return OTHER_CLASSES.get(known[0], CITYSCAPES_CLASSES) if known else ()


def _classes_in(folder: Path) -> tuple[str, ...]:
    manifest = known_manifest(folder)
    return () if manifest is None else manifest.classes


def _store(name: str, folder: Path) -> Manifest:
    given = f"--data {name}={folder}"
    manifest = Manifest.read(folder, given)
    manifest.check_dataset(name, given)
    return manifest


def check_real_images(pair: RealPhotographs, data: Mapping[str, str]) -> None:
    """See that a given folder has images, or is a store of such a folder.

    Raises:
        ValueError: It has none.
    """
    name = pair.folder
    if name not in data:
        return
    folder = Path(data[name])
    if (folder / MANIFEST).is_file():
        Manifest.read(folder).check_dataset(REAL_PAIR, f"--data {name}={folder}")
        return
    for place in PLACES.values():
        if not any((folder / place / "images").glob("*.*")):
            raise ValueError(
                f"--data {name}={folder} must be a folder with {LAYOUT}, but has no images in {place}/images; give the "
                "folder of the photographs, or a store that `python -m trainables.data prepare realpair` made of it."
            )


# -- weights -----------------------------------------------------------------------------------------------------------


def check_weights_file(path: Path, given: str) -> None:
    """See that a file can be one of weights: safetensors, or what torch.save writes.

    Args:
        path: The file.
        given: What names it, such as `--data mit-b5`.

    Raises:
        ValueError: It is a folder, cut off, or something else.
    """
    if not path.is_file():
        raise ValueError(
            f"{given}={path} must be a file of weights, but is no file; give a .pth, .bin or .safetensors file."
        )
    if not (_is_safetensors(path) if path.suffix == ".safetensors" else _is_of_torch(path)):
        raise ValueError(
            f"{given}={path} must be a file of weights, but is cut off or something else; fetch it again, or give "
            "another .pth, .bin or .safetensors file."
        )


def _is_safetensors(path: Path) -> bool:
    """Eight bytes of length, a JSON header, and as many bytes as it announces."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > LARGEST_HEADER:
            return False
        try:
            header = json.loads(file.read(size))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return bool(ends) and 8 + size + max(ends) == os.fstat(file.fileno()).st_size
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False


def _is_of_torch(path: Path) -> bool:
    """A whole zip file with a pickle, or the first bytes of the older format."""
    with open(path, "rb") as file:
        if file.read(len(LEGACY_TORCH)) == LEGACY_TORCH:
            return True
    try:
        with zipfile.ZipFile(path) as parts:
            return any(name.endswith("/data.pkl") for name in parts.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


@cache
def _known() -> frozenset[str]:
    """Names of data sets that have a reader."""
    return frozenset(dataset_names())


def _capitals(dataset: str) -> str:
    return dataset.upper().replace("-", "_")
