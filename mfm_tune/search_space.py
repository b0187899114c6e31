"""What a search declares: ranges of parameters, how they are sampled, when trials stop early. Standard library only.

    SEARCH = Search(
        name="mine", title="Mine", profile="mini", program=Segmentation(),
        parameters={"ratio": Float(0.1, 0.9), "blocks": Choice((1, 2, 4))},
        make=lambda values: recipe(ratio=values["ratio"], blocks=values["blocks"]),
        baselines={"default": recipe()},
    )

A search explores with one seed, confirms the best with all seeds, and reports (`mfm_tune.search.candidates`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from mfm_tune.criteria import TARGET_MIOU, Criterion
from mfm_tune.distributions import Choice, Distribution, Float, Integer, Printed
from mfm_tune.errors import SearchSpaceError, asked
from mfm_tune.fields import AtLeast0, AtLeast1, BelowOne, IntRange
from mfm_tune.identity import config_id
from mfm_tune.published import Declared, check_line
from mfm_tune.space import Config, Experiment, check_config, check_seeds

__all__ = ["Asha", "Choice", "Distribution", "Float", "Grid", "Integer", "Median", "Other", "Printed", "Random",
           "Sampler", "Scheduler", "Search", "Tpe", "Values"]  # fmt: skip

Values = Mapping[str, Any]  # a parameter's value by its name, as `make` takes it

MOST = 10_000  # points of one search: what a sampler gets through, and what the ledger and the report can show

# --------------------------------------------------------------------------------------------------------------------
# Samplers and schedulers
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tpe(Declared):
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011); `startup` points are random."""

    startup: AtLeast0 = 10

    def __str__(self) -> str:
        return f"TPE, {self.startup} random points first"


@dataclass(frozen=True)
class Random(Declared):
    """Independent random points."""

    def __str__(self) -> str:
        return "random"


@dataclass(frozen=True)
class Grid(Declared):
    """Every combination, in an order drawn from the search's seed; `points` is how many a continuous range gives."""

    points: Annotated[int, IntRange(1, MOST)] = 3

    def __str__(self) -> str:
        return f"grid, {self.points} points a continuous range"


@dataclass(frozen=True)
class Other(Declared):
    """Any other sampler of Optuna: `Other(lambda seed: optuna.samplers.GPSampler(seed=seed), "Gaussian process")`."""

    make: Callable[[int], Any]
    name: str

    def __str__(self) -> str:
        return self.name


Sampler = Tpe | Random | Grid | Other


@dataclass(frozen=True, kw_only=True)
class Asha(Declared):
    """Asynchronous successive halving, the stopping variant (Li et al. 2020).

    It looks after 1/4 and 1/2 of a trial's planned steps by default, and half of the trials go on. A fraction of the
    planned steps rather than a number of them, so that trials that train longer (equal compute) meet the others at the
    same part of their schedule. Let evaluations fall on the rungs.

    Args:
        reduction_factor: One in this many trials goes on beyond a rung.
        rungs: How many there are below the last step.
        brackets: Bracket b leaves out the first b rungs; a trial's own is drawn from its key.
    """

    reduction_factor: Annotated[int, IntRange(2)] = 2
    rungs: AtLeast1 = 2
    brackets: AtLeast1 = 1

    def _check_together(self) -> None:
        if self.brackets > self.rungs:
            raise SearchSpaceError(
                f"Asha.brackets must be at most the number of rungs, got {self.brackets} with {self.rungs} rungs."
            )

    def reached(self, step: int, planned_steps: int) -> int:
        """The number of rungs at or below a step, 0 to `rungs`."""
        return sum(step * self.reduction_factor ** (self.rungs - rung) >= planned_steps for rung in range(self.rungs))

    def __str__(self) -> str:
        at = ", ".join(f"1/{self.reduction_factor ** (self.rungs - rung)}" for rung in range(self.rungs))
        brackets = f", {self.brackets} brackets" if self.brackets > 1 else ""
        return f"ASHA, 1 in {self.reduction_factor} goes on after {at} of the steps{brackets}"


@dataclass(frozen=True, kw_only=True)
class Median(Declared):
    """Median stopping (Golovin et al. 2017): a trial ends whose best value lies below the median of the others' means.

    Args:
        grace: Share of the planned steps before which nothing is stopped.
        trials: How many others must have come as far.
    """

    grace: BelowOne = 0.25
    trials: AtLeast1 = 3

    def __str__(self) -> str:
        return f"median stopping after {self.grace:g} of the steps, among {self.trials} others at least"


Scheduler = Asha | Median

