"""What is shown on a terminal while trials run: a table that fills up."""

from __future__ import annotations

import textwrap
from typing import Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from mfm_tune.criteria import digits_of, metric_name
from mfm_tune.digits import number
from mfm_tune.display.grid import grid
from mfm_tune.display.lines import end_text
from mfm_tune.display.progress import Progress, RunningTrial, Snapshot
from mfm_tune.ledger.records import Trial, TrialRecord
from mfm_tune.ledger.storage import Storage
from mfm_tune.planning.forecast import duration
from mfm_tune.program import Outcome
from mfm_tune.published import paper_text
from mfm_tune.space import Cell, Table

SHOWN = 4  # running trials that have a line
NO_BREAK = "\N{NO-BREAK SPACE}"  # where `textwrap` breaks no line


class LiveTable:
    """For terminals: progress, what runs, and all tables with mean ± std so far, redrawn twice a second."""

    def __init__(self, progress: Progress, storage: Storage, console: Console | None = None) -> None:
        self._progress = progress
        self._storage = storage
        self._console = console or Console()
        self._updates = 0
        self._drawn: object = None  # what the tables depended on when they were made
        self._tables: list[RenderableType] = []
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
        self._updates += 1
        if record.outcome is Outcome.FAILED:
            self._console.print(Text(end_text(self._progress, trial, record, self._storage), style="red"))

    def _picture(self) -> RenderableType:
        now = self._progress.snapshot()
        running = self._running(now)
        drawn = (self._updates, self._console.size, len(running))
        if drawn != self._drawn:  # twice a second would take time from the trials
            self._drawn, self._tables = drawn, self.tables(self._console.height - len(running) - 2)
        return Group(self._bar(now), *running, *self._tables)

    def tables(self, height: int) -> list[RenderableType]:
        """What has been reached so far: as grids side by side, and where these do not fit into so many lines, as many
        as must be in a line or two each, the finished first."""
        tables = list(self._progress.plan.tables)
        order = sorted(tables, key=lambda table: (not self._is_finished(table), -tables.index(table)))
        for count in range(len(order) + 1):
            folded = order[:count]
            parts: list[RenderableType] = [self._line(table) for table in tables if table in folded]
            grids = [self._table(table) for table in tables if table not in folded]
            parts += [Columns(grids, padding=(1, 2))] if grids else []
            if self._height(parts) <= height:
                break
        return parts

    def _height(self, parts: list[RenderableType]) -> int:
        return len(self._console.render_lines(Group(*parts), pad=False))

    def _bar(self, now: Snapshot) -> RenderableType:
        mirror = f"  MLflow {now.mirror}" if now.mirror else ""
        grid = Grid.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=1.0, completed=now.fraction, width=20),
            Text(f"{now.fraction:4.0%}  {now.ended}/{now.trials} trials  {now.opening or now.time_left}{mirror}"),
        )
        return grid

    def _running(self, now: Snapshot) -> list[RenderableType]:
        metric = self._progress.plan.study.metric
        more = len(now.running) - SHOWN
        lines = [running_text(each, metric) for each in now.running[: SHOWN - 1 if more > 0 else SHOWN]]
        lines += [f"  and {more + 1} more"] if more > 0 else []
        return [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines]

    def _table(self, table: Table) -> RenderableType:
        digits = digits_of(self._metric(table))
        rows = [(cell.level, self._progress.cell_text(cell, self._metric(table)), paper_text(cell.paper, digits))
                for cell in self._cells(table)]  # fmt: skip
        return grid(table.title, (table.axis.name, metric_name(self._metric(table)), "paper"), rows)

    def _line(self, table: Table) -> RenderableType:
        """`(b) Blocks  1: 50.1 ± 3.1  2: 50.8 ± 5.4`: lines break between cells."""
        texts = (f"{cell.level}: {self._progress.cell_text(cell, self._metric(table))}" for cell in self._cells(table))
        parts = (text.replace(" ", NO_BREAK) for text in (table.title, *texts))
        text = textwrap.fill("  ".join(parts), self._console.width, subsequent_indent="    ")
        return Text(text.replace(NO_BREAK, " "))

    def _is_finished(self, table: Table) -> bool:
        return all(self._progress.is_finished(cell) for cell in self._cells(table))

    def _cells(self, table: Table) -> list[Cell]:
        return [cell for cell in self._progress.plan.cells if cell.table == table.name]

    def _metric(self, table: Table) -> str:
        return table.metric or self._progress.plan.study.metric


def running_text(trial: RunningTrial, metric: str) -> str:
    """`  default, seed 0  step 200/400  40 s  5.1 steps/s  student mIoU 47.3`."""
    parts = [f"  {trial.name}", trial.doing or f"step {trial.step}/{trial.planned_steps}", duration(trial.elapsed_s)]
    parts += [] if trial.steps_a_second is None else [f"{trial.steps_a_second:.2g} steps/s"]
    parts += [] if trial.value is None else [f"{metric_name(metric)} {number(trial.value, digits_of(metric))}"]
    return "  ".join(parts)
