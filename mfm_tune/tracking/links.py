"""Links to the runs of each table in MLflow's UI."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from mfm_tune.ledger.state import LedgerState
from mfm_tune.tracking.runs import experiment_name, study_experiment, tables_in
from mfm_tune.tracking.server import experiment_of, server_version, without_user
from mfm_tune.tracking.views import TAG, View, failures_view, pictures_view, reads_views, views_of


@dataclass(frozen=True)
class Link:
    """An address, and what it shows.

    Args:
        address: The runs by filter, which every version of MLflow reads.
        view: The same with columns, groups and charts; None where this version does not read our saved views.
    """

    text: str
    address: str
    view: str | None


def links(state: LedgerState, ledger: str, address: str) -> list[Link]:
    """A link for each table of each experiment that a server has, for failures and pictures.

    Args:
        ledger: The ledger's identity, whose runs alone are shown.

    Raises:
        StorageError: The server does not answer as MLflow does.
    """
    saved = reads_views(server_version(address))
    found: list[Link] = []
    for name in _experiments(state):
        experiment = experiment_of(address, name)
        if experiment is not None and experiment.get("lifecycle_stage") == "active":
            tags = {str(tag["key"]) for tag in experiment.get("tags", [])}
            root, number = without_user(address), str(experiment["experiment_id"])
            pictures = not saved or f"{TAG}{pictures_view({}).of(ledger).key}" in tags
            for view in (each.of(ledger) for each in _views(state, name, pictures=pictures)):
                there = root + view.link(number, saved=True) if saved and f"{TAG}{view.key}" in tags else None
                found.append(Link(view.name, root + view.link(number, saved=False), there))
    return found


def _views(state: LedgerState, experiment: str, *, pictures: bool) -> list[View]:
    of_tables = (views_of(study, tables_in(state, study, experiment)) for study in state.studies.values())
    return [*chain.from_iterable(of_tables), failures_view(), *([pictures_view({})] if pictures else [])]


def _experiments(state: LedgerState) -> tuple[str, ...]:
    trials = (experiment_name(record.benchmark, record.profile) for record in state.trials.values())
    return tuple(dict.fromkeys((*trials, *(study_experiment(study) for study in state.studies.values()))))
