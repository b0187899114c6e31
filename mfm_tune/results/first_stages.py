"""The first stages that a study's trials complete: how far the differences of each comparison spread over its seeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mfm_tune.ledger.stages import FirstStage, StageName
from mfm_tune.results.statistics import paired_difference, pairs_needed
from mfm_tune.results.study import Comparison, Results
from mfm_tune.results.trials import ConfigResult


def settled(results: Results, configs: Collection[str], *, half_width: float, max_seeds: int) -> tuple[FirstStage, ...]:
    """The first stages that the ledger does not have in this form, of comparisons in the study's metric.

    One that the ledger has keeps its seeds and its spread, whatever the study's seeds are now; another half-width or
    largest number of seeds is another second stage of it. A comparison with fewer than two pairs of seeds has none.

    Args:
        configs: Ids of those that are compared.
        half_width: Of the 95 % intervals, in units of the metric.
        max_seeds: The most seeds of a config.
    """
    found: dict[frozenset[str], FirstStage] = {}
    for each in results.comparisons:
        if each.metric != results.metric or not each.configs <= set(configs):
            continue
        known = each.paired.first
        stage = known or _completed(results, each)
        if stage is not None:
            needed = pairs_needed(stage.std, len(stage.pairs), half_width)
            asked = replace(stage, half_width=half_width, max_seeds=max_seeds, needed=needed)
            if asked != known:
                found[each.configs] = asked
    return tuple(found.values())


def _completed(results: Results, comparison: Comparison) -> FirstStage | None:
    """The first stage of a comparison, with nothing asked for yet; None while one of its trials has not ended, and
    where fewer than two seeds have both numbers."""
    seeds, metric = tuple(results.study.seeds), comparison.metric
    first, second = comparison.config, comparison.baseline
    records = [side.trials[seed] for side in (first, second) for seed in seeds]
    paired = paired_difference(_finals(first, metric, seeds), _finals(second, metric, seeds))
    if paired.std is None or not all(record is not None and record.is_final for record in records):
        return None
    return FirstStage(
        name=StageName(results.study.name, results.study.profile, comparison.configs, metric),
        half_width=0.0,
        max_seeds=0,
        seeds=seeds,
        pairs=tuple(paired.per_seed),
        std=paired.std,
        needed=0,
        keys=frozenset(record.key for record in records if record is not None and record.seed in paired.per_seed),
    )


def _finals(config: ConfigResult, metric: str, seeds: Collection[int]) -> dict[int, float]:
    return {seed: value for seed, value in config.finals(metric).items() if seed in seeds}
