"""The paper's profile cut to two steps of one image a domain: what differs is how long it trains, and nothing else.

Two networks: the paper's own DeepLab-V2 with ResNet-101, and a small one on the same stores, images and crops, which a
test can afford.
"""

from __future__ import annotations

from dataclasses import replace

from mfm_tune.space import Table
from trainables.config import SmallDeepLab
from trainables.recipes import PAPER

FULL = replace(
    PAPER,
    schedule=replace(PAPER.schedule, steps=2, warmup_steps=1),
    batch_size=1,
    evaluation=replace(PAPER.evaluation, interval=2),
)
SMALL = replace(
    FULL,
    name="smoke",
    network=SmallDeepLab(widths=(8, 16, 24)),
    initial=None,
    native_grid=(128, 128),  # of the small network's features of a crop of 512, at stride 4
    dim_divisor=16,
    heads=4,
    needs=("gta", "cityscapes"),
)


def one_row(table: Table, level: object) -> Table:
    """The table with one of its rows."""
    kept = tuple(pair for pair in table.axis.levels if pair[0] == level)
    return replace(table, axis=replace(table.axis, levels=kept), quoted=())
