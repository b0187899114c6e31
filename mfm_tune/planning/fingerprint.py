"""The fingerprint of the training code: a hash over syntax trees, so that comments and docstrings do not change it.

Results of other code are never mixed in silently. The fingerprint covers every module of the program's packages and,
for a config whose classes are defined elsewhere (in a search space, say), the modules that define them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm_tune.errors import SearchSpaceError
from mfm_tune.identity import defining_modules


@dataclass(frozen=True)
class Fingerprint:
    """A hash of the training code, and that of each of its files by name.

    Args:
        digest: 64 hexadecimal digits.
        files: File name, such as `trainables/training.py`, -> hash of its syntax tree.
    """

    digest: str
    files: Mapping[str, str]


class TrainingCode:
    """Reads and hashes the code of a program once, and answers for each config.

    Args:
        packages: Names of packages or modules; they are found as Python would import them, but not imported.

    Raises:
        SearchSpaceError: A package cannot be found, or one of its files cannot be parsed.
    """

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        self._files: dict[str, str] = {}
        for package in packages:
            for name, path in _files_of_package(package):
                self._files[name] = hash_of_source(path)
        self._by_modules: dict[frozenset[str], Fingerprint] = {}

    @property
    def files(self) -> Mapping[str, str]:
        """The hash of each file of the packages by name."""
        return dict(self._files)

    def fingerprint(self, config: Any) -> Fingerprint:
        """The fingerprint of the code that trains a config."""
        own = frozenset(name for name in defining_modules(config) if not self._covers(name))
        if own not in self._by_modules:
            files = dict(self._files)
            for module in own:
                path = _file_of_module(module)
                if path is not None:
                    files[f"{module.replace('.', '/')}.py"] = hash_of_source(path)
            self._by_modules[own] = Fingerprint(_digest(files), files)
        return self._by_modules[own]

    def digests(self, configs: Mapping[str, Any]) -> dict[str, str]:
        """The digest of each config's fingerprint, under the names that the configs have."""
        return {name: self.fingerprint(config).digest for name, config in configs.items()}

    def _covers(self, module: str) -> bool:
        return any(module == package or module.startswith(package + ".") for package in self._packages)


def changed_files(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the files that differ between two fingerprints, came or went, sorted."""
    return tuple(name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name))


def hash_of_source(path: Path) -> str:
    """A hash of a file's syntax tree, without comments, docstrings and layout.

    Raises:
        SearchSpaceError: The file cannot be read or parsed.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise SearchSpaceError(f"{path}:{line}: the training code cannot be parsed ({error}); correct it.") from error
    except OSError as error:
        raise SearchSpaceError(f"The training code {path} cannot be read: {error.strerror}.") from error
    parts: list[str] = []
    _write_node(tree, parts)
    return hashlib.sha256("".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _digest(files: Mapping[str, str]) -> str:
    text = "\n".join(f"{name} {files[name]}" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _write_node(node: ast.AST, parts: list[str]) -> None:
    """Append a node as text. Empty and absent fields are left out, so that all Python versions write the same."""
    kind = type(node)
    parts.append(f"({kind.__name__}")
    for name in kind._fields:
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, _WITH_DOCSTRING):
            value = _without_docstring(node.body)
        if value is None and kind is not ast.Constant:
            continue
        if isinstance(value, ast.AST):
            parts.append(f" {name}=")
            _write_node(value, parts)
        elif isinstance(value, list):
            if value:
                _write_list(name, value, parts)
        elif name != "kind":  # u"text" is "text"
            parts.append(f" {name}={value!r}")
    parts.append(")")


def _write_list(name: str, values: list[Any], parts: list[str]) -> None:
    parts.append(f" {name}=[")
    for value in values:
        if isinstance(value, ast.AST):
            _write_node(value, parts)
        else:
            parts.append(repr(value))
        parts.append(",")
    parts.append("]")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
        case _:
            return body


def _files_of_package(package: str) -> Iterator[tuple[str, Path]]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a relative name, or one below what is no package
        spec = None
    if spec is None:
        raise SearchSpaceError(f"The program names the package '{package}', which cannot be found; correct `packages`.")
    if not spec.submodule_search_locations:
        if spec.origin is not None:
            yield f"{package.replace('.', '/')}.py", Path(spec.origin)
        return
    for location in spec.submodule_search_locations:
        root = Path(location)
        for path in sorted(root.rglob("*.py")):
            yield f"{package.replace('.', '/')}/{path.relative_to(root).as_posix()}", path


def _file_of_module(module: str) -> Path | None:
    """The source file of an imported module; None for one without source, such as a built-in."""
    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None)
    return Path(origin) if origin and origin.endswith(".py") else None
