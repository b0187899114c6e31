"""The events of a ledger, with their fields and what these may hold.

Each line of a ledger is an event with the key `event` and the time in milliseconds since the epoch:

    ledger   the format's version, the first line
    launch   a driver began: study, profile, host, versions of what it runs on
    code     a fingerprint of the training code, with the hash of each file
    study    what a study declares: tables, cells, the paper's numbers, references, seeds, the code of each config
    search   what a search declares: parameters with their distributions, baselines, criterion, sampler, scheduler
    proposal a point of a search, written before its trial begins: number, values as printed, config id, seed, key
    selection which points of a search are confirmed, by which terms
    first_stage  the first stage of two-stage intervals: the half-width asked for, the spread of each difference
    config   a config's canonical form, once
    start    a trial began, or resumed, on which data; after an `end` it opens the trial again
    report   what a trial said after a block of steps; with an `outcome` where it was its last word
    end      a trial's outcome
    probe    what a step and an evaluation of a cost class took, measured apart from any trial; never a result
    reuse    the user said that results of one fingerprint stand for another

Kinds and keys that are not listed below are those of a newer version, or are for people: they may hold anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mfm_tune.fields import IntRange, Number, Rule
from mfm_tune.program import Outcome

Event = dict[str, Any]

LARGEST = 2**63 - 1  # what MLflow's integers hold
DEEPEST = 50  # levels of a config or another value of any form
LONGEST_SHOWN = 60  # characters of a value in a sentence
NOT_FINITE = frozenset({"nan", "inf", "-inf"})


@dataclass(frozen=True)
class Leaf(Rule):
    """Values that a function accepts.

    Args:
        wanted: What a value must: `be a string`.
        accepts: Whether a value does.
    """

    wanted: str
    accepts: Callable[[Any], bool]

    def fits(self, value: object) -> bool:
        """Whether the function accepts it."""
        return self.accepts(value)


@dataclass(frozen=True)
class Maybe:
    """A field that may be missing, or null."""

    rule: Schema


@dataclass(frozen=True)
class MappingOf:
    """An object whose keys are free."""

    rule: Rule


Schema = Rule | Maybe | MappingOf | list["Schema"] | dict[str, "Schema"]
"""A leaf, an array of one kind of values, or an object with known keys, whose others may hold anything."""


def _is_text(value: Any) -> bool:
    """Whether it is a string that can be written as UTF-8: without halves of surrogate pairs."""
    return isinstance(value, str) and (value.isascii() or _is_unicode(value))


def _is_place(value: Any) -> bool:
    """Whether it is a path, or a name that becomes part of one, that leads out of no folder."""
    if not isinstance(value, str) or not value or not value.isprintable():
        return False
    path = PurePosixPath(value.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts


def _is_metric(value: Any) -> bool:
    """Whether it is a float or what becomes one; those that are not finite are the strings `nan`, `inf` and `-inf`."""
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return type(value) is float or (isinstance(value, str) and value in NOT_FINITE)


def _is_confusion(value: Any) -> bool:
    """Whether it is a square matrix of counts. There are many of these in a ledger: sums check a row at once."""
    try:
        return isinstance(value, list) and all(_is_row(row, len(value)) for row in value)
    except TypeError:  # a part is no number
        return False


TEXT = Leaf("be a string of valid characters", _is_text)
ANY_TEXT = Leaf("be a string of valid characters", lambda value: isinstance(value, str))  # such as a traceback
PLACE = Leaf("be a relative path without '..'", _is_place)
FLAG = Leaf("be true or false", lambda value: isinstance(value, bool))
COUNT = IntRange(0, LARGEST)
SEED = IntRange(0, 2**31 - 1)
TIME = IntRange(0, 253_402_300_799_999)  # milliseconds since the epoch, up to the year 9999
SECONDS = Number(0, 1e12)
NUMBER = Number()
POSITIVE = Number(0, open_low=True)
PRINTED = Leaf(f"{TEXT.wanted} or {NUMBER.wanted}", lambda value: _is_text(value) or NUMBER.fits(value))
METRIC = Leaf("be a number, 'nan', 'inf' or '-inf'", _is_metric)
CONFUSION = Leaf("be a square matrix of integers of at least 0", _is_confusion)
OUTCOMES = sorted(outcome.value for outcome in Outcome)
OUTCOME = Leaf(f"be one of {', '.join(OUTCOMES)}", lambda value: value in OUTCOMES)
ANYTHING = Leaf(
    f"be nested at most {DEEPEST} deep, with integers of at most 64 bits and strings of valid characters",
    lambda value: _is_shallow(value, DEEPEST),
)

CELL: Schema = {
    "level": PRINTED,
    "trained": Maybe(TEXT),
    "paper": Maybe(PRINTED),
    "config_id": TEXT,
    "against": Maybe(TEXT),
}
TABLE: Schema = {"name": TEXT, "title": TEXT, "axis": TEXT, "metric": TEXT, "cells": [CELL]}

DATA: Schema = {"name": TEXT, "use": TEXT, "digest": TEXT, "origin": TEXT, "facts": MappingOf(PRINTED)}
DIFFERENCE: Schema = {
    "configs": [TEXT],
    "seeds": [SEED],
    "pairs": [SEED],
    "std": Number(0),
    "needed": IntRange(2, LARGEST),
    "keys": [TEXT],
}

EVENTS: Mapping[str, dict[str, Schema]] = {
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
        "seeds": [SEED],
        "references": MappingOf(TEXT),
        "tables": [TABLE],
        "fingerprints": Maybe(MappingOf(TEXT)),
    },
    "search": {
        "search": PLACE,
        "profile": PLACE,
        "baselines": MappingOf(TEXT),
        "criterion": TEXT,
        "larger_is_better": Maybe(FLAG),
        "explore_seed": SEED,
        "metric": Maybe(TEXT),
        "second_metric": Maybe(TEXT),
    },
    "proposal": {
        "search": PLACE,
        "profile": PLACE,
        "number": COUNT,
        "values": MappingOf(ANYTHING),
        "config_id": TEXT,
        "seed": SEED,
        "key": TEXT,
        "sampler": Maybe(MappingOf(ANYTHING)),
    },
    "selection": {
        "search": PLACE,
        "profile": PLACE,
        "criterion": TEXT,
        "seed": SEED,
        "numbers": [COUNT],
        "config_ids": Maybe([TEXT]),
        "keys": Maybe([TEXT]),
        "scores": [Maybe(NUMBER)],
        "scored": Maybe([TEXT]),
    },
    "first_stage": {
        "study": PLACE,
        "profile": PLACE,
        "metric": TEXT,
        "half_width": POSITIVE,
        "max_seeds": IntRange(2, LARGEST),
        "differences": [DIFFERENCE],
    },
    "config": {
        "config_id": TEXT,
        "config": MappingOf(ANYTHING),
        "benchmark": TEXT,
        "classes": [TEXT],
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
        "machine": Maybe(MappingOf(ANYTHING)),
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
        "data": Maybe([DATA]),
    },
    "report": {
        "key": TEXT,
        "step": COUNT,
        "planned_steps": COUNT,
        "executed_steps": COUNT,
        "metrics": MappingOf(METRIC),
        "confusion": Maybe(MappingOf(CONFUSION)),
        "pictures": Maybe(MappingOf(PLACE)),
        "machine": Maybe(MappingOf(ANYTHING)),
    },
    "end": {
        "key": TEXT,
        "outcome": OUTCOME,
        "step": Maybe(COUNT),
        "error": Maybe(ANY_TEXT),
        "wall_s": Maybe(SECONDS),
        "rung": Maybe(COUNT),
    },
}


def fault(event: Event) -> str | None:
    """What is wrong with an event: a field, what it must hold, and what it holds; None where nothing is."""
    kind = event["event"]
    if not isinstance(kind, str):
        return f"its 'event' must be a string, got {_shown(kind)}"
    fields = EVENTS.get(kind)
    return None if fields is None else _fault({"time": TIME, **fields}, event, kind)


def _fault(rule: Schema, value: Any, where: str) -> str | None:
    """What is wrong with the innermost part of a value that does not fit; None where all fit."""
    match rule:
        case Maybe():
            return None if value is None else _fault(rule.rule, value, where)
        case Rule():
            return None if rule.fits(value) else _sentence(where, rule.wanted, value)
        case dict() if isinstance(value, dict):
            faults = (_fault(each, value.get(name), f"{where}.{name}") for name, each in rule.items())
        case [each] if isinstance(value, list):
            faults = (_fault(each, part, f"{where}[{index}]") for index, part in enumerate(value))
        case MappingOf(rule=each) if isinstance(value, dict):
            faults = (
                _fault(each, part, f"{where}.{name[:LONGEST_SHOWN]}")
                if _is_text(name)
                else _sentence(f"a key of {where}", TEXT.wanted, name)
                for name, part in value.items()
                if not (each.fits(part) and _is_text(name))
            )
        case _:
            return _sentence(where, "be an array" if isinstance(rule, list) else "be an object", value)
    return next((fault for fault in faults if fault is not None), None)


def _sentence(where: str, wanted: str, value: Any) -> str:
    return f"{where} must {wanted}, got {_shown(value)}"


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
