"""The page about encoders declares what can be declared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mfm_tune.identity import config_id
from tests.benchmarks.encoders import FAMILIES
from trainables.config import HRDA, Segmenter

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")


def test_its_networks_are_networks() -> None:
    """Each has an id of its own; none is built."""
    found = re.search(r"<!-- tested: encoder -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found.group(1), names)
    networks = [value for value in names.values() if isinstance(value, Segmenter | HRDA)]
    assert len({config_id(network) for network in networks}) == len(networks) == 3


def test_its_table_has_families_of_the_benchmark() -> None:
    """Each row is one of the benchmark's."""
    rows = dict(re.findall(r"^\| (.+?) \| `(.+?)` \|", PAGE, re.MULTILINE))
    assert rows
    assert rows.items() <= FAMILIES.items()
