"""The commands of a study that is asked for a half-width: its seeds first, then as many more as Stein's rule takes."""

from __future__ import annotations

from dataclasses import replace

from mfm_tune.commands.options import MAX_SEEDS
from mfm_tune.commands.study import StudyCommand
from mfm_tune.errors import OptionError
from mfm_tune.ledger.events import first_stage_event
from mfm_tune.ledger.schema import Event
from mfm_tune.planning.plan import Plan, make_plan
from mfm_tune.report.numbers import counted
from mfm_tune.report.two_stage import decided
from mfm_tune.results.first_stages import settled
from mfm_tune.results.study import Results, collect


class TwoStageCommand(StudyCommand):
    """What is done with a study in two stages. The ledger has a line of what the first one settled, so whoever comes
    back goes on with the second one."""

    def check(self) -> None:
        """As for every study; it compares something, with two seeds at least that fit into the largest number."""
        super().check()
        if not any(each.metric == self.study.metric for each in self._results().comparisons):
            raise OptionError(
                f"--half-width is that of differences in {self.study.metric}, and study '{self.study.name}' compares "
                "no configs in it; give it references, or its axes `against`."
            )
        seeds = len(self.study.seeds)
        if seeds < 2:
            raise OptionError(
                "--half-width takes the spread from the study's seeds, and one seed has none; give two at least, such "
                "as --seeds 0,1,2."
            )
        if self._max_seeds < seeds:
            raise OptionError(
                f"--max-seeds must be at least {seeds}, the number of the study's seeds, got {self._max_seeds}."
            )

    def planned(self) -> Plan:
        """The study with the second stages that the ledger has the first of, minus what the ledger has."""
        session = self.session
        return make_plan(self.study, session.state, session.code, session.choice, in_two_stages=True)

    def plan(self) -> int:
        """Print what would be trained and what that takes: with the second stage, where the first one is over."""
        self.session.previewed(self.planned)  # accepts, in memory, results of other code where that is asked for
        settling = self._settling()
        if settling is not None:
            self.session.state.apply(settling)  # in memory: nothing is written
        return super().plan()

    def _described(self, plan: Plan) -> list[str]:
        lines = super()._described(plan)
        return [*lines, *(f"  stages   {sentence}" for sentence in self._sentences(plan))]

    def _sentences(self, plan: Plan) -> tuple[str, ...]:
        results = self._results()
        if not results.two_stage:
            return (self._to_decide,)
        further = sum(trial.seed not in plan.study.seeds for trial in plan.to_do)
        return (f"The second stage takes {counted(further, 'trial')} more.", *decided(results))

    @property
    def _to_decide(self) -> str:
        return (
            f"The first stage decides how many more seeds a half-width of {self._half_width:g} takes, up to "
            f"{self._max_seeds} in all."
        )

    def _train_all(self, plan: Plan) -> None:
        """Both stages, as far as they are left. A seed whose trial diverges is followed by the next one; a trial that
        fails is tried again by the next command."""
        tried: set[str] = set()
        self._settle()
        plan = self.planned()
        while True:
            print("\n".join(decided(self._results()) or (self._to_decide,)), flush=True)
            super()._train_all(plan)
            tried.update(trial.key for trial in plan.to_do)
            self._settle()
            plan = _without(self.planned(), tried)
            if not plan.to_do:
                return

    @property
    def _part(self) -> str:
        return "" if self._results().two_stage else "the first stage"

    def _settle(self) -> None:
        """Write down the first stages that have ended."""
        settling = self._settling()
        if settling is not None:
            self.session.ledger.append(settling)

    def _settling(self) -> Event | None:
        configs = {planned.trial.config_id for planned in self.planned().trials}
        found = settled(self._results(), configs, half_width=self._half_width, max_seeds=self._max_seeds)
        return first_stage_event(found) if found else None

    def _results(self) -> Results:
        return collect(self.study, self.session.state, self.session.code.digests(self.study.configs()))

    @property
    def _half_width(self) -> float:
        assert self.session.options.half_width is not None
        return self.session.options.half_width

    @property
    def _max_seeds(self) -> int:
        return self.session.options.max_seeds or MAX_SEEDS


def _without(plan: Plan, tried: set[str]) -> Plan:
    """The plan without running trials again that this launch ran."""
    trials = (replace(each, to_do=each.to_do and each.trial.key not in tried) for each in plan.trials)
    return replace(plan, trials=tuple(trials))
