"""What a user sees while a search explores: progress, and the best candidates so far."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mfm_tune.display.progress import Progress
from mfm_tune.display.table import LiveTable
from mfm_tune.ledger.records import Trial
from mfm_tune.search.candidates import Candidate, candidates_of, ranking, values_text
from mfm_tune.search.proposals import ExplorationPlan
from mfm_tune.search_space import Search

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid


SHOWN = 10  # candidates of the table


class ExploreProgress(Progress):
    """Counts the candidates that are still to be proposed, too; each may take as long as a baseline."""

    plan: ExplorationPlan

    def coming(self) -> Sequence[Trial]:
        """A stand-in for each candidate that is still to be proposed."""
        like = self.plan.trials[0].trial
        return [replace(like, key=f"coming-{number}", step=0) for number in range(self.plan.to_propose)]


class ExploreTable(LiveTable):
    """For terminals: the best candidates so far, redrawn twice a second."""

    _progress: ExploreProgress

    def tables(self) -> list[RenderableType]:
        """One table."""
        plan = self._progress.plan
        return [_grid(plan.search, candidates_of(plan.state, plan.search, plan.code))]


def explored_text(search: Search, candidates: Sequence[Candidate], width: int | None = None) -> str:
    """The best candidates as text without escape codes."""
    from rich.console import Console

    columns = max(60, width or shutil.get_terminal_size((100, 24)).columns)
    file = io.StringIO()
    Console(file=file, width=columns, color_system=None, highlight=False, legacy_windows=False).print(
        _grid(search, candidates)
    )
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines() if line.strip())


def _grid(search: Search, candidates: Sequence[Candidate]) -> Grid:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    ranked = ranking(candidates, search.criterion)
    oracle = ", oracle selection" if search.criterion.oracle else ""
    title = f"Explored with seed {search.explore_seed}: the best {min(SHOWN, len(ranked))} of {len(candidates)}{oracle}"
    grid = Grid(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    grid.add_column("candidate")
    grid.add_column(Text(search.criterion.label), justify="right")
    grid.add_column("steps", justify="right")
    grid.add_column("values", overflow="fold")
    for candidate in ranked[:SHOWN]:
        record, score = candidate.record, candidate.score(search.criterion)
        assert record is not None
        steps = f"{record.step}/{record.planned_steps}" + (" stopped" if record.rung is not None else "")
        grid.add_row(candidate.name, f"{score:.4g}", steps, Text(values_text(candidate.values)))
    return grid
