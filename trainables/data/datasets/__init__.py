"""Data sets, one a module: its layout, label ids and splits as a `DATASET`. The module has the data set's name.

A data set of one's own is such a module anywhere: `--code FILE` names it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

from mfm_tune.fields import FileName
from trainables.user_code import run_file

if TYPE_CHECKING:
    from trainables.data.readers import Reader

PREFIX = "data_set_"  # of the modules that files of one's own become, so that none hides another


def dataset_names() -> list[str]:
    """Names of all data sets that come with the package."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def find_dataset(name: str) -> Reader:
    """The data set of a name."""
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    reader: Reader = module.DATASET
    return replace(reader, layout=_first_line(module))


def load_dataset(path: Path) -> Reader:
    """The data set of a file of one's own, which is run.

    Raises:
        ValueError: It is not there, fails, or has no `DATASET`.
    """
    from trainables.data.readers import Reader

    module = run_file(path, PREFIX + path.stem)
    reader = getattr(module, "DATASET", None)
    if not isinstance(reader, Reader):
        raise ValueError(f"--code {path} must have a DATASET = Reader(...), got {reader!r}.")
    if not FileName().fits(reader.dataset):
        raise ValueError(f"--code {path}: DATASET.dataset must {FileName().wanted}, got {reader.dataset!r}.")
    if reader.dataset in dataset_names():
        raise ValueError(f"--code {path}: DATASET.dataset must be a name of its own, got {reader.dataset!r}.")
    return replace(reader, file_digest=hashlib.sha256(path.read_bytes()).hexdigest(), layout=_first_line(module))


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n")[0]
