"""What `--data` must name: the commands that make the stores of configs, and whether given files are what configs read.

Standard library only: a plan looks too, at the first and last bytes, in a few milliseconds. What lies deeper (sizes of
images, names of tensors) is seen when a trial opens.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainables.config import Experiment, ImageNetWeights, PackedPair, RealPhotographs
from trainables.data.packing.manifest import MANIFEST, Manifest
from trainables.data.splits import LAYOUT, PLACES

REAL_PAIR = "realpair"  # the data set, whatever its folder is called in --data
Box = tuple[int, int]
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save began files with up to 1.5
LARGEST_HEADER = 100_000_000  # bytes, of safetensors


def prepare_command(dataset: str, box: Box | None, evaluation_box: Box | None = None) -> str:
    """What to type.

    Args:
        dataset: Name of the data set.
        box: (rows, columns) that training images are fitted into; None is their native size, which serves every other.
        evaluation_box: The same for evaluation images, where the data set is a target.
    """
    name = _capitals(dataset)
    command = f"python -m trainables.data prepare {dataset} --root {name}_FOLDER --out {store_name(dataset)}"
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
    boxes: dict[str, set[tuple[Box, Box | None]]] = {}
    real: dict[str, str] = {}
    for config in configs:
        if isinstance(config.data, RealPhotographs):
            real[config.data.folder] = prepare_command(REAL_PAIR, None)
        if isinstance(config.data, PackedPair):
            pair = config.data
            boxes.setdefault(pair.source.value, set()).add((pair.source_size, None))
            boxes.setdefault(pair.target.value, set()).add((pair.target_size, pair.evaluation_size))
    pairs = {
        name: prepare_command(name, *sizes.pop()) if len(sizes) == 1 else prepare_command(name, None)
        for name, sizes in boxes.items()
    }
    return pairs | real


def check_given(configs: Iterable[Experiment], data: Mapping[str, str]) -> None:
    """See that stores, folders and weights are there and are the named ones.

    Args:
        configs: What will read them.
        data: Name -> path. What the configs do not read is not looked at.

    Raises:
        ValueError: One is something else.
    """
    read = dict.fromkeys(each for config in configs for each in (config.data, config.initial))  # each once
    for each in read:
        match each:
            case PackedPair(source=source, target=target):
                if source.value in data:
                    _store(source.value, Path(data[source.value])).check_source(Path(data[source.value]))
                if target.value in data:
                    _store(target.value, Path(data[target.value])).check_target(Path(data[target.value]))
            case RealPhotographs(folder=name) if name in data:
                _real_images(name, Path(data[name]))
            case ImageNetWeights() if each.value in data:
                check_weights_file(Path(data[each.value]), f"--data {each.value}")
            case _:
                pass


def _store(name: str, folder: Path) -> Manifest:
    manifest = Manifest.read(folder)
    manifest.check_dataset(name, f"--data {name}={folder}")
    return manifest


def _real_images(name: str, folder: Path) -> None:
    if (folder / MANIFEST).is_file():
        Manifest.read(folder).check_dataset(REAL_PAIR, f"--data {name}={folder}")
        return
    for place in PLACES.values():
        if not any((folder / place / "images").glob("*.*")):
            raise ValueError(
                f"--data {name}={folder} must be a folder with {LAYOUT}, but has no images in {place}/images; give the "
                "folder of the photographs, or a store that `python -m trainables.data prepare realpair` made of it."
            )


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


def _capitals(dataset: str) -> str:
    return dataset.upper().replace("-", "_")
