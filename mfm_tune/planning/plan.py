"""What is to be trained: a study becomes distinct configs, these become trials, and the ledger is subtracted.

Trials are ordered seed-major, so that the table of one seed is complete early; within a seed the references come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

from mfm_tune.errors import ChangedCodeError, OptionError, SearchSpaceError
from mfm_tune.fields import AtLeast1, Line, Settings, hyphened
from mfm_tune.identity import config_id
from mfm_tune.ledger.records import Status, Trial, TrialRecord, status_of, trial_folder, trial_key
from mfm_tune.ledger.standing import Stages
from mfm_tune.ledger.state import LedgerState
from mfm_tune.planning.fingerprint import Fingerprint, TrainingCode, changed_files
from mfm_tune.program import DescribesData, Outcome, Program
from mfm_tune.space import Cell, Study, Table

NAMED = 6  # configs of one cost that are named


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of a study's trials a launch wants.

    Args:
        only: Names of axes or tables; empty takes all.
        retry: Outcomes that are tried again although they are results (OOM, DIVERGED).
        asha: A scheduler decides how far trials go, so those that it stopped stay stopped.
    """

    only: tuple[str, ...] = ()
    retry: frozenset[Outcome] = frozenset()
    asha: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """A trial, what the ledger knows of it, and whether this launch runs it."""

    trial: Trial
    record: TrialRecord | None
    status: Status
    to_do: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a launch will do. `fingerprints` holds the code of every planned trial, by digest."""

    study: Study
    tables: tuple[Table, ...]
    cells: tuple[Cell, ...]
    trials: tuple[PlannedTrial, ...]
    fingerprints: Mapping[str, Fingerprint]

    @property
    def to_do(self) -> tuple[Trial, ...]:
        """The trials to run, in order."""
        return tuple(planned.trial for planned in self.trials if planned.to_do)

    @property
    def distinct(self) -> int:
        """How many distinct configs there are."""
        return len({planned.trial.config_id for planned in self.trials})

    def name_of(self, config: str) -> str:
        """The name of a config by its id."""
        return self.study.name_of(config)


def selected_tables(study: Study, only: tuple[str, ...]) -> tuple[Table, ...]:
    """The tables of a study whose name or axis is asked for; all where nothing is.

    Raises:
        OptionError: A name that no table and no axis has.
    """
    if not only:
        return study.tables
    named = {table.axis.name for table in study.tables} | {table.name for table in study.tables}
    for name in only:
        if name not in named:
            axes = ", ".join(dict.fromkeys(table.axis.name for table in study.tables))
            tables = ", ".join(table.name for table in study.tables)
            raise OptionError(
                f"--only got '{name}', which study '{study.name}' does not have; its axes are {axes}, "
                f"and its tables {tables}."
            )
    return tuple(table for table in study.tables if table.name in only or table.axis.name in only)


def make_plan(
    study: Study, state: LedgerState, code: TrainingCode, choice: Choice, *, in_two_stages: bool = False
) -> Plan:
    """Expand a study and subtract what the ledger has.

    The references are part of every plan, because each cell is compared with them.

    Args:
        in_two_stages: Whether the seeds that second stages ask for, as far as the ledger has their first stages, are
            part of it.

    Raises:
        OptionError: `choice.only` names what the study does not have.
        SearchSpaceError: A config that the program refuses, or code that cannot be read.
    """
    tables = selected_tables(study, choice.only)
    cells = tuple(cell for table in tables for cell in study.cells_of(table))
    configs = study.configs(tables)
    described = {name: _described(study.program, config, f"study '{study.name}'") for name, config in configs.items()}
    prints = {name: code.fingerprint(config) for name, config in configs.items()}
    codes = {name: fingerprint.digest for name, fingerprint in prints.items()}
    stages = Stages(state=state, study=study.name, profile=study.profile, codes=codes)
    further = {name: stages.seeds(name, configs.keys()) if in_two_stages else () for name in configs}
    planned = tuple(
        _planned(name, seed, configs[name], described[name], codes[name], state, choice)
        for seed in dict.fromkeys((*study.seeds, *sorted(chain.from_iterable(further.values()))))
        for name in configs
        if seed in study.seeds or seed in further[name]
    )
    return Plan(
        study=study,
        tables=tables,
        cells=cells,
        trials=planned,
        fingerprints={fingerprint.digest: fingerprint for fingerprint in prints.values()},
    )


def plan_trial(
    program: Program, config: Any, seed: int, code: TrainingCode, state: LedgerState, choice: Choice, *, where: str
) -> PlannedTrial:
    """One trial, apart from any table, as a launch finds it.

    Args:
        where: What holds the config, for the sentence of an error: `study 'table2'`.

    Raises:
        SearchSpaceError: The program refuses the config, or code cannot be read.
    """
    described = _described(program, config, where)
    return _planned(config_id(config), seed, config, described, code.fingerprint(config).digest, state, choice)


@dataclass(frozen=True)
class Described(Settings):
    """What a program knows of a config before it is trained."""

    planned_steps: AtLeast1
    cost_class: Line
    benchmark: Line
    class_names: tuple[str, ...]
    data: tuple[Mapping[str, Any], ...]


def _described(program: Program, config: Any, where: str) -> Described:
    try:
        return Described(
            planned_steps=program.planned_steps(config),
            cost_class=program.cost_class(config),
            benchmark=program.benchmark(config),
            class_names=tuple(program.class_names(config)),
            data=tuple(program.data_sets(config)) if isinstance(program, DescribesData) else (),
        )
    except (ValueError, TypeError) as error:
        raise SearchSpaceError(
            f"{where[:1].upper()}{where[1:]} holds a config that its program refuses: {error}"
        ) from error


def _planned(
    config_id: str,
    seed: int,
    config: Any,
    described: Described,
    fingerprint: str,
    state: LedgerState,
    choice: Choice,
) -> PlannedTrial:
    record = state.counts(config_id, seed, fingerprint)
    own = record if record is not None and record.fingerprint == fingerprint else None
    trial = Trial(
        key=trial_key(config_id, seed, fingerprint),
        config=config,
        config_id=config_id,
        seed=seed,
        fingerprint=fingerprint,
        folder=trial_folder(config_id, seed, fingerprint),
        planned_steps=described.planned_steps,
        cost_class=described.cost_class,
        benchmark=described.benchmark,
        classes=described.class_names,
        data=described.data,
        step=own.step if own else 0,
        attempts=own.attempts if own else 0,
    )
    return PlannedTrial(trial=trial, record=record, status=status_of(record), to_do=_is_to_do(record, choice))


def _is_to_do(record: TrialRecord | None, choice: Choice) -> bool:
    if record is None or record.outcome is None or record.outcome is Outcome.FAILED:
        return True
    if record.outcome is Outcome.STOPPED:
        return not choice.asha
    return record.outcome in choice.retry


# --------------------------------------------------------------------------------------------------------------------
# Results of other code
# --------------------------------------------------------------------------------------------------------------------


def results_of_other_code(plan: Plan, state: LedgerState) -> dict[tuple[str, str], int]:
    """How many finished trials would be trained again because the code changed, by (their fingerprint, today's)."""
    counts: Counter[tuple[str, str]] = Counter()
    for planned in plan.trials:
        trial = planned.trial
        if planned.record is not None and planned.record.is_final:
            continue
        for record in state.attempts_of(trial.config_id, trial.seed):
            if record.fingerprint != trial.fingerprint and record.outcome is Outcome.FINISHED:
                counts[record.fingerprint, trial.fingerprint] += 1
    return dict(counts)


def changed_code(plan: Plan, state: LedgerState, others: Mapping[tuple[str, str], int]) -> ChangedCodeError:
    """The sentence that names how many finished trials other code trained, and which files changed since."""
    files = sorted(
        {
            name
            for before, after in others
            for name in changed_files(state.codes.get(before, {}), plan.fingerprints[after].files)
        }
    )
    named = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
    count = sum(others.values())
    finished = "1 finished trial was" if count == 1 else f"{count} finished trials were"
    return ChangedCodeError(
        f"{finished} trained by other code; since then these files changed: {named}; "
        "give --reuse to accept these results, or --retrain to train them again."
    )


# --------------------------------------------------------------------------------------------------------------------
# The plan in words
# --------------------------------------------------------------------------------------------------------------------


def describe(plan: Plan, time: str, cost: str, hours: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The plan as lines for people: cells, distinct configs, trials done and to do, expected time and cost.

    Args:
        hours: What one trial costs, by config id; may lack any.
    """
    by_table = ", ".join(f"{_table_and_axis(table)} {len(table.axis.levels)}" for table in plan.tables)
    second = sum(planned.trial.seed not in plan.study.seeds for planned in plan.trials)
    seeds = ", ".join(str(seed) for seed in plan.study.seeds) + (f", and {second} with further ones" if second else "")
    return [
        f"{plan.study.title} (study {plan.study.name}, profile {hyphened(plan.study.profile)})",
        f"  cells    {len(plan.cells)} ({by_table})",
        f"  configs  {plan.distinct} distinct",
        f"  trials   {len(plan.trials)} (seeds {seeds}): {counted(plan)}",
        f"  time     {time}",
        f"  cost     {cost}",
        *_costs_a_trial(plan, hours),
    ]


def _table_and_axis(table: Table) -> str:
    return table.name if table.name == table.axis.name else f"{table.name} {table.axis.name}"


def _costs_a_trial(plan: Plan, hours: Mapping[str, str]) -> list[str]:
    """`  a trial  0.76 GPU-hours: DACS`, a line for each cost."""
    names: dict[str, list[str]] = {}
    for config in dict.fromkeys(planned.trial.config_id for planned in plan.trials) if hours else ():
        names.setdefault(hours.get(config, "not measured"), []).append(plan.name_of(config))
    return [
        f"  {'a trial' if index == 0 else '':7}  {cost}: {', '.join(configs[:NAMED])}"
        + (f" and {len(configs) - NAMED} more" if len(configs) > NAMED else "")
        for index, (cost, configs) in enumerate(names.items())
    ]


def counted(plan: Plan) -> str:
    """The number of trials by status, which add up: `12 finished, 45 to do (1 failed, 2 under way)`."""
    done, begun = by_status(plan, to_do=False), by_status(plan, to_do=True)
    return ", ".join([*done, f"{len(plan.to_do)} to do{in_brackets(begun)}"])


def by_status(plan: Plan, *, to_do: bool) -> list[str]:
    """`12 finished`, `1 failed`, of those trials that the ledger has and that are to do, or are not."""
    statuses = Counter(planned.status for planned in plan.trials if planned.to_do is to_do)
    return [f"{statuses[status]} {status.value}" for status in Status if statuses[status] and status is not Status.NEW]


def in_brackets(parts: Sequence[str]) -> str:
    """` (1 failed, 2 under way)`; nothing for none."""
    return f" ({', '.join(parts)})" if parts else ""
