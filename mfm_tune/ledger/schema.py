"""The events of a ledger, with their fields and what these may hold.

Each line of a ledger is an event with the key `event` and the time in milliseconds since the epoch:

    ledger   the format's version, the first line
    launch   a driver began: study, profile, host, versions of what it runs on
    code     a fingerprint of the training code, with the hash of each file
    study    what a study declares: tables, cells, the paper's numbers, references, seeds, the code of each config
    search   what a search declares: parameters with their distributions, baselines, criterion, sampler, scheduler
    proposal a point of a search, written before its trial begins: number, values as printed, config id, seed, key
    selection which points of a search are confirmed, by which terms
    config   a config's canonical form, once
    start    a trial began, or resumed; after an `end` it opens the trial again
    report   what a trial said after a block of steps; with an `outcome` where it was its last word
    end      a trial's outcome
    probe    what a step and an evaluation of a cost class took, measured apart from any trial; never a result
    reuse    the user said that results of one fingerprint stand for another

Kinds and keys that are not listed below are those of a newer version, or are for people: they may hold anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from mfm_tune.fields import IntRange, Number
from mfm_tune.program import Outcome

Event = dict[str, Any]

LARGEST = 2**63 - 1  # what MLflow's integers hold
DEEPEST = 50  # levels of a config or another value of any form
LONGEST_SHOWN = 60  # characters of a value in a sentence
NOT_FINITE = frozenset({"nan", "inf", "-inf"})


class Rule(Protocol):
    """What a field may hold."""

    def fits(self, value: Any) -> bool:
        """Whether it may hold this value."""

    @property
    def wanted(self) -> str:
        """What a value must: `be a string`."""


@dataclass(frozen=True)
class Text:
    """A string that can be written as UTF-8; any string where `raw`, as in a traceback."""

    raw: bool = False
    wanted: str = "be a string of valid characters"

    def fits(self, value: Any) -> bool:
        """A string; without `raw` one without halves of surrogate pairs."""
        return isinstance(value, str) and (self.raw or value.isascii() or _is_unicode(value))


@dataclass(frozen=True)
class Place:
    """A path, or a name that becomes part of one, that leads out of no folder."""

    wanted: str = "be a relative path without '..'"

    def fits(self, value: Any) -> bool:
        """A relative path of printable characters."""
        if not isinstance(value, str) or not value or not value.isprintable():
            return False
        path = PurePosixPath(value.replace("\\", "/"))
        return not path.is_absolute() and ".." not in path.parts


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    words: frozenset[str]

    def fits(self, value: Any) -> bool:
        """One of them."""
        return isinstance(value, str) and value in self.words

    @property
    def wanted(self) -> str:
        """`be one of failed, finished`."""
        return f"be one of {', '.join(sorted(self.words))}"


@dataclass(frozen=True)
class Metric:
    """A number; those that are not finite are the strings `nan`, `inf` and `-inf`."""

    wanted: str = "be a number, 'nan', 'inf' or '-inf'"

    def fits(self, value: Any) -> bool:
        """A float or what becomes one."""
        if type(value) is float:
            return True
        if isinstance(value, int):
            return abs(value) <= sys.float_info.max
        return isinstance(value, str) and value in NOT_FINITE


@dataclass(frozen=True)
class Anything:
    """A JSON value of any form."""

    wanted: str = f"be nested at most {DEEPEST} deep, with integers of at most 64 bits and strings of valid characters"

    def fits(self, value: Any) -> bool:
        """Neither too deep, nor too large, nor half a character."""
        return _is_shallow(value, DEEPEST)


@dataclass(frozen=True)
class Maybe:
    """A field that may be missing, or null."""

    rule: Rule

    def fits(self, value: Any) -> bool:
        """None, or what the rule allows."""
        return value is None or self.rule.fits(value)

    @property
    def wanted(self) -> str:
        """`be a string, or be left out`."""
        return f"{self.rule.wanted}, or be left out"


@dataclass(frozen=True)
class Either:
    """What one of two rules allows."""

    first: Rule
    second: Rule

    def fits(self, value: Any) -> bool:
        """What one of them allows."""
        return self.first.fits(value) or self.second.fits(value)

    @property
    def wanted(self) -> str:
        """`be a number or be a string`."""
        return f"{self.first.wanted} or {self.second.wanted}"


@dataclass(frozen=True)
class ListOf:
    """An array."""

    rule: Rule
    wanted: str = "be an array"

    def fits(self, value: Any) -> bool:
        """An array whose parts all fit."""
        return isinstance(value, list) and all(map(self.rule.fits, value))


@dataclass(frozen=True)
class MappingOf:
    """An object whose keys are free."""

    rule: Rule
    wanted: str = "be an object"

    def fits(self, value: Any) -> bool:
        """An object whose keys are text and whose values all fit."""
        return isinstance(value, dict) and TEXT.fits("".join(value)) and all(map(self.rule.fits, value.values()))


@dataclass(frozen=True)
class Record:
    """An object with known keys; others may hold anything."""

    fields: Mapping[str, Rule]
    wanted: str = "be an object"

    def fits(self, value: Any) -> bool:
        """An object whose known keys all fit."""
        return isinstance(value, dict) and all(rule.fits(value.get(name)) for name, rule in self.fields.items())


@dataclass(frozen=True)
class Confusion:
    """A square matrix of counts."""

    wanted: str = "be a square matrix of integers of at least 0"

    def fits(self, value: Any) -> bool:
        """Rows of counts, as many as each has. There are many of these in a ledger: sums check a row at once."""
        try:
            return isinstance(value, list) and all(_is_row(row, len(value)) for row in value)
        except TypeError:  # a part is no number
            return False


TEXT = Text()
PLACE = Place()
COUNT = IntRange(0, LARGEST)
SEED = IntRange(0, 2**31 - 1)
TIME = IntRange(0, 253_402_300_799_999)  # milliseconds since the epoch, up to the year 9999
SECONDS = Number(0, 1e12)
NUMBER = Number()

CELL = Record(
    {
        "level": Either(TEXT, NUMBER),
        "trained": Maybe(TEXT),
        "paper": Maybe(Either(TEXT, NUMBER)),
        "config_id": TEXT,
        "against": Maybe(TEXT),
    }
)
TABLE = Record({"name": TEXT, "title": TEXT, "axis": TEXT, "metric": TEXT, "cells": ListOf(CELL)})

EVENTS: Mapping[str, Mapping[str, Rule]] = {
    "launch": {
        "study": PLACE,
        "profile": PLACE,
        "host": Maybe(TEXT),
        "versions": Maybe(MappingOf(TEXT)),
        "slots": Maybe(COUNT),
    },
    "code": {"fingerprint": TEXT, "files": MappingOf(TEXT)},
    "study": {
        "study": PLACE,
        "profile": PLACE,
        "title": TEXT,
        "benchmark": TEXT,
        "metric": TEXT,
        "second_metric": Maybe(TEXT),
        "seeds": ListOf(SEED),
        "references": MappingOf(TEXT),
        "tables": ListOf(TABLE),
        "fingerprints": Maybe(MappingOf(TEXT)),
    },
    "search": {
        "search": PLACE,
        "profile": PLACE,
        "baselines": MappingOf(TEXT),
        "explore_seed": SEED,
        "metric": Maybe(TEXT),
        "second_metric": Maybe(TEXT),
    },
    "proposal": {
        "search": PLACE,
        "profile": PLACE,
        "number": COUNT,
        "values": MappingOf(Anything()),
        "config_id": TEXT,
        "seed": SEED,
        "key": TEXT,
        "sampler": Maybe(MappingOf(Anything())),
    },
    "selection": {
        "search": PLACE,
        "profile": PLACE,
        "criterion": TEXT,
        "seed": SEED,
        "numbers": ListOf(COUNT),
        "config_ids": Maybe(ListOf(TEXT)),
        "keys": Maybe(ListOf(TEXT)),
        "scores": ListOf(Maybe(NUMBER)),
    },
    "config": {
        "config_id": TEXT,
        "config": MappingOf(Anything()),
        "benchmark": TEXT,
        "classes": ListOf(TEXT),
        "planned_steps": COUNT,
        "cost_class": TEXT,
    },
    "reuse": {"from": TEXT, "to": TEXT},
    "probe": {
        "benchmark": TEXT,
        "cost_class": TEXT,
        "step_s": SECONDS,
        "evaluation_s": SECONDS,
        "evaluations": COUNT,
        "planned_steps": IntRange(1, LARGEST),
    },
    "start": {
        "key": TEXT,
        "config_id": TEXT,
        "seed": SEED,
        "fingerprint": TEXT,
        "folder": PLACE,
        "benchmark": TEXT,
        "study": PLACE,
        "profile": PLACE,
    },
    "report": {
        "key": TEXT,
        "step": COUNT,
        "planned_steps": COUNT,
        "executed_steps": COUNT,
        "metrics": MappingOf(Metric()),
        "confusion": Maybe(MappingOf(Confusion())),
        "pictures": Maybe(MappingOf(PLACE)),
        "machine": Maybe(MappingOf(Anything())),
    },
    "end": {
        "key": TEXT,
        "outcome": OneOf(frozenset(each.value for each in Outcome)),
        "step": Maybe(COUNT),
        "error": Maybe(Text(raw=True)),
        "wall_s": Maybe(SECONDS),
        "rung": Maybe(COUNT),
    },
}
RULES: Mapping[str, Record] = {kind: Record({"time": TIME, **fields}) for kind, fields in EVENTS.items()}


def fault(event: Event) -> str | None:
    """What is wrong with an event: a field, what it must hold, and what it holds; None where nothing is."""
    kind = event["event"]
    if not isinstance(kind, str):
        return f"its 'event' must be a string, got {_shown(kind)}"
    rule = RULES.get(kind)
    return None if rule is None or rule.fits(event) else _fault(rule, event, kind)


def _fault(rule: Rule, value: Any, where: str) -> str:
    """The innermost part of a value that does not fit."""
    match rule:
        case Maybe(rule=inner):
            return _fault(inner, value, where)
        case Record(fields=fields) if isinstance(value, dict):
            name = next(name for name, each in fields.items() if not each.fits(value.get(name)))
            return _fault(fields[name], value.get(name), f"{where}.{name}")
        case ListOf(rule=each) if isinstance(value, list):
            index = next(index for index, part in enumerate(value) if not each.fits(part))
            return _fault(each, value[index], f"{where}[{index}]")
        case MappingOf(rule=each) if isinstance(value, dict):
            for name, part in value.items():
                if not TEXT.fits(name):
                    return f"a key of {where} must {TEXT.wanted}, got {_shown(name)}"
                if not each.fits(part):
                    return _fault(each, part, f"{where}.{name[:LONGEST_SHOWN]}")
    return f"{where} must {rule.wanted}, got {_shown(value)}"


def _shown(value: Any) -> str:
    """A value in a few characters of ASCII."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and abs(value) > 10**LONGEST_SHOWN:  # whose digits may be too many to print
        return "an integer of more than 60 digits"
    text = ascii(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_row(row: Any, length: int) -> bool:
    if not isinstance(row, list) or len(row) != length:
        return False
    total = sum(row)
    return type(total) is int and total <= LARGEST and min(row) >= 0


def _is_shallow(value: Any, left: int) -> bool:
    match value:
        case str():
            return value.isascii() or _is_unicode(value)
        case dict():
            return left > 0 and all(_is_shallow(part, left - 1) for part in value.values())
        case list():
            return left > 0 and all(_is_shallow(part, left - 1) for part in value)
        case int():
            return abs(value) <= LARGEST
        case _:
            return True
