"""IoU of each class as pairs of bars: what a report draws of two configs that belong beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mfm_tune.report_figures import WIDE, Figure
from mfm_tune.report_svg import Drawing, Scale, bottom_axis, legend, legend_height, shortened, text_width
from mfm_tune.report_text import in_words, number, signed
from mfm_tune.results import ConfigResult, Results, TableResult
from mfm_tune.statistics import Paired, Summary, Verdict, paired_difference, summary


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
    first, second = (pair.base, pair.base_config), (pair.other, pair.other_config)
    entries = [("bar base", first[0]), ("bar own", second[0]), ("dot over", "a seed")]
    left = min(150.0, 14 + max(map(text_width, names)))
    right = WIDE - 118  # what is beyond belongs to the differences
    top, row = legend_height(entries, right - left) + 8, 30.0
    bottom = top + row * len(names)
    drawing = Drawing(width=WIDE, height=bottom + 38)
    across = Scale(low=0, high=100, start=left, end=right)
    legend(drawing, entries, left, 10, right)
    bottom_axis(drawing, across, top, bottom, f"{network} IoU in percent")
    drawing.text(WIDE, top - 2, "difference [95 %]", "tick", "end")
    said = []
    for index, name in enumerate(names):
        y = top + row * index
        drawing.text(left - 8, y + 19, shortened(name, left - 10), "label", "end")
        values = [config.finals(f"{network}/iou/{name}") for _, config in (first, second)]
        for offset, kind, label, numbers in ((4, "base", first[0], values[0]), (15, "own", second[0], values[1])):
            _class_bar(drawing, across, y + offset, kind, f"{name}, {label}", numbers)
        paired = paired_difference(values[1], values[0])
        drawing.text(WIDE, y + 19, _short_difference(paired), _verdict_kind(paired), "end")
        said.append(f"{name}: {in_words(paired)}")
    return Figure(
        group="classes",
        title=f"IoU of each class: {pair.title}",
        description="; ".join(said),
        drawing=drawing,
    )


def _class_bar(drawing: Drawing, across: Scale, y: float, kind: str, title: str, numbers: Mapping[int, float]) -> None:
    found: Summary = summary(numbers.values())
    if found.mean is None:
        return
    drawing.bar(across(0), y, across(found.mean) - across(0), 10, kind, f"{title}: {number(found.mean)}")
    for seed, value in numbers.items():
        drawing.dot(across(value), y + 5, "over", f"{title}, seed {seed}: {number(value)}", radius=2)


def _short_difference(paired: Paired) -> str:
    if paired.low is None or paired.high is None:
        return signed(paired.mean)
    return f"{signed(paired.mean)} [{signed(paired.low)}, {signed(paired.high)}]"


def _verdict_kind(paired: Paired) -> str:
    return {Verdict.BETTER: "better", Verdict.WORSE: "worse", Verdict.NOT_SHOWN: "tick"}[paired.verdict]
