"""What the fields of settings may hold: types that carry a range, and a check of every field against its type.

A field says all of it in its type: `ratio: BelowOne`, `rates: tuple[AtLeast1, ...]`, `clip_norm: Positive | None`. A
value that does not fit is one sentence with the field, the allowed values and the given one. Where settings hold other
settings, their class is exact: what reads them goes by the class, and would take a subclass for its parent. Where they
hold settings that make what they describe, any class with that method of its own fits (`Makes`). Search spaces,
searches and the configs of training are such settings, which is why training imports this module of `mfm_tune` and no
other.
Standard library only.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

LONGEST = 80  # characters of a value that is shown whole
MANY = 4  # members of an enum; more are named without their class
LONGEST_LINE = 300  # characters of a title or label
# What steers a terminal, turns the order of characters or has no encoding: C0 but tab and line feed, DEL, C1,
# separators of lines, overrides of direction, lone surrogates.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NUMERALS = {1: "one", 2: "two", 3: "three", 4: "four"}
NAMES: Mapping[Any, str] = {
    bool: "True or False",
    str: "a string",
    NoneType: "None",
    Callable: "a function",
    Hashable: "values",
}


class Settings:
    """A frozen dataclass whose fields are checked against their types when it is made.

    Raises:
        ValueError: A field's value does not fit its type, or fields do not go together. A class may say another error.
    """

    __slots__ = ()
    refusal: ClassVar[type[Exception]] = ValueError

    def __post_init__(self) -> None:
        for name, kind in _types(type(self)).items():  # type: ignore[arg-type]  # a type has no hash for mypy
            value = getattr(self, name)
            if not _fits(kind, value):
                told = f"{shown(value)}{_derived(kind, value)}"
                raise self.refusal(f"{type(self).__name__}.{name} must {_wanted(kind)}, got {told}.")
            if (text := _steering(value)) is not None:
                raise self.refusal(f"{type(self).__name__}.{name} must hold no control characters, got {shown(text)}.")
        self._check_together()

    def _check_together(self) -> None:
        """Raise the error where fields, each good by itself, do not go together."""


class Rule:
    """A range of values, as it is given in `Annotated`.

    Attributes:
        wanted: What a value must: `lie in [0, 1]`.
        plural: What several such values are: `numbers in [0, 1]`.
    """

    wanted: str
    plural: str = "values"

    def fits(self, value: object) -> bool:
        """Whether the value lies in it."""
        raise NotImplementedError

    def remedy(self, value: object) -> str:
        """What to do about a value that does not fit, to end a sentence with; empty where `wanted` is enough."""
        return ""


class Number(Rule):
    """Finite numbers from `low` to `high`; an open end is left out, and a bool is none."""

    def __init__(
        self, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
    ) -> None:
        left = "(" if open_low or math.isinf(low) else "["
        right = ")" if open_high or math.isinf(high) else "]"
        interval = f"{left}{low:g}, {high:g}{right}"
        unbounded = math.isinf(low) and math.isinf(high)
        self.wanted = "be a finite number" if unbounded else f"lie in {interval}"
        self.plural = "finite numbers" if unbounded else f"numbers in {interval}"
        self._low, self._high, self._open_low, self._open_high = low, high, open_low, open_high

    def fits(self, value: object) -> bool:
        """Whether the value is a finite number in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            return False
        above = value > self._low if self._open_low else value >= self._low
        return above and (value < self._high if self._open_high else value <= self._high)


