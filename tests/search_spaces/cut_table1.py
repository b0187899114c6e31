"""DACS with MFM in both halves of Table 1, cut to two steps."""

from __future__ import annotations

from dataclasses import replace

from mfm_tune.space import Study
from search_spaces import table1
from search_spaces.table1 import Method
from tests.search_spaces.cut import FULL, SMALL, one_row
from trainables.recipes import Scale


def study(scale: Scale) -> Study:
    """One row of each half."""
    whole = table1.study(scale)
    tables = tuple(one_row(table, Method.DACS_MFM) for table in whole.tables)
    return replace(whole, tables=tables, needs=(*scale.needs, "synthia"))


STUDIES = {scale.name: study(scale) for scale in (FULL, SMALL)}
