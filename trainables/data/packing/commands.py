"""The command that makes a store which a config asks for. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from trainables.config import Experiment, PackedPair, RealPhotographs

PHOTOGRAPHS = "realpair"  # the data set, whatever its folder is called in --data

Box = tuple[int, int]


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
    photographs: dict[str, str] = {}
    for config in configs:
        if isinstance(config.data, RealPhotographs):
            photographs[config.data.folder] = prepare_command(PHOTOGRAPHS, None)
        if isinstance(config.data, PackedPair):
            pair = config.data
            boxes.setdefault(pair.source.value, set()).add((pair.source_size, None))
            boxes.setdefault(pair.target.value, set()).add((pair.target_size, pair.evaluation_size))
    pairs = {
        name: prepare_command(name, *sizes.pop()) if len(sizes) == 1 else prepare_command(name, None)
        for name, sizes in boxes.items()
    }
    return pairs | photographs


def source_command(config: PackedPair) -> str:
    """The command for the source's store."""
    return prepare_command(config.source.value, config.source_size)


def target_command(config: PackedPair) -> str:
    """The command for the target's store."""
    return prepare_command(config.target.value, config.target_size, config.evaluation_size)


def _capitals(dataset: str) -> str:
    return dataset.upper().replace("-", "_")