class IntRange(Rule):
    """Integers from `low` to `high` that are a multiple of `step`; a bool is none."""

    def __init__(self, low: int | None = None, high: int | None = None, step: int = 1) -> None:
        span = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
        self.wanted = f"be {'an integer' if step == 1 else f'a multiple of {step}'}{span}"
        self.plural = f"{'integers' if step == 1 else f'multiples of {step}'}{span}"
        self._low, self._high, self._step = low, high, step

    def fits(self, value: object) -> bool:
        """Whether the value is such an integer."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        above = self._low is None or value >= self._low
        return above and (self._high is None or value <= self._high) and value % self._step == 0


class Size(Rule):
    """(rows, columns), each at least `low`."""

    def __init__(self, low: int = 1) -> None:
        self.wanted = f"be two integers (rows, columns) of at least {low}"
        self._each = IntRange(low)

    def fits(self, value: object) -> bool:
        """Whether the value is such a pair."""
        return isinstance(value, tuple) and len(value) == 2 and all(map(self._each.fits, value))


class Range(Rule):
    """Two numbers of at least 0, or above it where that end is open, the smaller first."""

    def __init__(self, *, open_low: bool = False) -> None:
        self.wanted = f"be two {'positive numbers' if open_low else 'numbers of at least 0'}, the smaller first"
        self._each = Number(0, open_low=open_low)

    def fits(self, value: object) -> bool:
        """Whether the value is such a pair."""
        return (
            isinstance(value, tuple) and len(value) == 2 and all(map(self._each.fits, value)) and value[0] <= value[1]
        )


class OneLine(Rule):
    """Text for one line of a table or a terminal."""

    wanted = f"be one line of at most {LONGEST_LINE} characters, none a control character"

    def fits(self, value: object) -> bool:
        """Whether the value is such a text."""
        if not isinstance(value, str) or len(value) > LONGEST_LINE:
            return False
        return not STEERING.search(value) and not set(value) & {"\n", "\t"}


class FileName(Rule):
    """Text that paths and tags are made of: nothing in it leads out of a folder."""

    def __init__(self, marks: str = "._-") -> None:
        either = " or ".join(f"'{mark}'" for mark in marks)
        self.wanted = f"be 1 to 64 letters, digits, {either}, the first a letter or digit, for use in file names"
        self._pattern = re.compile(f"[A-Za-z0-9][A-Za-z0-9{re.escape(marks)}]{{0,63}}")

    def fits(self, value: object) -> bool:
        """Whether the value is such a text."""
        return isinstance(value, str) and self._pattern.fullmatch(value) is not None


class Makes(Rule):
    """Settings that make what they describe: a frozen dataclass whose own class defines the method.

    A subclass that inherits it does not fit: it would be recorded under its own name and made as its parent.

    Args:
        what: What they make: `a network`.
        method: Name of the method.
        base: What their class derives from; where it has the method, that of a class takes as many arguments.
        arguments: What the method takes where the base has none; None: anything.
    """

    def __init__(
        self, what: str, method: str, base: type[Settings] = Settings, arguments: tuple[str, ...] | None = None
    ) -> None:
        self.wanted = (
            f"be settings of {what} (a frozen dataclass derived from {base.__name__} with a {method} of its own)"
        )
        self.plural = f"settings that each have a {method} of their own"
        self._method, self._base = method, base
        declared = vars(base).get(method)
        self._arguments = arguments if declared is None else tuple(inspect.signature(declared).parameters)[1:]

    def fits(self, value: object) -> bool:
        """Whether the value is of such a class."""
        if not isinstance(value, self._base) or not _is_frozen(type(value)) or self._maker(value) is not type(value):
            return False
        return self._arguments is None or takes(getattr(value, self._method), self._arguments)

    def remedy(self, value: object) -> str:
        """How the class of settings that do not fit is completed."""
        if not isinstance(value, self._base):
            return ""
        maker = self._maker(value)
        if maker is None or maker is self._base:
            return f", which has no method {self._method}; give it one"
        if maker is not type(value):
            return (
                f", which inherits {self._method} from {maker.__name__} and would be taken for one; "
                f"give it a {self._method} of its own"
            )
        if not _is_frozen(maker):
            return ", which is no frozen dataclass; decorate it with @dataclass(frozen=True)"
        given = inspect.signature(getattr(maker, self._method))
        wanted = ", ".join(("self", *(self._arguments or ())))
        return f", whose method is {self._method}{given}; define it as {self._method}({wanted})"

    def _maker(self, value: object) -> type | None:
        """The class that defines the method."""
        return next((kind for kind in type(value).__mro__ if callable(vars(kind).get(self._method))), None)


def takes(function: Callable[..., object], arguments: Sequence[str]) -> bool:
    """Whether a function can be called with these arguments, by place."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


PLAIN: Mapping[Any, Rule] = {float: Number(), int: IntRange()}  # a bool is neither

Line = Annotated[str, OneLine()]
Name = Annotated[str, FileName()]
Profile = Annotated[str, FileName(marks="._")]  # `study-profile` is a folder, which the last hyphen must divide
AtLeast0 = Annotated[int, IntRange(0)]
AtLeast1 = Annotated[int, IntRange(1)]
NotNegative = Annotated[float, Number(0)]
Positive = Annotated[float, Number(0, open_low=True)]
UnitInterval = Annotated[float, Number(0, 1)]
BelowOne = Annotated[float, Number(0, 1, open_high=True)]  # a probability that something is dropped: never all of it


def hyphened(profile: str) -> str:
    """The name of a profile as it is printed and typed: `paper-bf16`, where `paper_bf16` is what ledgers have."""
    return profile.replace("_", "-")


def recorded(profile: str) -> str:
    """The name of a profile as ledgers and folders have it, which hyphens join to a study's, however it was typed."""
    return profile.replace("-", "_")


# --------------------------------------------------------------------------------------------------------------------
# A value against a type
# --------------------------------------------------------------------------------------------------------------------


@cache
def _types(kind: type) -> Mapping[str, Any]:
    assert is_dataclass(kind), f"{kind.__name__} derives from Settings and must be a dataclass"
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in fields(kind)}


