"""Published weights that trials start from: found on this machine, or got where the user asked for it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mfm_tune.errors import OptionError, SearchSpaceError, StorageError
from mfm_tune.program import PublishedWeights, Weights
from mfm_tune.search_space import Choice, Search
from mfm_tune.space import Study


def weights_of(declared: Study | Search) -> dict[str, Weights]:
    """What is published of the weights that a study or search starts from, by the names that `--data` may give."""
    if not isinstance(declared.program, PublishedWeights):
        return {}
    return {each.name: each for each in declared.program.weights(list(_configs(declared)))}


def find_weights(
    weights: Iterable[Weights], *, download: bool, only_say: bool, say: Callable[[str], None]
) -> dict[str, str]:
    """Where published weights lie on this machine, by name.

    Args:
        weights: Those that are not given by file.
        download: Get what is missing.
        only_say: Get nothing, and say what would be.

    Raises:
        OptionError: Some are missing and are not to be got, or cannot be; nothing has been trained.
    """
    try:
        found = {each: each.cached() for each in weights}
        missing = [each for each, path in found.items() if path is None]
        if missing and not download:
            raise OptionError(_what_to_type(missing))
        for each in missing:
            if only_say:
                say(f"--download would get '{each.name}': {each.description()}.")
            else:
                found[each] = each.download(say)
    except (ValueError, OSError) as error:
        raise OptionError(str(error)) from error
    return {each.name: path for each, path in found.items() if path is not None}


def copied_into(folder: Path, found: Mapping[str, str]) -> dict[str, str]:
    """Copies of files in a folder that all machines share, named by their content; those that are there stay.

    Raises:
        StorageError: The folder cannot be written.
    """
    try:
        return {name: str(_copied(folder, name, Path(path))) for name, path in found.items()}
    except OSError as error:
        raise StorageError(
            f"Weights cannot be written to {folder}: {error.strerror}; free space, or give another --storage."
        ) from error


def _copied(folder: Path, name: str, path: Path) -> Path:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    copy = folder / f"{name}-{digest[:16]}{path.suffix}"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = folder / f".{copy.name}.half"
        try:
            shutil.copyfile(path, half)
            half.replace(copy)
        finally:
            half.unlink(missing_ok=True)
    return copy


def _what_to_type(missing: Iterable[Weights]) -> str:
    listed = ", ".join(f"'{each.name}' ({each.description()})" for each in missing)
    files = " ".join(f"{each.name}=PATH" for each in missing)
    return (
        f"Weights to start from are neither given nor on this machine: {listed}; nothing is downloaded unasked, so add "
        f"--download, or give files by --data {files}."
    )


def _configs(declared: Study | Search) -> Iterator[Any]:
    """Configs that name all weights; of a search those of its baselines, and one for each option of each choice."""
    yield from declared.configs().values()
    if isinstance(declared, Study):
        return
    others = {name: each.grid(1)[0] for name, each in declared.parameters.items()}
    for name, each in declared.parameters.items():
        for option in each.options if isinstance(each, Choice) else ():
            with suppress(ValueError, SearchSpaceError):  # a combination that is none
                yield declared.config({**others, name: option})
