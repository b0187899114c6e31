"""Python files of one's own, which a command is given by `--code`: settings of their classes can then be read.

A file becomes a module of the name that it had when it was trained (`mfm_tune.user_files`). Nothing is ever imported
because a model, a checkpoint or a ledger names it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from mfm_tune.user_files import forget_compiled, module_name, origin_elsewhere


def add_code_option(parser: argparse.ArgumentParser) -> None:
    """The option `--code`, which can be repeated."""
    parser.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="FILE",
        help="Python file (or installed module) with classes of your own that the model was made with; repeatable",
    )


def load_code(given: Iterable[str]) -> None:
    """Run files, and import modules that are installed.

    Args:
        given: Paths that end in .py, and dotted names.

    Raises:
        ValueError: One is not there, fails, or has the name of another module.
    """
    for each in given:
        if each.endswith(".py"):
            _load_file(Path(each))
        else:
            _import_installed(each)


def run_file(path: Path, name: str) -> ModuleType:
    """Run a file as a module of this name.

    Raises:
        ValueError: It is no Python file, or fails; the sentence has the line.
    """
    spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ValueError(f"--code must be a Python file, but {path} is none.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    forget_compiled(path)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # whatever the file does, SystemExit included
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 1
        told = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ValueError(f"--code {path}, line {line}: {type(error).__name__}: {told}.") from None
    return module


def _load_file(path: Path) -> None:
    whole = path.resolve()
    try:
        root, name = module_name(whole)
    except ValueError as error:
        raise ValueError(f"--code {error}") from None
    origin = _origin(name, root)
    if origin not in (None, str(whole)):
        raise ValueError(f"--code {path} has the name of another module, '{name}' ({origin}); rename the file.")
    if name in sys.modules:
        return
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # for what lies beside it
    parent, _, last = name.rpartition(".")
    if parent:
        _import_installed(parent)
    module = run_file(whole, name)
    if parent:  # as an import does
        setattr(sys.modules[parent], last, module)


def _origin(name: str, root: Path) -> str | None:
    """Where the module of this name lies that is loaded, or that the file would hide; None where there is none."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return "built in" if file is None else str(Path(file).resolve())
    return origin_elsewhere(name, root)


def _import_installed(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever the module does
        told = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ValueError(
            f"--code must be a Python file, or the name of an installed module, got {name} ({type(error).__name__}: "
            f"{told}); the name of a file ends in .py."
        ) from error
