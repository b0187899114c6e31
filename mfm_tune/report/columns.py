"""The columns that a table of a report can have. Standard library only: the command line names them."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What a column holds."""

    VALUE = "value"
    PAPER = "paper"
    DIFFERENCE = "difference"  # to a baseline
    FURTHER = "further"  # one that the table asks for
    SECOND = "second"  # the study's second metric
    SECOND_DIFFERENCE = "second-difference"
    COST = "cost"


DIFFERENCES = (Kind.DIFFERENCE, Kind.SECOND_DIFFERENCE)
IN_A_PAPER = (Kind.VALUE, Kind.PAPER, Kind.DIFFERENCE)
