"""Data sets, one a module: its layout, label ids and splits as a `DATASET`. The module has the data set's name.

A data set of one's own is such a module anywhere: `--code FILE` names it.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.data.readers import Reader

PREFIX = "data_set_"  # of the modules that files of one's own become, so that none hides another


def dataset_names() -> list[str]:
    """Names of all data sets that come with the package."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def find_dataset(name: str) -> Reader:
    """The data set of a name."""
    reader: Reader = import_module(f"{__name__}.{name.replace('-', '_')}").DATASET
    return reader


def load_dataset(path: Path) -> Reader:
    """The data set of a file of one's own, which is run.

    Raises:
        ValueError: It is not there, fails, or has no `DATASET`.
    """
    spec = importlib.util.spec_from_file_location(PREFIX + path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ValueError(f"--code must be a Python file with a DATASET, but {path} is none.")
    from trainables.data.readers import Reader

    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 1
        raise ValueError(f"--code {path}, line {line}: {type(error).__name__}: {error}.") from None
    reader = getattr(module, "DATASET", None)
    if not isinstance(reader, Reader):
        raise ValueError(f"--code {path} must have a DATASET = Reader(...), got {reader!r}.")
    if reader.dataset in dataset_names():
        raise ValueError(f"--code {path}: DATASET.dataset must be a name of its own, got {reader.dataset!r}.")
    return reader
