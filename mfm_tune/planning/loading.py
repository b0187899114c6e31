"""Loading a search-space file by its path, and saying in one sentence what is wrong with it.

The module's name does not depend on where the command was given (`user_files`), so that classes that the file defines
can be pickled, and imported by workers from `Loaded.root`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from mfm_tune.errors import OptionError, SearchSpaceError, in_words
from mfm_tune.fields import shown
from mfm_tune.search_space import Search
from mfm_tune.space import Study
from mfm_tune.user_files import forget_compiled, module_name, origin_elsewhere

D = TypeVar("D", Study, Search)
REPOSITORY = Path(__file__).resolve().parents[2]  # or the folder that the project is installed in
SEARCH_SPACES = Path("search_spaces")
_UNEXPECTED = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class Loaded:
    """What a search-space file declares.

    Args:
        declared: Its studies, or its searches, by profile.
        root: The folder from which the module can be imported by name.
    """

    path: Path
    declared: Mapping[str, Study | Search]
    root: Path


def find_search_space(given: Path) -> Path:
    """The file that is meant: `table2` is `search_spaces/table2.py`, the one here or the one that was installed.

    Raises:
        SearchSpaceError: There is no such file; the sentence names the one with the closest name, where one is close.
    """
    if given.exists():
        return given
    folders = (SEARCH_SPACES, REPOSITORY / SEARCH_SPACES) if len(given.parts) == 1 else (given.parent,)
    file = given.with_suffix(".py") if given.suffix != ".py" else given
    for folder in folders:
        if (folder / file.name).is_file():
            return folder / file.name
    there = {path.stem: path for folder in reversed(folders) for path in _files(folder)}
    close = difflib.get_close_matches(file.stem, there, n=1)
    if not close:
        raise SearchSpaceError(f"The search space {given} does not exist; give the path of a Python file.")
    raise SearchSpaceError(f"The search space {given} does not exist; did you mean {there[close[0]]}?")


def is_search_space(given: Path) -> bool:
    """Whether a path or a name is that of a search space."""
    try:
        return find_search_space(given).is_file()
    except SearchSpaceError:
        return False


def load_search_space(path: Path) -> Loaded:
    """Run a search-space file and take its `STUDIES` (by profile) or its one `STUDY`, `SEARCHES` or its one `SEARCH`.

    Raises:
        SearchSpaceError: The file does not exist, raises, or declares none of these; the sentence names file and line.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SearchSpaceError(f"The search space {path} {what}; give the path of a Python file.")
    if path.suffix != ".py":
        raise SearchSpaceError(f"The search space {path} must be a Python file, and its name must end in .py.")
    try:
        root, name = module_name(path.resolve())
    except ValueError as error:
        raise SearchSpaceError(f"The search space {error}") from None
    with errors_with_place(path):
        module = _run(path.resolve(), root, name)
        studies = _by_profile(module, Study, "STUDIES", "STUDY")
        searches = _by_profile(module, Search, "SEARCHES", "SEARCH")
        _check_one_kind(studies, searches)
    return Loaded(path, studies or searches, root)


def summaries(folder: Path) -> list[tuple[Path, str]]:
    """The search spaces in a folder, each with the first sentence of its docstring; nothing is run.

    Raises:
        OptionError: There is no such folder.
    """
    if not folder.is_dir():
        raise OptionError(
            f"No search space is given, and there is no folder {folder} here to list; "
            "give the path of one: python -m mfm_tune.run FILE."
        )
    return [(path, _first_sentence(path)) for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]


def _first_sentence(path: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError, OSError):
        return "(cannot be parsed)"
    if not text:
        return "(no docstring)"
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.strip()


