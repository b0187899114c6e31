"""Ledgers for tests of the mirror: two tables, four configs, three seeds, every kind of outcome, nothing trained."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfm_tune.ledger.file import FILE_NAME, encoded
from mfm_tune.ledger.records import trial_folder, trial_key
from mfm_tune.ledger.schema import Event

FINGERPRINT = "a" * 64
BENCHMARK = "stub-64x128"
CLASSES = ("road", "traffic light", "car")
START = 1_790_000_000_000  # ms; times in these ledgers count on from it
DACS, DEFAULT = "0" * 12, "1" * 12
DATA = [
    {"name": "stubs", "use": "training source", "digest": "1" * 12, "origin": "/stubs", "facts": {"images": 3}},
    {
        "name": "stubs",
        "use": "evaluation",
        "digest": "2" * 12,
        "origin": "/stubs",
        "facts": {"images": 2, "classes": 3},
    },
]
_LEDGERS = itertools.count()  # no two ledgers begin at the same time: that tells them apart
Number = tuple[str, int, int, float, int]  # key, timestamp, step, value, is_nan


@dataclass
class Fiction:
    """A made-up study.

    Args:
        seeds, reports, metrics: How many; a trial has `reports` reports of `metrics` numbers.
        widths: Levels of the axis `dim`, one config each.
        outcomes: (config id, seed) -> another outcome than finished.
    """

    seeds: int = 3
    reports: int = 3
    metrics: int = 6
    widths: Sequence[int] = (128, 256)
    outcomes: dict[tuple[str, int], str] = field(default_factory=dict)
    pictures: bool = False
    benchmark: str = BENCHMARK
    time: int = field(default_factory=lambda: START + 1_000_000 * next(_LEDGERS))
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def config_id(self, width: int) -> str:
        """The id of a width's config."""
        return f"{width:012d}"

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Canonical configs by id."""
        base = {"class": "Stub", "steps": 10 * self.reports, "auxiliary": []}
        widths = {
            self.config_id(width): {**base, "auxiliary": [{"class": "Masking", "dim": width}]} for width in self.widths
        }
        return {DACS: base, DEFAULT: {**base, "auxiliary": [{"class": "Masking", "dim": 64}]}, **widths}

    def events(self) -> Iterator[Event]:
        """All lines, seed after seed."""
        yield self._timed({"event": "ledger", "version": 1})
        yield self.study()
        yield self._timed({"event": "code", "fingerprint": FINGERPRINT, "files": {"a.py": "1"}})
        told = set()
        for seed in range(self.seeds):
            for config, content in self.configs.items():
                if config not in told:
                    yield self.config(config, content)
                    told.add(config)
                yield from self.trial(config, seed)

    def study(self, **changed: Any) -> Event:
        """The declaration: table `a` over the axis dim, table `b` over cases; both are compared with DACS."""
        levels = [
            {"level": str(w), "trained": str(w // 16), "paper": 50.5, "config_id": self.config_id(w)}
            for w in self.widths
        ]
        cases = [
            {"level": "Baseline", "paper": 49.0, "config_id": DACS},
            {"level": "Masking + Rebuilding", "paper": "OOM", "config_id": DEFAULT},
        ]
        filled = {"trained": None, "against": None}
        return self._timed(
            {
                "event": "study",
                "study": "fiction",
                "profile": "smoke",
                "title": "A made-up study",
                "benchmark": self.benchmark,
                "metric": "student/miou",
                "second_metric": "teacher/miou",
                "seeds": list(range(self.seeds)),
                "references": {"DACS": DACS, "default": DEFAULT},
                "tables": [
                    self._table("a", "(a) Width", "dim", [{**filled, **cell} for cell in levels]),
                    self._table("b", "(b) Case", "case", [{**filled, **cell} for cell in cases]),
                ],
                **changed,
            }
        )

    def trial(self, config: str, seed: int) -> Iterator[Event]:
        """A trial's lines."""
        key = trial_key(config, seed, FINGERPRINT)
        yield self._timed(
            {
                "event": "start",
                "key": key,
                "config_id": config,
                "seed": seed,
                "fingerprint": FINGERPRINT,
                "launch": "l",
                "folder": trial_folder(config, seed, FINGERPRINT),
                "attempt": 1,
                "benchmark": self.benchmark,
                "study": "fiction",
                "profile": "smoke",
                "data": DATA,
            }
        )
        for number in range(1, self.reports + 1):
            yield self.report(key, 10 * number)
        outcome = self.outcomes.get((config, seed), "finished")
        error = "" if outcome == "finished" else f"Traceback\nStubError: {outcome}"
        yield self._timed({"event": "end", "key": key, "outcome": outcome, "step": 10 * self.reports, "error": error,
                           "wall_s": 1.0})  # fmt: skip

    def report(self, key: str, step: int) -> Event:
        """A report with NaN and infinities among its numbers."""
        draw = self.random.random
        metrics = {"student/miou": 50 + draw(), "teacher/miou": 51 + draw(), "student/iou/traffic light": float("nan")}
        metrics["loss/source"] = float("inf") if draw() < 0.2 else draw()
        metrics |= {f"metric/{number}": draw() for number in range(self.metrics - len(metrics))}
        return self._timed(
            {
                "event": "report",
                "key": key,
                "step": step,
                "planned_steps": 10 * self.reports,
                "executed_steps": step,
                "metrics": metrics,
                "confusion": {"student": [[5, 1, 0], [0, 0, 0], [1, 1, 7]]},
                "pictures": {"prediction-0": "pictures/prediction-0.png"} if self.pictures else {},
                "machine": {"device": "cpu", "device_name": "none", "torch": "2.11", "threads": "1"},
            }
        )

    def config(self, config: str, content: dict[str, Any]) -> Event:
        """A config's line."""
        return self._timed(
            {
                "event": "config",
                "config_id": config,
                "config": content,
                "benchmark": self.benchmark,
                "classes": list(CLASSES),
                "planned_steps": 10 * self.reports,
                "cost_class": "stub",
            }
        )

    def _table(self, name: str, title: str, axis: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
        return {"name": name, "title": title, "axis": axis, "metric": "student/miou", "plot": False, "cells": cells}

    def _timed(self, event: Event) -> Event:
        self.time += 7
        return {**event, "time": self.time}


def retrained(*, declared: bool) -> Iterator[Event]:
    """Three seeds by one code at 10, 11 and 12; then other code, whose driver ends after seed 0 of DACS at 90.

    Args:
        declared: Drivers declare the code of each config; earlier versions did not.
    """
    fiction = Fiction(reports=1)
    yield {"event": "ledger", "version": 1, "time": fiction.time}
    old, new = ({"fingerprints": dict.fromkeys(fiction.configs, code * 64)} if declared else {} for code in "ab")
    yield fiction.study(**old)
    for config, content in fiction.configs.items():
        yield fiction.config(config, content)
    for seed, config in itertools.product(range(3), fiction.configs):
        yield from trial_by("a", fiction.trial(config, seed), 10.0 + seed)
    if declared:
        yield fiction.study(**new)
    yield from trial_by("b", fiction.trial(DACS, 0), 90.0)


def trial_by(code: str, events: Iterator[Event], miou: float) -> Iterator[Event]:
    """A trial's lines as other code would have written them."""
    for event in events:
        text = json.dumps(event).replace(FINGERPRINT, code * 64).replace(FINGERPRINT[:8], code * 8)
        changed: Event = json.loads(text)
        yield changed | ({"metrics": {"student/miou": miou, "teacher/miou": miou}} if "metrics" in event else {})


def write(storage: Path, events: Iterator[Event] | Sequence[Event]) -> Path:
    """A ledger of these events; returns its path."""
    storage.mkdir(parents=True, exist_ok=True)
    path = storage / FILE_NAME
    with path.open("ab") as file:
        for event in events:
            file.write(encoded(event))
    return path


def expected(path: Path) -> dict[str, list[Number]]:
    """Trial key -> the numbers of its reports, read from a ledger without any of the mirror's code."""
    found: dict[str, list[Number]] = {}
    seen = set()
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if event["event"] != "report" or (event["key"], event["step"]) in seen:
            continue
        seen.add((event["key"], event["step"]))
        for key, value in event["metrics"].items():
            found.setdefault(event["key"], []).append(number(key, event["time"], event["step"], float(value)))
    return {key: sorted(numbers) for key, numbers in found.items()}


def number(key: str, time: int, step: int, value: float) -> Number:
    """A number as MLflow's tables have it."""
    if value != value:
        return key, time, step, 0.0, 1
    largest = 1.7976931348623157e308
    return key, time, step, min(max(value, -largest), largest), 0


def stored(database: Path) -> dict[str, list[Number]]:
    """Trial key -> numbers of active trial runs in a SQLite store, `final/` and `best/` left out, duplicates kept."""
    query = """
        SELECT t.value, m.key, m.timestamp, m.step, m.value, m.is_nan FROM metrics m
        JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'mfm.trial_key'
        JOIN runs r ON r.run_uuid = m.run_uuid AND r.lifecycle_stage = 'active'
        WHERE m.key NOT LIKE 'final/%' AND m.key NOT LIKE 'best/%'
    """
    found: dict[str, list[Number]] = {}
    for key, name, time, step, value, is_nan in rows(database, query):
        found.setdefault(key, []).append((name, time, step, value, int(is_nan)))
    return {key: sorted(numbers) for key, numbers in found.items()}


def forget_marks(database: Path) -> None:
    """Take from all runs the marks of what they have."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        connection.execute("DELETE FROM tags WHERE key LIKE 'mfm.delivered%'")


def rows(database: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        return connection.execute(query, values).fetchall()


def tags_of(database: Path, key: str) -> dict[str, str]:
    """The tags of the active run with this `mfm.key`."""
    query = """
        SELECT a.key, a.value FROM tags a JOIN tags b ON a.run_uuid = b.run_uuid
        JOIN runs r ON r.run_uuid = a.run_uuid AND r.lifecycle_stage = 'active'
        WHERE b.key = 'mfm.key' AND b.value = ?
    """
    return dict(rows(database, query, key))
