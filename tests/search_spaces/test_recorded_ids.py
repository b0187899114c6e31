"""Ids of every config that the search spaces declare, against a recorded list: results of earlier runs stay theirs.

An id that moves on purpose is recorded again, with the reason in the commit:

    python -m tests.search_spaces.test_recorded_ids
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfm_tune.identity import config_id
from mfm_tune.planning.loading import load_search_space
from mfm_tune.search_space import Search
from mfm_tune.space import Study

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests" / "golden" / "config_ids.json"
SPACES = sorted(path for path in (ROOT / "search_spaces").glob("*.py") if path.name != "__init__.py")


def named_ids(declared: Study | Search) -> Iterator[tuple[str, str]]:
    """What a study or search trains, by name, with the id of each."""
    if isinstance(declared, Search):
        yield from ((f"baseline {name}", config_id(config)) for name, config in declared.baselines.items())
        for number, values in enumerate(declared.first):
            yield f"first {number}", config_id(declared.make(values))
        return
    yield from ((f"reference {name}", config_id(config)) for name, config in declared.references.items())
    yield from ((f"{cell.table} {cell.axis} {cell.level}", cell.config_id) for cell in declared.cells())


def ids_of(space: Path) -> dict[str, dict[str, str]]:
    """Profile -> name of a cell -> config id."""
    return {profile: dict(named_ids(each)) for profile, each in load_search_space(space).declared.items()}


@pytest.mark.parametrize("space", SPACES, ids=lambda path: path.stem)
def test_configs_have_the_ids_that_were_recorded(space: Path) -> None:
    """Every study, profile and cell; rows that are new may be missing from the record, none may have moved."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))[space.stem]
    now = ids_of(space)
    for profile, cells in recorded.items():
        assert {cell: now[profile].get(cell) for cell in cells} == cells


def test_the_record_names_every_search_space() -> None:
    """And something in each of its profiles."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert {name for name, profiles in recorded.items() if all(profiles.values())} >= {path.stem for path in SPACES}


if __name__ == "__main__":
    RECORD.write_text(json.dumps({path.stem: ids_of(path) for path in SPACES}, indent=1) + "\n", encoding="utf-8")
