"""What is shown on a terminal while trials run: a table that fills up."""

from __future__ import annotations

from typing import Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from mfm_tune.display.grid import grid
from mfm_tune.display.lines import end_text
from mfm_tune.display.progress import Progress, Snapshot
from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.storage import Storage
from mfm_tune.program import Outcome
from mfm_tune.published import paper_text
from mfm_tune.space import Table


class LiveTable:
    """For terminals: progress, what runs, and all tables with mean ± std so far, redrawn twice a second."""

    def __init__(self, progress: Progress, storage: Storage, console: Console | None = None) -> None:
        self._progress = progress
        self._storage = storage
        self._console = console or Console()
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=2,
            transient=True,
            vertical_overflow="ellipsis",
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()  # the tables of the report, or of the interruption, follow

    def update(self, trial: Trial, record: TrialRecord) -> None:
        """Take in what became of a trial; one that failed is named above the table."""
        self._progress.update(trial, record)
        if record.outcome is Outcome.FAILED:
            self._console.print(Text(end_text(self._progress, trial, record, self._storage), style="red"))

    def _picture(self) -> RenderableType:
        now = self._progress.snapshot()
        tables = Columns(self.tables(), padding=(1, 2))
        return Group(self._bar(now), *self._running(now), tables)

    def tables(self) -> list[RenderableType]:
        """What has been reached so far."""
        return [self._table(table) for table in self._progress.plan.tables]

    def _bar(self, now: Snapshot) -> RenderableType:
        mirror = f"  MLflow {now.mirror}" if now.mirror else ""
        grid = Grid.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=1.0, completed=now.fraction, width=30),
            Text(f"{now.fraction:4.0%}  {now.ended}/{now.trials} trials  {now.time_left}{mirror}"),
        )
        return grid

    def _running(self, now: Snapshot) -> list[RenderableType]:
        return [Text(f"  {each.name}  step {each.step}/{each.planned_steps}", style="dim") for each in now.running[:8]]

    def _table(self, table: Table) -> RenderableType:
        metric = table.metric or self._progress.plan.study.metric
        cells = [cell for cell in self._progress.plan.cells if cell.table == table.name]
        rows = [(cell.level, self._progress.cell_text(cell, metric), paper_text(cell.paper)) for cell in cells]
        return grid(table.title, (table.axis.name, metric, "paper"), rows)
