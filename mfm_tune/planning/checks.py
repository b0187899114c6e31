"""See, before anything is trained, that trials report what tables print and what a search chooses by."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from mfm_tune.errors import SearchSpaceError
from mfm_tune.program import Program
from mfm_tune.search_space import Search
from mfm_tune.space import Config, Study, Table


def check_study(study: Study) -> None:
    """Raise `SearchSpaceError` where a study names a metric that its configs do not report."""
    trained = list(study.references.values())
    for table in study.tables:
        configs = [cell.config for cell in study.cells_of(table)]
        trained += configs
        reported = _reported(study.program, configs)
        for field, key in _printed(study, table):
            _check(f"Table '{table.name}' of study '{study.name}', {field}", key, reported)
    if study.second_metric is not None:
        _check(f"Study '{study.name}', second_metric", study.second_metric, _reported(study.program, trained))


def _printed(study: Study, table: Table) -> list[tuple[str, str]]:
    return [("metric", table.metric or study.metric), *(("columns", key) for key, _ in table.columns)]


def check_search(search: Search) -> None:
    """Raise `SearchSpaceError` where a config that explores does not report the criterion, or none of them what the
    confirmed table prints."""
    explored = [(f"baseline '{name}'", config) for name, config in search.baselines.items()]
    explored += [("a point that `make` makes", config) for config in _a_point(search)]
    for name, config in explored:
        reported = _reported(search.program, [config])
        _check(f"Search '{search.name}', criterion of {name}", search.criterion.key, reported)
    reported = _reported(search.program, [config for _, config in explored])
    _check(f"Search '{search.name}', metric", search.metric, reported)
    if search.second_metric is not None:
        _check(f"Search '{search.name}', second_metric", search.second_metric, reported)


def _a_point(search: Search) -> list[Config]:
    """The config in the middle of all ranges; none where that combination is none."""
    try:
        return [search.config({name: each.grid(1)[0] for name, each in search.parameters.items()})]
    except ValueError:
        return []


def _reported(program: Program, configs: Iterable[Config]) -> Sequence[str]:
    try:
        return list(dict.fromkeys(key for config in configs for key in program.metrics(config)))
    except (ValueError, TypeError) as error:
        raise SearchSpaceError(f"A config is one that its program refuses: {error}") from error


def _check(where: str, key: str, reported: Sequence[str]) -> None:
    if any(key == metric or (metric.endswith("/") and key.startswith(metric)) for metric in reported):
        return
    close = difflib.get_close_matches(key, reported, n=1)
    remedy = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(reported)}."
    raise SearchSpaceError(f"{where}: '{key}' is no metric that these trials report; {remedy}")
