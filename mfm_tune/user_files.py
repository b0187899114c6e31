"""A Python file of one's own as a module: the name it gets, and who else has that name.

The name does not depend on where a command was given: it is the dotted name where the file lies in a package, else the
file's own. So classes that it defines are found again by a worker, and by whoever reads what was made with them.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import cache_from_source
from pathlib import Path


def module_name(path: Path) -> tuple[Path, str]:
    """The folder to import a file from, and its dotted name: packages above the file are part of it.

    Args:
        path: Resolved.

    Raises:
        ValueError: It cannot be imported by such a name; the sentence begins with the file's.
    """
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    for part in parts:
        if not part.isidentifier():
            raise ValueError(f"{path.name} cannot be imported as '{part}'; use letters, digits and '_' in its name.")
    return folder, ".".join(parts)


def forget_compiled(path: Path) -> None:
    """Remove what Python has compiled of a file: it takes that for the file's as long as size and second of the last
    change are equal, so that a file that is changed at once would be run as it was before."""
    with suppress(OSError, NotImplementedError):  # a folder that cannot be written; an interpreter without such files
        Path(cache_from_source(str(path))).unlink(missing_ok=True)


def origin_elsewhere(name: str, root: Path) -> str | None:
    """Where a module of this name lies that is none of `root`; None where there is none."""
    if name in sys.stdlib_module_names:
        return "the standard library's"
    spec = PathFinder.find_spec(name, [entry for entry in sys.path if Path(entry).resolve() != root])
    return None if spec is None else spec.origin or "built in"