# --------------------------------------------------------------------------------------------------------------------
# A search
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Search(Experiment):
    """Ranges to explore, and how the best of what was found is confirmed.

    Args:
        parameters: Distributions by name.
        make: The complete config of values by name (options of a `Choice` as they were given). A ValueError says that
            a combination is none; another is drawn.
        baselines: Configs that every trial is compared with, by the name printed. They start first, are never stopped
            early, and are confirmed beside the best. They do not count among `trials`.
        first: Points that are tried first, such as the default's.
        trials: How many points are explored.
        explore_seed: The one seed that exploring trains with; it seeds the sampler too.
        confirm: How many of the best are confirmed.
        seeds: Of the confirmation; by default the first three that are not `explore_seed`. Seeds without it had no part
            in the choice, so that their mean is not flattered by it; with it what exploring has finished is not trained
            again.
        criterion: By which the best are chosen, and trials stopped early.
        sampler, scheduler: See there; the scheduler None stops nothing.
        name, metric, second_metric: Those of the study that confirms, too.

    Raises:
        SearchSpaceError: One of these cannot be.
    """

    parameters: Mapping[str, Distribution]
    make: Callable[[Values], Config]
    baselines: Mapping[str, Config]
    first: tuple[Values, ...] = ()
    trials: Annotated[int, IntRange(1, MOST)] = 40
    explore_seed: int = 0
    confirm: AtLeast1 = 3
    seeds: tuple[int, ...] = ()
    criterion: Criterion = TARGET_MIOU
    sampler: Sampler = field(default_factory=Tpe)
    scheduler: Scheduler | None = field(default_factory=Asha)

    def __post_init__(self) -> None:
        if self.seeds == ():
            fresh = (seed for seed in itertools.count() if seed != self.explore_seed)
            object.__setattr__(self, "seeds", tuple(itertools.islice(fresh, 3)))
        super().__post_init__()

    def _check_together(self) -> None:
        if not self.parameters or not self.baselines:
            what = "parameters" if not self.parameters else "baselines"
            raise SearchSpaceError(f"Search '{self.name}' has no {what}; give at least one.")
        if self.confirm > self.trials:
            raise SearchSpaceError(
                f"Search '{self.name}' must have confirm <= trials, got {self.confirm} and {self.trials}."
            )
        for name in self.parameters:
            check_line(name, f"Search '{self.name}', a parameter's name")
        self._check_configs(self.baselines, "baseline")
        check_seeds((self.explore_seed,))
        for values in self.first:
            self._check_first(values)

    @cached_property
    def baseline_ids(self) -> Mapping[str, str]:
        """The config id of each baseline by its name."""
        return {name: config_id(config) for name, config in self.baselines.items()}

    def configs(self) -> dict[str, Config]:
        """The configs that are known before anything has run, by id: those of baselines."""
        return dict(zip(self.baseline_ids.values(), self.baselines.values(), strict=True))

    @cached_property
    def count(self) -> int | None:
        """How many points there are; None where a range is a continuum."""
        counts = [distribution.count for distribution in self.parameters.values()]
        known = [count for count in counts if count is not None]
        return math.prod(known) if len(known) == len(counts) else None

    @property
    def most(self) -> int:
        """How many points are explored at most: as many as asked for, or as there are."""
        if isinstance(self.sampler, Grid):
            sizes = (len(each.grid(self.sampler.points)) for each in self.parameters.values())
            return min(self.trials, math.prod(sizes) + len(self.first))
        return self.trials if self.count is None else min(self.trials, self.count)

    def printed(self, values: Values) -> dict[str, Printed]:
        """Values as they are printed and kept in the ledger."""
        return {name: distribution.printed(values[name]) for name, distribution in self.parameters.items()}

    def values(self, printed: Mapping[str, Printed]) -> dict[str, Any]:
        """The values that are printed so.

        Raises:
            ValueError: A parameter is missing or more than there are, or a value is none of its distribution.
        """
        if printed.keys() != self.parameters.keys():
            raise ValueError(f"The parameters are {', '.join(self.parameters)}, got {', '.join(printed)}.")
        return {name: distribution.value(printed[name]) for name, distribution in self.parameters.items()}

    def config(self, values: Values) -> Config:
        """The config of values.

        Raises:
            ValueError: `make` says that this combination is none.
            SearchSpaceError: `make` fails otherwise, or makes no config.
        """
        where = f"Search '{self.name}', make"
        try:
            config = asked(self.make, values, where)
        except SearchSpaceError as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None
            raise
        check_config(config, where)
        return config

    def _check_first(self, values: Values) -> None:
        try:
            if values.keys() != self.parameters.keys():
                raise ValueError(f"the parameters are {', '.join(self.parameters)}, got {', '.join(values)}.")
            self.values(self.printed(values))
        except ValueError as error:
            raise SearchSpaceError(f"Search '{self.name}', first: {error}") from error
