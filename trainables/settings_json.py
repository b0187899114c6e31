"""Settings as JSON and back. Reading never imports anything: a class is one that is imported already.

A class of `trainables` is written by its name, any other with its module, too, so that the reader can be told whose it
is where it is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from mfm_tune.fields import Settings, shown
from mfm_tune.identity import WHEN_SET

ROOM = "trainables"


class UnknownClass(ValueError):
    """What was written was made with a class that is not imported, or that cannot be told from another."""


def plain(value: Any) -> Any:
    """Settings as JSON values; a dataclass is an object that names its class.

    Fields that came later are left out while they have their default, as they are of an identity: what names a shared
    file by these values finds the one that was made before.
    """
    match value:
        case Enum():
            return value.value
        case tuple():
            return [plain(part) for part in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            later = [item for item in fields(value) if item.metadata.get("identity") == WHEN_SET]
            unset = {item.name for item in later if getattr(value, item.name) == item.default}
            own = {item.name: plain(getattr(value, item.name)) for item in fields(value) if item.name not in unset}
            return _named(type(value)) | own
        case _:
            return value


def read_settings(value: Any, hint: Any) -> Any:
    """What `plain` made of a field of this type.

    Raises:
        UnknownClass: It holds settings of someone's own, which are not imported.
        ValueError: It is no such thing.
        KeyError, TypeError: The same; fields are missing or are others.
    """
    match value:
        case dict():
            kind = _class_of(value, hint)
            hints = get_type_hints(kind)
            own = {key: part for key, part in value.items() if key not in ("class", "module")}
            return kind(**{key: read_settings(part, hints[key]) for key, part in own.items()})
        case list():
            return tuple(read_settings(part, kind) for part, kind in zip(value, _parts(hint, len(value)), strict=True))
        case _:
            return _member(value, hint)


def _parts(hint: Any, length: int) -> Sequence[Any]:
    """The types of a tuple's parts, where a field of this type is or may be one."""
    kinds = next((get_args(each) for each in (hint, *get_args(hint)) if get_origin(each) is tuple), ())
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return kinds[:1] * length
    return kinds if len(kinds) == length else (None,) * length


def _member(value: Any, hint: Any) -> Any:
    """The member of an enum that has this value, where a field of this type is or may be one; else the value."""
    enums = [each for each in (hint, *get_args(hint)) if isinstance(each, type) and issubclass(each, Enum)]
    return next((member for kind in enums for member in kind if member.value == value), value)


def _named(kind: type) -> dict[str, str]:
    own = {} if is_ours(kind) else {"module": kind.__module__}
    return {"class": kind.__name__} | own


def _class_of(written: dict[str, Any], hint: Any) -> type[Settings]:
    """The imported class that was written."""
    name, module = written["class"], written.get("module")
    known = [kind for kind in imported_classes(Settings) if kind.__name__ == name]
    if module is None:
        ours = [kind for kind in known if is_ours(kind)]
        if not ours:
            raise ValueError(f"{shown(name)} must be {' or '.join(_choices(hint))}")
        return ours[-1]
    others = [kind for kind in known if not is_ours(kind)]
    exact = [kind for kind in others if kind.__module__ == module]
    if exact:
        return exact[-1]
    if not others:
        raise UnknownClass(
            f"it was made with {shown(name)[1:-1]} of {shown(module)[1:-1]}, which is not loaded; give its file with "
            f"--code {str(module).rpartition('.')[2][:40]}.py."
        )
    if len(others) > 1:
        modules = ", ".join(sorted(kind.__module__ for kind in others))
        raise UnknownClass(
            f"it was made with {shown(name)[1:-1]} of {shown(module)[1:-1]}, and there are several of that name "
            f"({modules}), none of this module; give its own file with --code."
        )
    return others[0]


def imported_classes(base: type[Settings]) -> Iterator[type[Settings]]:
    """All classes derived from it, one for each module and name: the last, where a module was loaded anew.

    (A dataclass with slots is made twice, and the first of the two may still be there.)
    """
    found: dict[tuple[str, str], type[Settings]] = {}
    left = [base]
    while left:
        for kind in left.pop(0).__subclasses__():
            found[kind.__module__, kind.__qualname__] = kind
            left.append(kind)
    yield from found.values()


def is_ours(kind: type) -> bool:
    """Whether a class is none of someone's own."""
    return kind.__module__.split(".")[0] == ROOM


def _choices(hint: Any) -> list[str]:
    """Names of our own classes that a field of this type can hold."""
    kinds = [kind for kind in get_args(hint) or (hint,) if isinstance(kind, type) and issubclass(kind, Settings)]
    every = [each for kind in kinds for each in (kind, *imported_classes(kind))]
    names = [each.__name__ for each in every if is_ours(each) and is_dataclass(each)]
    return names or ["settings of this version"]