def _run(path: Path, root: Path, name: str) -> ModuleType:
    for folder in (str(REPOSITORY), str(root)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    importlib.invalidate_caches()
    _refuse_hiding(path, root, name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SearchSpaceError(f"The search space {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    forget_compiled(path)
    spec.loader.exec_module(module)
    parent, _, last = name.rpartition(".")
    if parent:  # as an import does; else `from package import module` would find an older one
        setattr(sys.modules[parent], last, module)
    return module


def _refuse_hiding(path: Path, root: Path, name: str) -> None:
    """A worker imports the module by name, so that name must lead to this file and hide nothing else."""
    parent = name.rpartition(".")[0]
    if parent:
        importlib.import_module(parent)
    origin: str | None
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None) or "built in"
    elif parent:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None else spec.origin or "built in"
    else:
        origin = origin_elsewhere(name, root)
    if origin is not None and Path(origin).resolve() != path:
        raise SearchSpaceError(
            f"The search space {path.name} has the name of another module, '{name}' ({origin}); rename the file."
        )


def _check_one_kind(studies: Mapping[str, Study], searches: Mapping[str, Search]) -> None:
    if studies and searches:
        raise SearchSpaceError("it defines both studies and searches; put the searches into a file of their own.")
    if not studies and not searches:
        raise SearchSpaceError(
            "it must define STUDY, a Study, or STUDIES, a mapping from profile to Study, or likewise SEARCH or "
            "SEARCHES; it defines none of them."
        )


def _by_profile(module: ModuleType, kind: type[D], many: str, one: str) -> Mapping[str, D]:
    declared, single = getattr(module, many, None), getattr(module, one, None)
    if declared is not None and single is not None:
        raise SearchSpaceError(f"it defines both {one} and {many}; put {one} into {many}, or leave one of them out.")
    if single is not None and not isinstance(single, kind):
        raise SearchSpaceError(f"{one} must be a {kind.__name__}, got {shown(single)}; correct the file.")
    if declared is None:
        declared = {} if single is None else {single.profile: single}
    if not isinstance(declared, Mapping):
        raise SearchSpaceError(f"{many} must map profiles to {many.capitalize()}, got {type(declared).__name__}.")
    for profile, experiment in declared.items():
        if not isinstance(experiment, kind):
            raise SearchSpaceError(
                f"{many} must map profiles to {many.capitalize()}; '{profile}' is a {type(experiment).__name__}."
            )
        if experiment.profile != profile:
            what = kind.__name__.lower()
            raise SearchSpaceError(
                f"{many} has profile '{profile}' for a {what} whose profile is '{experiment.profile}'; make them equal."
            )
    return dict(declared)


# --------------------------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------------------------


@contextmanager
def errors_with_place(path: Path) -> Iterator[None]:
    """Turn what a search-space file raises into one sentence with the file and line."""
    try:
        yield
    except SyntaxError as error:
        where = path if error.filename == str(path.resolve()) else error.filename
        raise SearchSpaceError(f"{where}:{error.lineno}: {error.msg}; correct the syntax.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may raise anything, SystemExit included
        raise SearchSpaceError(f"{_place(error, path)}: {_sentence(error)}") from error


def _place(error: BaseException, path: Path) -> str:
    """`FILE:LINE` of the innermost line of the file that took part in the error, or in that of its causes.

    Where the file's own classes check themselves, the line that gave the wrong value is meant, not the check.
    """
    line = None
    for cause in _chain(error):
        for frame in traceback.extract_tb(cause.__traceback__):
            if Path(frame.filename).resolve() == path.resolve() and frame.name not in ("__init__", "__post_init__"):
                line = frame.lineno
    return f"{path}:{line}" if line else str(path)


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _sentence(error: BaseException) -> str:
    unexpected = next((cause for cause in _chain(error) if isinstance(cause, TypeError)), None)
    found = _UNEXPECTED.search(str(unexpected)) if unexpected else None
    if found:
        return _wrong_field(found.group(1), found.group(2))
    return in_words(error)


def _wrong_field(owner: str, name: str) -> str:
    owner = owner.removesuffix(".__init__")
    fields = _parameters(owner)
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    among = f" (it has {', '.join(fields)})" if fields else ""
    return f"{owner} has no field '{name}'{among}{hint}"


def _parameters(owner: str) -> list[str]:
    """The fields of a dataclass, or the parameters of a function, of this name in any module that is loaded."""
    last = owner.rpartition(".")[2]
    for module in list(sys.modules.values()):
        found = vars(module).get(last) if isinstance(module, ModuleType) else None
        if getattr(found, "__qualname__", None) != owner:
            continue
        if isinstance(found, type) and dataclasses.is_dataclass(found):
            return [item.name for item in dataclasses.fields(found)]
        if inspect.isfunction(found):
            return _named(found)
    return []


def _named(function: Callable[..., object]) -> list[str]:
    return [name for name, each in inspect.signature(function).parameters.items() if each.kind is not each.VAR_KEYWORD]
