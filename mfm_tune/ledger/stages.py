"""What the first stage of a two-stage procedure (Stein 1945) settles of a paired difference, as the ledger keeps it.

The spread of the first stage alone decides how many pairs of seeds the difference takes. The second stage adds them:
the smallest seeds that the first stage does not have, in order. A seed on which a trial of either config ended without
a number is followed by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

from mfm_tune.ledger.schema import Event


class StageName(NamedTuple):
    """Whose first stage it is; a - b and b - a are one difference."""

    study: str
    profile: str
    configs: frozenset[str]
    metric: str


@dataclass(frozen=True, kw_only=True)
class FirstStage:
    """The first stage of one difference.

    Args:
        name: Study, profile, the two configs, metric.
        half_width: The half-width of the 95 % interval that was asked for, in units of the metric.
        max_seeds: The most seeds of a config, both stages together.
        seeds: Seeds of the first stage.
        pairs: Those of them on which both configs have a number.
        std: Sample standard deviation of the differences over `pairs`.
        needed: How many pairs the half-width takes, those of the first stage included.
        keys: The trials that `std` is of.
    """

    name: StageName
    half_width: float
    max_seeds: int
    seeds: tuple[int, ...]
    pairs: tuple[int, ...]
    std: float
    needed: int
    keys: frozenset[str]

    @property
    def df(self) -> int:
        """Degrees of freedom of `std`."""
        return len(self.pairs) - 1

    @property
    def further(self) -> Iterator[int]:
        """Seeds that a second stage may have, in order."""
        fresh = (seed for seed in count() if seed not in self.seeds)
        return islice(fresh, max(0, self.max_seeds - len(self.seeds)))

    def second(self, ends_without: Callable[[int], bool]) -> tuple[int, ...]:
        """Seeds of the second stage.

        Args:
            ends_without: Whether a trial of a seed ended without a number.
        """
        left, seeds = self.needed - len(self.pairs), []
        for seed in self.further:
            if left <= 0:
                break
            seeds.append(seed)
            left -= not ends_without(seed)
        return tuple(seeds)


def first_stages(event: Event) -> Iterator[FirstStage]:
    """The first stages that a `first_stage` event settles.

    Raises:
        ValueError: One is not of two configs, or has fewer than two pairs, so no spread.
    """
    for each in event["differences"]:
        configs = frozenset(each["configs"])
        if len(configs) != 2 or len(set(each["pairs"])) < 2:
            raise ValueError(f"first_stage of {len(configs)} configs and {len(each['pairs'])} pairs of seeds")
        yield FirstStage(
            name=StageName(event["study"], event["profile"], configs, event["metric"]),
            half_width=float(event["half_width"]),
            max_seeds=event["max_seeds"],
            seeds=tuple(each["seeds"]),
            pairs=tuple(each["pairs"]),
            std=float(each["std"]),
            needed=each["needed"],
            keys=frozenset(each["keys"]),
        )
