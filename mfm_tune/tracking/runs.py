"""What a trial, a cell and a study are in MLflow: run name, tags, params, status. Pure functions of the ledger's state.

Tags (all begin with `mfm.`): `kind` trial|cell|study, `key` (unique in a ledger), `ledger`, `study`, `profile`,
`benchmark`, `outcome`; of trials and cells `config_id`, one tag a table that has the config
(`in.<study>.<table>` = level), one an axis (`<axis>` = level); of trials `trial_key`, `seed`, `step`, `fingerprint`,
`device`, `torch`; of cells `table`, `axis`, `level`, `order`, `paper`, `seeds`, and their
numbers as printed. The store adds `delivered` and `delivered_files`.

Params, which MLflow's search, compare and parallel coordinates work on: of trials and cells each axis at its printed
level (`dim`), beside it what the level trains where that differs (`dim_trained`); of trials the config fields that
differ within the experiment, seed and config id. A config that stands in several tables has the level of each axis; one
that has no level of an axis has no such param.

Inputs of trials are the data that they were trained and scored on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mfm_tune.criteria import digits_of_a_seed
from mfm_tune.digits import number
from mfm_tune.ledger.cells import DeclaredCell, declared_cells
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.standing import Stages, seeds_of
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome
from mfm_tune.space import row_name
from mfm_tune.tracking.params import axis_param, clean_key, leaves, param_name, value_text
from mfm_tune.tracking.printed import printed_numbers

RESERVED = {  # tags of our own, which no axis may overwrite
    "axis", "benchmark", "config_id", "delivered", "delivered_files", "device", "duplicate_of", "fingerprint", "in",
    "interval", "key", "kind", "ledger", "level", "mean", "metric", "order", "outcome", "paper", "point", "precision",
    "profile", "report", "search", "seed", "seeds", "stage", "step", "study", "table", "tf32", "threads", "torch",
    "trained", "trial_key",
}  # fmt: skip
NOTE = "mlflow.note.content"
RUNNING = "running"  # of a trial that has no outcome yet
LINES_OF_ERROR = 30


class Kind(Enum):
    """The kinds of runs."""

    TRIAL = "trial"
    CELL = "cell"
    STUDY = "study"
    FORMER_CELL = "former-cell"  # the study no longer declares it


class RunStatus(Enum):
    """The status of a run, in MLflow's words."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


_STATUS = {  # of the other outcomes: failed
    None: RunStatus.RUNNING,
    Outcome.FINISHED: RunStatus.FINISHED,
    Outcome.STOPPED: RunStatus.KILLED,
}


def outcome_word(record: TrialRecord) -> str:
    """The value of the tag `mfm.outcome`."""
    return RUNNING if record.outcome is None else record.outcome.value


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it should be in MLflow. Times in milliseconds since the epoch.

    Args:
        parents: Keys of runs below one of which it is shown: the first that MLflow has.
        data: What it was trained and scored on (`mfm_tune.program.DataSet`).
    """

    key: str
    experiment: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    parents: Sequence[str] = ()
    data: Sequence[Mapping[str, Any]] = ()
    status: RunStatus = RunStatus.RUNNING
    ended: int | None = None


def experiment_name(benchmark: str, profile: str) -> str:
    """One experiment a benchmark and profile."""
    return f"{benchmark} ({profile})"


def study_key(study: Event) -> str:
    """The key of a study's run."""
    return _key_of_study(study["study"], study["profile"])


def _key_of_study(name: str, profile: str) -> str:
    return f"study/{name}/{profile}"


def trial_run_key(trial_key: str) -> str:
    """The key of a trial's run."""
    return f"trial/{trial_key}"


def study_experiment(study: Event) -> str:
    """The experiment of a study's own run: that of its first benchmark."""
    return experiment_name(str(study["benchmark"]).split(", ")[0], study["profile"])


