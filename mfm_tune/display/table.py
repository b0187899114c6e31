"""What is shown on a terminal while trials run: a table that fills up. Imports rich when it is shown."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from mfm_tune.display.lines import end_text
from mfm_tune.display.progress import Progress, Snapshot
from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.storage import Storage
from mfm_tune.program import Outcome
from mfm_tune.space import Table, paper_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class LiveTable:
    """For terminals: progress, what runs, and all tables with mean ± std so far, redrawn twice a second."""

    def __init__(self, progress: Progress, storage: Storage, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()  # the tables of the report, or of the interruption, follow

    def update(self, trial: Trial, record: TrialRecord) -> None:
        """Take in what became of a trial; one that failed is named above the table."""
        self._progress.update(trial, record)
        if record.outcome is Outcome.FAILED:
            from rich.text import Text

            self._console.print(Text(end_text(self._progress, trial, record, self._storage), style="red"))

    def _picture(self) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group

        now = self._progress.snapshot()
        tables = Columns(self.tables(), padding=(1, 2))
        return Group(self._bar(now), *self._running(now), tables)

    def tables(self) -> list[RenderableType]:
        """What has been reached so far."""
        return [self._table(table) for table in self._progress.plan.tables]

    def _bar(self, now: Snapshot) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table as Grid
        from rich.text import Text

        mirror = f"  MLflow {now.mirror}" if now.mirror else ""
        grid = Grid.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=1.0, completed=now.fraction, width=30),
            Text(f"{now.fraction:4.0%}  {now.ended}/{now.trials} trials  {now.time_left}{mirror}"),
        )
        return grid

    def _running(self, now: Snapshot) -> list[RenderableType]:
        from rich.text import Text

        return [Text(f"  {each.name}  step {each.step}/{each.planned_steps}", style="dim") for each in now.running[:8]]

    def _table(self, table: Table) -> RenderableType:
        from rich import box
        from rich.table import Table as Grid
        from rich.text import Text

        metric = table.metric or self._progress.plan.study.metric
        grid = Grid(title=Text(table.title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        grid.add_column(Text(table.axis.name))
        grid.add_column(Text(metric), justify="right", min_width=10)
        grid.add_column("paper", justify="right")
        for cell in self._progress.plan.cells:
            if cell.table == table.name:
                so_far = Text(self._progress.cell_text(cell, metric))
                grid.add_row(Text(cell.level), so_far, Text(paper_text(cell.paper)))
        return grid
