"""Which first stages of a ledger stand, and the seeds that a config has by them. All readers use this rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mfm_tune.ledger.cells import DeclaredCell
from mfm_tune.ledger.stages import FirstStage, StageName
from mfm_tune.ledger.state import LedgerState


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The first stages of one study.

    Args:
        codes: Config id -> fingerprint of the code whose results count; for others, as a driver last declared.
    """

    state: LedgerState
    study: str
    profile: str
    codes: Mapping[str, str] = field(default_factory=dict)

    def of(self, config: str, baseline: str, metric: str) -> FirstStage | None:
        """That of a difference; None where there is none, or its trials count no longer."""
        name = StageName(self.study, self.profile, frozenset((config, baseline)), metric)
        stage = self.state.first_stages.get(name)
        return stage if stage is not None and stands(self.state, stage, self.codes) else None

    def seeds(self, config: str, among: Collection[str] | None = None) -> tuple[int, ...]:
        """The seeds of both stages of a config: the most that a difference to one of `among` (None: any) asks for."""
        found: set[int] = set()
        for name, stage in self.state.first_stages.items():
            here = (name.study, name.profile) == (self.study, self.profile) and config in name.configs
            asked = here and (among is None or name.configs <= set(among))
            if asked and stands(self.state, stage, self.codes):
                found.update(stage.seeds, self.second(stage))
        return tuple(sorted(found))

    def every(self, config: str, declared: Sequence[int]) -> tuple[int, ...]:
        """The seeds of a config: those that its study declares, and those of both stages."""
        return tuple(dict.fromkeys((*declared, *self.seeds(config))))

    def second(self, stage: FirstStage) -> tuple[int, ...]:
        """Seeds of the second stage of a difference, as far as its trials went."""
        return stage.second(lambda seed: self._ended_without(stage, seed))

    def reach(self, stage: FirstStage) -> int:
        """How many pairs of seeds both stages of a difference come to, at most as many as it needs."""
        return len(stage.pairs) + sum(not self._ended_without(stage, seed) for seed in self.second(stage))

    def _ended_without(self, stage: FirstStage, seed: int) -> bool:
        """Whether a trial of either config ended without a number, so that the seed gives no pair."""
        records = (self.state.counts(config, seed, self.codes.get(config)) for config in stage.name.configs)
        return any(each and each.is_final and each.final(stage.name.metric) is None for each in records)


def stands(state: LedgerState, stage: FirstStage, codes: Mapping[str, str]) -> bool:
    """Whether the trials of a first stage are those that count: not where other code trained them again."""
    counting = (state.counts(config, seed, codes.get(config)) for config in stage.name.configs for seed in stage.pairs)
    return {record.key for record in counting if record is not None} == stage.keys


def seeds_of(state: LedgerState, cell: DeclaredCell, config: str) -> tuple[int, ...]:
    """The seeds of a config in a cell's study: those that the study declares, and those of both stages."""
    return Stages(state=state, study=cell.study, profile=cell.profile).every(config, cell.seeds)
