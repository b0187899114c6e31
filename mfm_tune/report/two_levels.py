"""Tables whose rows are draws of one thing, sets of initial weights say: what varies between them and within them."""

from __future__ import annotations

from mfm_tune.report.numbers import estimate, number, signed
from mfm_tune.report.text import Section
from mfm_tune.results.study import Results


def two_levels_section(results: Results) -> Section:
    """A line a table: the mean over all rows and seeds, and both standard deviations, with their intervals."""
    found = [(table, table.two_levels) for table in results.tables if table.two_levels is not None]
    sizes = dict.fromkeys(
        f"{each.groups} draws of {table.table.draws_of}, {each.each} seeds each" for table, each in found
    )
    return Section(
        key="levels",
        title="Between draws and within them",
        sentences=(f"Rows are {' and '.join(sizes)}. {_HOW_TO_READ}",) if found else (),
        headings=("table", "mean [95\N{NO-BREAK SPACE}%]", "sd between draws", "sd between seeds of one"),
        rows=tuple(
            (
                table.table.title,
                estimate(each.mean, table.metric, signed if table.comparisons else number),
                estimate(each.between, table.metric),
                estimate(each.within, table.metric),
            )
            for table, each in found
        ),
    )


_HOW_TO_READ = (
    "The interval of a mean is for all draws there could be, of which these are a few, not for more seeds of "
    "these. Both standard deviations have their own 95 % intervals. A seed has the same order of images in all draws: "
    "that cancels in differences to a baseline of the row's own, and may make the interval of other numbers too narrow."
)