def _fits(kind: Any, value: object) -> bool:
    rule = _rule(kind)
    if rule is not None:
        return rule.fits(value)
    if _is_union(kind):
        return any(_fits(each, value) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and _parts_fit(get_args(kind), value)
    if get_origin(kind) is Mapping:
        of, to = get_args(kind)
        return isinstance(value, Mapping) and all(_fits(of, key) and _fits(to, value[key]) for key in value)
    if _is_any(kind) or get_origin(kind) is Callable:
        return _is_any(kind) or callable(value)
    plain = get_origin(kind) or kind
    if issubclass(plain, Settings):
        return type(value) is plain
    return isinstance(value, plain) and not isinstance(value, type)  # a class has its methods, too


def _parts_fit(kinds: tuple[Any, ...], values: tuple[object, ...]) -> bool:
    """Parts of a tuple; one of any length holds a number at least, where it is one of numbers."""
    if kinds[-1] is Ellipsis:
        return (bool(values) or _rule(kinds[0]) is None) and all(_fits(kinds[0], value) for value in values)
    return len(kinds) == len(values) and all(map(_fits, kinds, values))


def _wanted(kind: Any) -> str:
    """What a value of the type must: `be one or more integers of at least 1`."""
    rule = _rule(kind)
    if rule is not None:
        return rule.wanted
    if _is_union(kind):
        return _either([_wanted(each) for each in get_args(kind)])
    if get_origin(kind) is tuple:
        return f"be {_several(get_args(kind))}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        if len(kind) > MANY:
            return f"be one of {kind.__name__} ({', '.join(each.name for each in kind)})"
        return _either([f"be {kind.__name__}.{each.name}" for each in kind])
    return f"be {_name(kind)}"


def _several(kinds: tuple[Any, ...]) -> str:
    """`four integers of at least 1`, `a tuple of Table`, `a tuple of tuples of two`."""
    rule = _rule(kinds[0])
    if rule is not None:
        return f"{'one or more' if kinds[-1] is Ellipsis else NUMERALS[len(kinds)]} {rule.plural}"
    if kinds[-1] is not Ellipsis:
        return f"a tuple of {NUMERALS[len(kinds)]}"
    if _is_any(kinds[0]):
        return "a tuple"
    if get_origin(kinds[0]) is tuple:
        return f"a tuple of tuples of {NUMERALS[len(get_args(kinds[0]))]}"
    return f"a tuple of {_name(kinds[0])}"


def _name(kind: Any) -> str:
    if get_origin(kind) is Mapping:
        to = get_args(kind)[1]
        return "a mapping" if _is_any(to) else f"a mapping to {_wanted(to).removeprefix('be ')}"
    plain = get_origin(kind) or kind
    return NAMES.get(plain) or str(plain.__name__)


def _either(phrases: list[str]) -> str:
    """`be A, B or C`; what must lie somewhere comes first."""
    others = [phrase for phrase in phrases if not phrase.startswith("be ")]
    named = [phrase.removeprefix("be ") for phrase in phrases if phrase.startswith("be ")]
    listed = f"be {', '.join(named[:-1])}{' or ' if len(named) > 1 else ''}{named[-1]}" if named else ""
    return " or ".join([*others, *([listed] if listed else [])])


def _rule(kind: Any) -> Rule | None:
    """The range of a type of numbers; None for other types."""
    if get_origin(kind) is Annotated:
        found: Rule = get_args(kind)[1]
        return found
    return PLAIN.get(kind)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _is_any(kind: Any) -> bool:
    return kind is Any or isinstance(kind, TypeVar)


def _derived(kind: Any, value: object) -> str:
    """What to do about a subclass of settings where they themselves are wanted; empty for other values."""
    rule = _rule(kind)
    if rule is not None:
        return rule.remedy(value)
    plain = [get_origin(each) or each for each in (get_args(kind) if _is_union(kind) else (kind,))]
    for parent in plain:
        if isinstance(parent, type) and issubclass(parent, Settings) and isinstance(value, parent):
            return f", a subclass that would be taken for {parent.__name__}; give {parent.__name__} itself"
    return ""


def _is_frozen(kind: type) -> bool:
    """Whether a class is itself a frozen dataclass: its parent's fields are not all that it has."""
    parameters = vars(kind).get("__dataclass_params__")
    return parameters is not None and bool(parameters.frozen)


def _is_finite(value: float) -> bool:
    """Whether it is a number that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond 1e308
        return False


def _steering(value: object) -> str | None:
    """The first text with a character that steers, in a value or its parts."""
    if isinstance(value, str):
        return value if STEERING.search(value) else None
    parts = value if isinstance(value, tuple) else (*value, *value.values()) if isinstance(value, Mapping) else ()
    return next((found for part in parts if (found := _steering(part)) is not None), None)


def shown(value: object) -> str:
    """A value as a sentence shows it: whole where it is short."""
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:LONGEST]!r}... ({len(value)} characters)"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{type(value).__name__}(...)"
