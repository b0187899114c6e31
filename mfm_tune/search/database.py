"""A search of a ledger as an Optuna study in a database, for optuna-dashboard and Optuna's plots. Imports optuna.

The parameters and their ranges are those that the ledger declares; so no search space has to be loaded, and what the
search was declared as then is what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from mfm_tune.console import counting
from mfm_tune.criteria import CRITERIA
from mfm_tune.distributions import Choice, Distribution, Float, Integer
from mfm_tune.errors import SearchSpaceError, StorageError
from mfm_tune.ledger.events import larger_is_better
from mfm_tune.ledger.records import TrialRecord, is_number
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.state import LedgerState
from mfm_tune.ledger.uri import without_password, without_password_of
from mfm_tune.program import Outcome
from mfm_tune.search.sampling import distributions_of, state_of

Name = tuple[str, str]  # of a search, and its profile


def write_search(state: LedgerState, name: Name, url: str) -> int:
    """Write a search to a database; returns how many trials it has.

    The study is called `SEARCH-PROFILE`; one of that name that is there is replaced, so that the command can be given
    again while the search goes on.

    Args:
        name: One of the ledger's searches.
        url: Of SQLAlchemy, as `sqlite:///study.db`.

    Raises:
        StorageError: The database cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    event, study_name = state.searches[name], "-".join(name)
    trials = optuna_trials(state, name)
    try:
        storage = optuna.storages.RDBStorage(url)
        if study_name in optuna.study.get_all_study_names(storage):
            optuna.delete_study(study_name=study_name, storage=storage)
        study = optuna.create_study(
            storage=storage,
            study_name=study_name,
            direction=StudyDirection.MAXIMIZE if larger_is_better(event) else StudyDirection.MINIMIZE,
        )
        for key in ("criterion", "title", "sampler", "scheduler", "explore_seed"):
            study.set_user_attr(key, event.get(key))
        for trial in counting(trials, "trials"):
            study.add_trial(trial)
    except Exception as error:  # of SQLAlchemy, its drivers and Optuna
        reason = without_password_of(url, str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"--out must be a database that can be written, such as sqlite:///study.db, got {without_password(url)} "
            f"({reason}); free it, or give another."
        ) from error
    return len(trials)


def optuna_trials(state: LedgerState, name: Name) -> list[FrozenTrial]:
    """The candidates of a search in their order, with distributions, value, state and intermediate values.

    Candidates of earlier declarations, whose values lie outside of today's ranges, are left out.
    """
    event = state.searches[name]
    parameters = _parameters(event)
    proposals = [each for each in state.proposals.get(name, ()) if each["seed"] == event["explore_seed"]]
    fitting = (each for each in proposals if _fits(each["values"], parameters))
    return [
        _trial(each, state, event, distributions_of(parameters))
        for each in sorted(fitting, key=lambda each: each["number"])
    ]


def _trial(
    proposal: Event, state: LedgerState, search: Event, distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    record = state.counts(proposal["config_id"], proposal["seed"])
    criterion = search["criterion"]
    score = None if record is None else record.metrics.get(criterion)
    value = score if score is not None and is_number(score) else None
    outcome = None if record is None else record.outcome
    status = TrialState.WAITING if record is None else state_of(outcome, value)
    trial = create_trial(
        state=status,
        value=value if status is TrialState.COMPLETE else None,
        params=dict(proposal["values"]),
        distributions=dict(distributions),
        intermediate_values=_intermediate(record, criterion),
        user_attrs={
            "number": proposal["number"],
            "config_id": proposal["config_id"],
            "trial": proposal["key"] if record is None else record.key,
            "outcome": outcome.value if outcome is not None else "open",
            **_finals(record, criterion),
        },
    )
    if record is not None and record.started is not None:
        trial.datetime_start = _local(record.started)
        trial.datetime_complete = trial.datetime_complete and _local(record.ended or record.started)
    return trial


def _local(milliseconds: int) -> datetime:
    """A time of the ledger as Optuna has its own: of this machine's zone, without naming it."""
    return datetime.fromtimestamp(milliseconds / 1000)


def _intermediate(record: TrialRecord | None, criterion: str) -> dict[int, float]:
    reports = () if record is None else record.reports
    values = {report["step"]: report["metrics"].get(criterion) for report in reports}
    return {step: value for step, value in values.items() if value is not None and is_number(value)}


def _finals(record: TrialRecord | None, criterion: str) -> dict[str, float]:
    """The other criteria at the last step of a finished trial."""
    if record is None or record.outcome is not Outcome.FINISHED:
        return {}
    values = {each.key: record.final(each.key) for each in CRITERIA if each.key != criterion}
    return {key: value for key, value in values.items() if value is not None}


def _fits(values: Mapping[str, Any], parameters: Mapping[str, Distribution]) -> bool:
    try:
        return values.keys() == {name for name, each in parameters.items() if each.value(values[name]) is not None}
    except (KeyError, TypeError, ValueError):
        return False


def _parameters(search: Event) -> dict[str, Distribution]:
    """As the ledger declares them.

    Raises:
        StorageError: It declares something else.
    """
    try:
        return {name: _declared(each) for name, each in search["parameters"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, SearchSpaceError) as error:
        raise StorageError(
            f"The ledger declares search '{search['search']}' with parameters that this version does not know "
            f"({type(error).__name__}: {error}); use the version that wrote it."
        ) from error


def _declared(parameter: Mapping[str, Any]) -> Distribution:
    match parameter["kind"]:
        case "float":
            return Float(parameter["low"], parameter["high"], log=parameter["log"])
        case "integer":
            return Integer(parameter["low"], parameter["high"], step=parameter["step"], log=parameter["log"])
        case "choice":
            return Choice(tuple(parameter["options"]))
        case kind:
            raise ValueError(f"{kind} is none of float, integer, choice")