def tables_in(state: LedgerState, study: Event, experiment: str) -> set[str]:
    """Names of a study's tables that have cells in an experiment."""
    configs = {cell: state.configs.get(cell.config_id) for cell in declared_cells(study)}
    return {
        cell.table
        for cell, config in configs.items()
        if config is not None and experiment_name(config.benchmark, cell.profile) == experiment
    }


def table_tag(study: str, table: str) -> str:
    """The tag of a config that a table has; its value is the level."""
    return f"mfm.in.{study}.{table}"


def axis_tag(axis: str) -> str:
    """The tag of an axis; its value is the level."""
    return f"mfm.axis.{axis}" if axis in RESERVED else f"mfm.{axis}"


def level_params(cells: Iterable[DeclaredCell]) -> dict[str, str]:
    """The levels of a config, in the cells that it has, as params: `dim` and `dim_trained`.

    MLflow's params cannot be changed, so the first level of an axis keeps the axis's name. Where another study prints
    the same config at another level of an axis of that name, its level has the study's name as well: `case_table4`.
    """
    found: dict[str, str] = {}
    for cell in cells:
        name = axis_param(cell.axis)
        if found.setdefault(name, value_text(cell.level)) != value_text(cell.level):
            name = f"{name}_{clean_key(cell.study)}"
            found.setdefault(name, value_text(cell.level))
        if cell.trained is not None:
            found.setdefault(f"{name}_trained", value_text(cell.trained))
    return found


def cells_of(state: LedgerState, config_id: str) -> list[DeclaredCell]:
    """The cells of all studies that have a config."""
    every = (cell for study in state.studies.values() for cell in declared_cells(study))
    return [cell for cell in every if cell.config_id == config_id]


def trial_run(state: LedgerState, record: TrialRecord, ledger: str, varying: Sequence[str]) -> Run:
    """A trial as a run.

    Args:
        state: The ledger.
        record: The trial.
        ledger: The ledger's identity.
        varying: The config fields that become params.
    """
    here = cells_of(state, record.config_id)
    return Run(
        key=trial_run_key(record.key),
        experiment=experiment_name(record.benchmark, record.profile),
        started=record.started or 0,
        tags=_trial_tags(state, record, ledger, here),
        params={**level_params(here), **_params(state, record, varying)},
        parents=[*(cell.key for cell in (*_own(record, here), *here)), _key_of_study(record.study, record.profile)],
        data=record.data,
        status=_STATUS.get(record.outcome, RunStatus.FAILED),
        ended=record.ended,
    )


def _common_tags(kind: Kind, key: str, ledger: str) -> dict[str, str]:
    return {
        "mfm.kind": kind.value,
        "mfm.key": key,
        "mfm.ledger": ledger,
        "mlflow.user": "mfm_tune",
        "mlflow.source.name": "mfm_tune",
    }


def _trial_tags(state: LedgerState, record: TrialRecord, ledger: str, here: Sequence[DeclaredCell]) -> dict[str, str]:
    tags = {axis_tag(cell.axis): cell.level for cell in here}
    tags |= {table_tag(cell.study, cell.table): cell.level for cell in here}
    tags |= {
        **_common_tags(Kind.TRIAL, trial_run_key(record.key), ledger),
        "mfm.trial_key": record.key,
        "mfm.study": record.study,
        "mfm.profile": record.profile,
        "mfm.benchmark": record.benchmark,
        "mfm.config_id": record.config_id,
        "mfm.seed": str(record.seed),
        "mfm.fingerprint": record.fingerprint[:12],
        "mfm.outcome": outcome_word(record),
        "mfm.step": f"{record.step}/{record.planned_steps}",
        "mlflow.runName": f"{_trial_name(state, record, here)}/s{record.seed}",
        NOTE: _trial_note(record, here),
    }
    tags |= _search_tags(state, record)
    for name in ("device", "torch", "threads", "precision", "tf32"):
        if record.machine.get(name):
            tags[f"mfm.{name}"] = record.machine[name]
    return tags


