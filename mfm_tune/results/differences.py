"""The difference between two configs of a ledger in a metric, by the interval that holds for them.

That is the two-stage interval where the ledger has a first stage of the two, else the paired t-interval.
"""

from __future__ import annotations

from collections.abc import Mapping

from mfm_tune.ledger.cells import DeclaredCell
from mfm_tune.ledger.stages import FirstStage
from mfm_tune.ledger.standing import Stages, seeds_of, stands
from mfm_tune.ledger.state import LedgerState
from mfm_tune.results.statistics import Paired, paired_difference


def cell_difference(state: LedgerState, cell: DeclaredCell, baseline: str) -> Paired:
    """A cell minus another config, in the metric of its table."""
    own = state.finals(cell.config_id, seeds_of(state, cell, cell.config_id), cell.metric)
    other = state.finals(baseline, seeds_of(state, cell, baseline), cell.metric)
    stages = Stages(state=state, study=cell.study, profile=cell.profile)
    return paired_difference(own, other, stages.of(cell.config_id, baseline, cell.metric))


def newest_stages(state: LedgerState, config: str, baseline: str) -> Mapping[str, FirstStage]:
    """Metric -> the newest first stage of two configs that stands, of whichever study."""
    found = (stage for stage in state.first_stages.values() if stage.name.configs == {config, baseline})
    return {stage.name.metric: stage for stage in found if stands(state, stage, {})}
