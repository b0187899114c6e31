"""The command that makes a store which a config asks for. Imports no torch."""

from __future__ import annotations

from trainables.config import PackedPair


def prepare_command(dataset: str, box: tuple[int, int], evaluation_box: tuple[int, int] | None = None) -> str:
    """What to type.

    Args:
        dataset: Name of the data set.
        box: (rows, columns) that training images are fitted into.
        evaluation_box: The same for evaluation images, where the data set is a target.
    """
    name = dataset.upper().replace("-", "_")
    command = f"python -m trainables.data prepare {dataset} --root {name}_FOLDER --out {name}_STORE"
    command += f" --size {box[0]}x{box[1]}"
    if evaluation_box is not None:
        command += f" --evaluation-size {evaluation_box[0]}x{evaluation_box[1]}"
    return command


def source_command(config: PackedPair) -> str:
    """The command for the source's store."""
    return prepare_command(config.source.value, config.source_size)


def target_command(config: PackedPair) -> str:
    """The command for the target's store."""
    return prepare_command(config.target.value, config.target_size, config.evaluation_size)
