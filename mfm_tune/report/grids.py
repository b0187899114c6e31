"""Tables of texts beside those of the study: all trials, classes, and every config against every other."""

from __future__ import annotations

from dataclasses import dataclass

from mfm_tune.criteria import criterion_of, digits_of
from mfm_tune.report.numbers import NOTHING, metric_name, number, signed, trial_text
from mfm_tune.results.statistics import summary
from mfm_tune.results.study import OWN, CellResult, Results
from mfm_tune.results.trials import ConfigResult
from mfm_tune.space import row_name

MOST_PAIRED = 32  # configs of a matrix, beyond which it is too wide to be read
SHADES = (0.5, 1.5, 3.0, 6.0)  # percent from which a difference has the next darker shade


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of texts."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Shade:
    """An entry with a background: -4 to +4, darker where a difference is larger; `told`: its interval excludes 0."""

    text: str
    level: int = 0
    told: bool = False


@dataclass(frozen=True, kw_only=True)
class Shaded:
    """A table of differences under a title, drawn as a heat map; `rows` begin with their names."""

    key: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shade, ...]], ...]


def trial_grid(results: Results) -> Grid:
    """Every config with the number of each seed, or that trial's status, in the metric that its table prints."""
    rows = [
        (
            config.name,
            metric_name(metric),
            *(trial_text(config, seed, metric) if seed in config.trials else NOTHING for seed in results.seeds),
            config.config_id,
        )
        for config, metric in results.numbered
    ]
    headings = ("config", "metric", *(f"seed {seed}" for seed in results.seeds), "config id")
    return Grid(headings=headings, rows=tuple(rows))


def class_grids(results: Results) -> dict[str, Grid]:
    """Network -> mean IoU of each class, a row a config; networks without numbers are left out."""
    grids = {network: _class_grid(results, network) for network in networks(results)}
    return {network: grid for network, grid in grids.items() if grid.rows}


def _class_grid(results: Results, network: str) -> Grid:
    classes = _classes(results)
    rows = []
    for config in results.configs.values():
        means = [summary(config.finals(f"{network}/iou/{name}").values()).mean for name in classes]
        overall = summary(config.finals(f"{network}/miou").values()).mean
        if any(mean is not None for mean in means):
            rows.append((config.name, *(number(mean) for mean in (*means, overall))))
    return Grid(headings=("config", *classes, metric_name(f"{network}/miou")), rows=tuple(rows))


def _classes(results: Results) -> tuple[str, ...]:
    return tuple(next((config.classes for config in results.configs.values() if config.classes), ()))


def networks(results: Results) -> tuple[str, ...]:
    """The networks that the study's metrics name: `student`, and `teacher` where it is the second metric."""
    keys = [key for key in (results.metric, results.second_metric) if key is not None]
    return tuple(dict.fromkeys(key.partition("/")[0] for key in keys if "/" in key))


# --------------------------------------------------------------------------------------------------------------------
# Heat maps of differences
# --------------------------------------------------------------------------------------------------------------------


def class_differences(results: Results) -> Shaded | None:
    """Every row's IoU of each class minus its baseline's; None where no class has both."""
    network = results.metric.partition("/")[0]
    names = _classes(results)
    rows: dict[tuple[str, str], tuple[str, tuple[Shade, ...]]] = {}
    for table in results.tables:
        for cell, baseline, each in table.comparisons:
            pair = each.config.config_id, each.baseline.config_id
            if baseline is table.baselines[0] and pair not in rows:
                name = each.config.name if baseline is not OWN else _own_name(cell, each.baseline)
                keys = (f"{network}/iou/{of_class}" for of_class in names)
                rows[pair] = name, tuple(_shade(results, each.config, each.baseline, key) for key in keys)
    kept = tuple((name, row) for name, row in rows.values() if any(each.text for each in row))
    against = results.references[0].name if results.references else OWN.name
    title = f"{network} IoU of each class minus {against}"
    return Shaded(key="class-differences", title=title, headings=("config", *names), rows=kept) if kept else None


def _own_name(cell: CellResult, baseline: ConfigResult) -> str:
    return f"{row_name(cell.cell.axis, cell.cell.level)} minus {baseline.name}"


def matrix(results: Results) -> Shaded | None:
    """Every config minus every other in the study's metric; None for one config and for too many to be read."""
    configs = [config for config in results.configs.values() if config.finals(results.metric)]
    if not 2 <= len(configs) <= MOST_PAIRED:
        return None
    rows = tuple(
        (row.name, tuple(_shade(results, row, column, results.metric) for column in configs)) for row in configs
    )
    title = f"Every config (row) minus every other (column), {metric_name(results.metric)}"
    headings = ("row minus column", *(config.name for config in configs))
    return Shaded(key="matrix", title=title, headings=headings, rows=rows)


def _shade(results: Results, config: ConfigResult, other: ConfigResult, metric: str) -> Shade:
    if config.config_id == other.config_id:
        return Shade(text="")
    paired = results.paired(config, other, metric)
    if paired.mean is None:
        return Shade(text="")
    level = sum(abs(paired.mean) >= edge for edge in SHADES)
    gain = criterion_of(metric).oriented(paired.mean) > 0
    return Shade(text=signed(paired.mean, digits_of(metric)), level=level if gain else -level, told=paired.sign != 0)
