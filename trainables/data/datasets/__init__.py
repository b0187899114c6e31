"""Data sets, one a module: its layout, label ids and splits as a `DATASET`. The module has the data set's name."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.data.readers import Reader


def dataset_names() -> list[str]:
    """Names of all data sets."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def find_dataset(name: str) -> Reader:
    """The data set of a name."""
    reader: Reader = import_module(f"{__name__}.{name.replace('-', '_')}").DATASET
    return reader