def _search_tags(state: LedgerState, record: TrialRecord) -> dict[str, str]:
    """Of a trial that belongs to a search: which one, its stage, and the point's number."""
    if (record.study, record.profile) not in state.searches:
        return {}
    event = _proposal(state, record)
    seed = state.searches[record.study, record.profile]["explore_seed"]
    point = {} if event is None else {"mfm.point": str(event["number"])}
    return {"mfm.search": record.study, "mfm.stage": "explore" if record.seed == seed else "confirm", **point}


def _proposal(state: LedgerState, record: TrialRecord) -> Event | None:
    """The point that a trial's config is in the search that the trial belongs to; the last where it is several."""
    proposals = state.proposals.get((record.study, record.profile), ())
    return next((event for event in reversed(proposals) if event["config_id"] == record.config_id), None)


def _own(record: TrialRecord, here: Sequence[DeclaredCell]) -> list[DeclaredCell]:
    """Those cells that are of the study in which the trial was started."""
    return [cell for cell in here if (cell.study, cell.profile) == (record.study, record.profile)]


def _trial_name(state: LedgerState, record: TrialRecord, here: Sequence[DeclaredCell]) -> str:
    """`<table>/<axis> <level>` where the config comes first, the name of a reference, else the config id."""
    own, place = _own(record, here) or here, (record.study, record.profile)
    references = state.studies.get(place, {}).get("references") or state.searches.get(place, {}).get("baselines", {})
    for name, config in references.items():
        if config == record.config_id:
            return str(name)
    if own:
        return f"{own[0].table}/{row_name(own[0].axis, own[0].level)}"
    point = _proposal(state, record)
    return record.config_id if point is None else f"{point['search']}/trial {point['number']}"


def _trial_note(record: TrialRecord, here: Sequence[DeclaredCell]) -> str:
    steps = f"step {record.step} of {record.planned_steps}"
    lines = [f"**{outcome_word(record)}** at {steps}, seed {record.seed}, {record.benchmark}"]
    if here:
        lines += [
            "",
            "Stands in:",
            *(f"- {cell.study} {cell.table}: {row_name(cell.axis, cell.level)}" for cell in here),
        ]
    if record.error:
        tail = "\n".join(record.error.splitlines()[-LINES_OF_ERROR:])
        lines += ["", "```", tail[-4000:], "```"]
    return "\n".join(lines)


def _params(state: LedgerState, record: TrialRecord, varying: Sequence[str]) -> dict[str, str]:
    config = state.configs.get(record.config_id)
    fields = dict(leaves(config.config)) if config else {}
    params = {param_name(name): value_text(fields[name]) for name in varying if name in fields}
    point = _proposal(state, record)
    values = {} if point is None else {axis_param(name): value_text(value) for name, value in point["values"].items()}
    return {"config_id": record.config_id, "seed": str(record.seed), **params, **values}


def counting_records(state: LedgerState, config_id: str, seeds: Sequence[int]) -> dict[int, TrialRecord]:
    """Seed -> the trial that counts, for seeds that have one."""
    records = {seed: state.counts(config_id, seed) for seed in seeds}
    return {seed: record for seed, record in records.items() if record is not None}


def cell_run(state: LedgerState, cell: DeclaredCell, ledger: str, numbers: Mapping[str, float]) -> Run | None:
    """A cell as a run; None while none of its trials has begun.

    Args:
        numbers: The cell's metrics as they stand, for the note.
    """
    seeds = seeds_of(state, cell, cell.config_id)
    records = counting_records(state, cell.config_id, seeds)
    begun = [each.started or 0 for seed in seeds for each in state.attempts_of(cell.config_id, seed)]
    config = state.configs.get(cell.config_id)
    if not begun or config is None:
        return None
    done = all(seed in records and records[seed].is_final for seed in seeds)
    return Run(
        key=cell.key,
        experiment=experiment_name(config.benchmark, cell.profile),
        started=min(begun),
        tags=_cell_tags(state, cell, ledger, records, numbers),
        params=level_params([cell]),
        parents=[_key_of_study(cell.study, cell.profile)],
        status=RunStatus.FINISHED if done else RunStatus.RUNNING,
        ended=max((record.ended or 0 for record in records.values()), default=0) if done else None,
    )


