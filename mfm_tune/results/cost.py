"""What a gain costs: differences to the first reference beside the time of a step."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from mfm_tune.results.study import Comparison, Results


def step_ratios(results: Results) -> Mapping[str, float]:
    """Config id -> its time a step as a multiple of the first reference's, from medians over all trials of one cost
    class on the machine of most trials: configs of one class differ by the machine's other work alone."""
    if not results.references or not results.environments:
        return {}
    declared, program = results.study.configs(), results.study.program
    classes = {config: program.cost_class(declared[config]) for config in results.configs}
    times: dict[str, list[float]] = {}
    for config, result in results.configs.items():
        times.setdefault(classes[config], []).extend(result.step_times(results.environments[0]))
    medians = {name: median(values) for name, values in times.items() if values}
    base = medians.get(classes[results.references[0].config_id])
    if not base:
        return {}
    return {config: medians[name] / base for config, name in classes.items() if name in medians}


def gains(results: Results) -> tuple[tuple[float, Comparison], ...]:
    """Every config against the first reference in the study's metric, with its time a step in multiples of that one's;
    empty where all take the same time."""
    ratios = step_ratios(results)
    found = {
        each.config.config_id: (ratios[each.config.config_id], each)
        for each in results.comparisons
        if each.config.config_id in ratios and each.baseline is results.references[0] and each.metric == results.metric
    }
    return tuple(found.values()) if {ratio for ratio, _ in found.values()} - {1.0} else ()
