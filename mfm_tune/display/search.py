"""What a user sees while a search explores: progress, and the best candidates so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.table import Table

from mfm_tune.display.grid import as_lines, grid
from mfm_tune.display.progress import Progress
from mfm_tune.display.table import LiveTable
from mfm_tune.ledger.records import Trial
from mfm_tune.search.candidates import Candidate, candidates_of, ranking, values_text
from mfm_tune.search.proposals import ExplorationPlan
from mfm_tune.search_space import Search

SHOWN = 10  # candidates of the table


class ExploreProgress(Progress):
    """Counts the candidates that are still to be proposed, too; each may take as long as a baseline."""

    plan: ExplorationPlan

    def coming(self) -> Sequence[Trial]:
        """A stand-in for each candidate that is still to be proposed, or is and waits for a place."""
        like = self.plan.trials[0].trial
        waiting = {
            candidate.key
            for candidate in self.plan.candidates
            if candidate.key not in self._launch and (candidate.record is None or candidate.record.outcome is None)
        }
        count = self.plan.to_propose + len(waiting)
        return [replace(like, key=f"coming-{number}", step=0) for number in range(count)]


class ExploreTable(LiveTable):
    """For terminals: the best candidates so far, redrawn twice a second."""

    _progress: ExploreProgress

    def tables(self, height: int) -> list[RenderableType]:
        """One table, however high the screen is."""
        del height
        plan = self._progress.plan
        return [_grid(plan.search, candidates_of(plan.state, plan.search, plan.code))]


def explored_text(search: Search, candidates: Sequence[Candidate], width: int | None = None) -> str:
    """The best candidates as text without escape codes."""
    lines = as_lines([_grid(search, candidates)], width).splitlines()
    return "\n".join(line for line in lines if line)


def _grid(search: Search, candidates: Sequence[Candidate]) -> Table:
    ranked = ranking(candidates, search.criterion)
    oracle = ", oracle selection" if search.criterion.oracle else ""
    title = f"Explored with seed {search.explore_seed}: the best {min(SHOWN, len(ranked))} of {len(candidates)}{oracle}"
    rows = []
    for candidate in ranked[:SHOWN]:
        record, score = candidate.record, candidate.score(search.criterion)
        assert record is not None
        steps = f"{record.step}/{record.planned_steps}" + (" stopped" if record.rung is not None else "")
        rows.append((candidate.name, f"{score:.4g}", steps, values_text(candidate.values)))
    return grid(title, ("candidate", search.criterion.label, "steps", "values"), rows, texts=(0, 3))