def _cell_tags(
    state: LedgerState,
    cell: DeclaredCell,
    ledger: str,
    records: Mapping[int, TrialRecord],
    numbers: Mapping[str, float],
) -> dict[str, str]:
    outcomes = sorted(set(map(outcome_word, records.values())))
    finished = sum(record.outcome is Outcome.FINISHED for record in records.values())
    stages = Stages(state=state, study=cell.study, profile=cell.profile)
    seeds = stages.every(cell.config_id, cell.seeds)
    tags = {
        **_common_tags(Kind.CELL, cell.key, ledger),
        "mfm.study": cell.study,
        "mfm.profile": cell.profile,
        "mfm.table": cell.table,
        "mfm.axis": cell.axis,
        "mfm.level": cell.level,
        "mfm.order": f"{cell.order:04d}",
        "mfm.metric": cell.metric,
        "mfm.config_id": cell.config_id,
        "mfm.outcome": ", ".join(outcomes) or "not started",
        "mfm.seeds": f"{finished}/{len(seeds)}",
        axis_tag(cell.axis): cell.level,
        **printed_numbers(numbers, cell.metric),
        "mlflow.runName": f"{cell.table}/{row_name(cell.axis, cell.level)}",
        NOTE: _cell_note(cell, finished, len(seeds), numbers),
    }
    if cell.trained is not None:
        tags["mfm.trained"] = cell.trained
    if cell.paper is not None:
        tags["mfm.paper"] = str(cell.paper)
    if any(stages.of(cell.config_id, other, cell.metric) for other in _baselines(state, cell)):
        tags["mfm.interval"] = "two-stage"
    return tags


def _baselines(state: LedgerState, cell: DeclaredCell) -> tuple[str, ...]:
    """The ids of what a cell is compared with."""
    if cell.against is not None:
        return (cell.against,)
    return tuple(state.studies[cell.study, cell.profile]["references"].values())


def _cell_note(cell: DeclaredCell, finished: int, seeds: int, numbers: Mapping[str, float]) -> str:
    mean, std = numbers.get("mean"), numbers.get("std")
    digits = digits_of_a_seed(cell.metric)
    spread = "" if std is None else f" ± {number(std, digits)}"
    nothing = "no number" if finished else "no finished seed yet"
    value = nothing if mean is None else f"{number(mean, digits)}{spread}"
    paper = "" if cell.paper is None else f"; the paper prints {cell.paper}"
    return f"**{value}** ({cell.metric}, {finished} of {seeds} seeds{paper})"


def study_run(state: LedgerState, study: Event, ledger: str, started: int) -> Run:
    """A study as a run; it holds the report."""
    configs = {cell.config_id for cell in declared_cells(study)} | set(study["references"].values())
    stages = Stages(state=state, study=study["study"], profile=study["profile"])
    seeds = {config: stages.every(config, study["seeds"]) for config in configs}
    records = [record for config in configs for record in counting_records(state, config, seeds[config]).values()]
    wanted = sum(map(len, seeds.values()))
    finished = sum(record.outcome is Outcome.FINISHED for record in records)
    done = sum(record.is_final for record in records) == wanted
    return Run(
        key=study_key(study),
        experiment=study_experiment(study),
        started=started,
        tags={
            **_common_tags(Kind.STUDY, study_key(study), ledger),
            "mfm.study": study["study"],
            "mfm.profile": study["profile"],
            "mfm.benchmark": str(study["benchmark"]),
            "mfm.metric": study["metric"],
            "mfm.outcome": Outcome.FINISHED.value if done else RUNNING,
            "mfm.seeds": ",".join(map(str, study["seeds"])),
            "mlflow.runName": f"study {study['study']}",
            NOTE: f"{study['title']}: {finished} of {wanted} trials finished. The report is among the artefacts.",
        },
        status=RunStatus.FINISHED if done else RunStatus.RUNNING,
        ended=max((record.ended or 0 for record in records), default=0) if done else None,
    )
