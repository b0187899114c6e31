"""When are two configs the same one? Canonical form, config id, difference. Standard library only.

The canonical form follows the values of a frozen dataclass: class names and enum values stay, a float that is
integral keeps being a float (its declared type decides, so 1 and 1.0 in a float field are one), NaN is refused. A
field whose metadata says `identity: False` cannot change a result and is left out; one that says `identity: "when set"`
came later and is left out while it has its default, so that the ids of configs without it stay what they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import Any, get_args, get_type_hints

WHEN_SET = "when set"  # the rule of a field that came later

Canonical = None | bool | int | float | str | list["Canonical"] | dict[str, "Canonical"]


def canonical(config: object) -> Canonical:
    """The JSON value that stands for a config.

    Raises:
        ValueError: A NaN or infinite number.
        TypeError: A value that has no canonical form (a function, an open file, an unfrozen dataclass).
    """
    return _canonical(config, float_wanted=False, where=type(config).__name__)


def canonical_json(config: object) -> str:
    """The canonical form as compact JSON with sorted keys."""
    return json.dumps(canonical(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def config_id(config: object) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Change:
    """One field in which two configs differ; `None` where a side has no such field."""

    field: str
    first: Canonical
    second: Canonical


def difference(first: Canonical, second: Canonical) -> tuple[Change, ...]:
    """The fields in which two canonical configs differ, by dotted name, sorted."""
    a, b = dict(_leaves(first)), dict(_leaves(second))
    return tuple(
        Change(name, a.get(name), b.get(name))
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name) or (name in a) != (name in b)
    )


def defining_modules(config: object) -> frozenset[str]:
    """Names of the modules that define the dataclasses and enums of a config."""
    return frozenset(_modules(config))


def _modules(value: object) -> Iterator[str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__module__
        for item in dataclasses.fields(value):
            yield from _modules(getattr(value, item.name))
    elif isinstance(value, Enum):
        yield type(value).__module__
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _modules(part)
    elif isinstance(value, tuple | list | frozenset):
        for part in value:
            yield from _modules(part)


def _leaves(value: Canonical, prefix: str = "") -> Iterator[tuple[str, Canonical]]:
    match value:
        case dict():
            for key in sorted(value):
                yield from _leaves(value[key], f"{prefix}.{key}" if prefix else key)
        case list() if any(isinstance(part, dict) for part in value):
            for index, part in enumerate(value):
                name = part.get("class", index) if isinstance(part, dict) else index
                yield from _leaves(part, f"{prefix}[{name}]")
        case _:
            yield prefix, value


@cache
def _float_fields(kind: type) -> frozenset[str]:
    """Names of the fields that hold floats (directly, optionally, or in a tuple): an int there means a float."""
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if _holds_float(hint))


def _holds_float(hint: Any) -> bool:
    return hint is float or (not isinstance(hint, type) and any(_holds_float(part) for part in get_args(hint)))


def _canonical(value: object, *, float_wanted: bool, where: str) -> Canonical:
    match value:
        case None | bool() | str():
            return value
        case Enum():
            return _canonical(value.value, float_wanted=False, where=where)
        case PurePath():
            return str(value)
        case int():
            return float(value) if float_wanted else value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{where} must be a finite number, got {value}.")
            return value + 0.0  # -0.0 and 0.0 are one value
        case tuple() | list():
            return [_canonical(part, float_wanted=float_wanted, where=where) for part in value]
        case Mapping():
            return {
                str(key): _canonical(part, float_wanted=float_wanted, where=f"{where}.{key}")
                for key, part in value.items()
            }
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _canonical_dataclass(value, where)
        case _:
            raise TypeError(
                f"{where} holds a {type(value).__name__}, which has no canonical form; "
                "use numbers, strings, enums, tuples and frozen dataclasses."
            )


def _canonical_dataclass(value: Any, where: str) -> Canonical:
    kind = type(value)
    if not kind.__dataclass_params__.frozen:
        raise TypeError(f"{where} is a {kind.__name__}, which is not frozen; declare it @dataclass(frozen=True).")
    floats = _float_fields(kind)  # type: ignore[arg-type]  # type[Any] has no hash for mypy
    fields: dict[str, Canonical] = {"class": kind.__name__}
    for item in dataclasses.fields(value):
        rule = item.metadata.get("identity", True)
        own = getattr(value, item.name)
        if rule and not (rule == WHEN_SET and own == item.default):
            fields[item.name] = _canonical(own, float_wanted=item.name in floats, where=f"{where}.{item.name}")
    return fields
