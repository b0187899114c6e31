"""MFM with 4 blocks, a row of Table 2(b), cut to two steps."""

from __future__ import annotations

from dataclasses import replace

from mfm_tune.space import Study
from search_spaces import table2
from tests.search_spaces.cut import FULL, SMALL, one_row
from trainables.recipes import Scale


def study(scale: Scale) -> Study:
    """One row."""
    whole = table2.study(scale)
    blocks = next(table for table in whole.tables if table.name == "2b")
    return replace(whole, tables=(one_row(blocks, 4),))


STUDIES = {scale.name: study(scale) for scale in (FULL, SMALL)}
