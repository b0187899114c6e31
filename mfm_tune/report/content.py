"""A report before it is printed: its tables, texts and figures, made once for the page, Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mfm_tune.report.charts import Figure
from mfm_tune.report.pictures import Strip
from mfm_tune.report.sections import Text
from mfm_tune.report.tables import Grid, Printed
from mfm_tune.space import Study


@dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that the page and the Markdown print.

    Args:
        figures: By file name.
        strips: Predictions beside each other.
        classes: Network -> mean IoU of each class.
        trials: The number of each seed.
        files: What lies beside the report in `tables/`, by name.
    """

    study: Study
    text: Text
    tables: tuple[Printed, ...]
    figures: Mapping[str, Figure]
    strips: tuple[Strip, ...]
    classes: Mapping[str, Grid]
    trials: Grid
    files: Mapping[str, bytes]

    def files_of(self, table: Printed | None) -> dict[str, bytes]:
        """The files of one table; None: those that are of no table."""
        names = {f"{each.name}.{ending}": each for each in self.tables for ending in ("csv", "tex")}
        return {name: data for name, data in self.files.items() if names.get(name) is table}
