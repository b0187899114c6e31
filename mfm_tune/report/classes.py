"""IoU of each class as pairs of bars: what a report draws of two configs that belong beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import mfm_tune.report.charts as charts
from mfm_tune.report.charts import Figure
from mfm_tune.report.numbers import in_words, number, signed
from mfm_tune.results.statistics import Paired, Verdict, paired_difference
from mfm_tune.results.study import ConfigResult, Results, TableResult

VERDICT = {Verdict.BETTER: charts.COLOUR["good"], Verdict.WORSE: charts.COLOUR["bad"], Verdict.NOT_SHOWN: charts.SOFT}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two configs by name: a baseline, and what is compared with it. `table` is the title of the table that says so,
    empty where the study's references do."""

    base: str
    base_config: ConfigResult
    other: str
    other_config: ConfigResult
    table: str = ""

    @property
    def title(self) -> str:
        """Such as `DACS w/ MFM against DACS`."""
        return f"{self.other} against {self.base}" + (f", {self.table}" if self.table else "")


def pairs(results: Results) -> tuple[Pair, ...]:
    """The study's later references beside its first one, then rows beside references of their own."""
    of_study: list[Pair] = []
    if results.baseline is not None:
        base, *others = results.references
        of_study = [
            Pair(base=base.name, base_config=base.config, other=each.name, other_config=each.config) for each in others
        ]
    return (*of_study, *(pair for table in results.tables for pair in _own_pairs(results, table)))


def _own_pairs(results: Results, table: TableResult) -> Iterator[Pair]:
    levels = {cell.cell.config_id: cell.cell.level for cell in table.cells}
    for cell in table.cells:
        if cell.own is not None:
            yield Pair(
                base=levels.get(cell.own.config_id, cell.own.name),
                base_config=results.configs[cell.own.config_id],
                other=cell.cell.level,
                other_config=cell.config,
                table=table.table.title,
            )


@charts.house_style
def class_figures(results: Results) -> dict[str, Figure]:
    """By file name; a pair without numbers is not drawn."""
    network = results.metric.partition("/")[0]
    found = {}
    for index, pair in enumerate(pairs(results), 1):
        first, second = pair.base_config, pair.other_config
        names = [
            name
            for name in second.classes
            if first.finals(f"{network}/iou/{name}") and second.finals(f"{network}/iou/{name}")
        ]
        if names:
            found[f"classes-{index}"] = _class_bars(network, pair, names)
    return found


def _class_bars(network: str, pair: Pair, names: Sequence[str]) -> Figure:
    """Mean IoU of two configs, a pair of bars a class, seeds as dots, with the paired difference."""
    axes = charts.rows(names, f"{network} IoU in percent", charts.WIDE, row=30)
    axes.set_xlim(0, 100)
    axes.set_title("difference [95 %]", loc="right", fontsize=11, color=charts.SOFT)
    sides = (
        (pair.base, pair.base_config, charts.BASE_BAR, -0.19),
        (pair.other, pair.other_config, charts.OWN_BAR, 0.19),
    )
    dots = []
    for label, config, style, offset in sides:
        finals = [(row + offset, name, config.finals(f"{network}/iou/{name}")) for row, name in enumerate(names)]
        means = [(fmean(values.values()), y, name) for y, name, values in finals]
        charts.bars(axes, [(x, y, f"{name}, {label}: {number(x)}") for x, y, name in means], 0.34, style, label)
        dots += [
            (value, y, f"{name}, {label}, seed {seed}: {number(value)}")
            for y, name, values in finals
            for seed, value in values.items()
        ]
    charts.marks(axes, dots, charts.OVER, "a seed")
    said = []
    for row, name in enumerate(names):
        key = f"{network}/iou/{name}"
        paired = paired_difference(pair.other_config.finals(key), pair.base_config.finals(key))
        look = {"color": VERDICT[paired.verdict], "weight": "normal" if paired.verdict is Verdict.NOT_SHOWN else "bold"}
        axes.text(1.02, row, _short_difference(paired), va="center", transform=axes.get_yaxis_transform(), **look)
        said.append(f"{name}: {in_words(paired)}")
    return charts.figure(axes, "classes", f"IoU of each class: {pair.title}", "; ".join(said))


def _short_difference(paired: Paired) -> str:
    if paired.low is None or paired.high is None:
        return signed(paired.mean)
    return f"{signed(paired.mean)} [{signed(paired.low)}, {signed(paired.high)}]"
