"""IoU of each class as pairs of bars: what a report draws of two configs that belong beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import mfm_tune.report.charts as charts
from mfm_tune.report.charts import Figure
from mfm_tune.report.numbers import difference, in_words, number
from mfm_tune.results.statistics import Verdict
from mfm_tune.results.study import OWN, Comparison, Results

VERDICT = {
    Verdict.BETTER: charts.COLOUR["good"],
    Verdict.WORSE: charts.COLOUR["bad"],
    Verdict.INCONCLUSIVE: charts.SOFT,
}


@dataclass(frozen=True)
class Pair:
    """A comparison with the names that its two configs have on the page.

    Args:
        table: The title of the table whose rows have baselines of their own; empty for the study's references.
    """

    comparison: Comparison
    name: str
    baseline: str
    table: str = ""

    @property
    def title(self) -> str:
        """Such as `DACS w/ MFM against DACS`."""
        return f"{self.name} against {self.baseline}" + (f", {self.table}" if self.table else "")


def pairs(results: Results) -> tuple[Pair, ...]:
    """The study's later references beside its first one, then rows beside baselines of their own."""
    found = [Pair(each, each.config.name, each.baseline.name) for each in results.main]
    for table in results.tables:
        levels = {cell.cell.config_id: cell.cell.level for cell in table.cells}
        for cell, baseline, each in table.comparisons:
            if baseline is OWN:
                name = levels.get(each.baseline.config_id, each.baseline.name)
                found.append(Pair(each, cell.cell.level, name, table.table.title))
    return tuple(found)


@charts.house_style
def class_figures(results: Results) -> dict[str, Figure]:
    """By file name; a pair without numbers is not drawn."""
    network = results.metric.partition("/")[0]
    found = {}
    for index, pair in enumerate(pairs(results), 1):
        first, second = pair.comparison.baseline, pair.comparison.config
        names = [
            name
            for name in second.classes
            if first.finals(f"{network}/iou/{name}") and second.finals(f"{network}/iou/{name}")
        ]
        if names:
            found[f"classes-{index}"] = _class_bars(results, network, pair, names)
    return found


def _class_bars(results: Results, network: str, pair: Pair, names: Sequence[str]) -> Figure:
    """Mean IoU of two configs, a pair of bars a class, seeds as dots, with the paired difference."""
    axes = charts.rows(names, f"{network} IoU in percent", charts.WIDE, row=30)
    axes.set_xlim(0, 100)
    axes.set_title("difference [95 %]", loc="right", fontsize=11, color=charts.SOFT)
    sides = (
        (pair.baseline, pair.comparison.baseline, charts.BASE_BAR, -0.19),
        (pair.name, pair.comparison.config, charts.OWN_BAR, 0.19),
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
    words = []
    for row, name in enumerate(names):
        key = f"{network}/iou/{name}"
        paired = results.paired(pair.comparison.config, pair.comparison.baseline, key)
        weight = "bold" if paired.sign else "normal"
        text = difference(paired, key).removesuffix(" (1 seed)")
        charts.beside(axes, 1.02, row, text, {"color": VERDICT[paired.verdict(key)], "weight": weight})
        words.append(f"{name}: {in_words(paired, key)}")
    return charts.figure(axes, "classes", f"IoU of each class: {pair.title}", "; ".join(words))
