"""Links to the runs of each table in MLflow's UI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mfm_tune.ledger.state import LedgerState
from mfm_tune.tracking.runs import experiment_name, study_experiment, tables_in
from mfm_tune.tracking.server import experiment_of, server_version, without_user
from mfm_tune.tracking.views import TAG, View, ViewKind, failures_view, pictures_view, reads_views, table_view


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


def links(state: LedgerState, address: str) -> list[Link]:
    """A link for each table of each experiment that a server has, for failures and pictures.

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
            for text, view in _views(state, name, pictures=not saved or f"{TAG}{pictures_view({}).key}" in tags):
                there = saved and f"{TAG}{view.key}" in tags
                found.append(
                    Link(text, root + view.plain_link(number), root + view.saved_link(number) if there else None)
                )
    return found


def _views(state: LedgerState, experiment: str, *, pictures: bool) -> Iterator[tuple[str, View]]:
    for study in state.studies.values():
        here = tables_in(state, study, experiment)
        for table in study["tables"]:
            if table["name"] in here:
                for kind in ViewKind:
                    yield f"{study['study']} {table['title']}: {kind.value}", table_view(study, table, kind)
    yield "failures", failures_view()
    if pictures:
        yield "pictures", pictures_view({})


def _experiments(state: LedgerState) -> tuple[str, ...]:
    trials = (experiment_name(record.benchmark, record.profile) for record in state.trials.values())
    return tuple(dict.fromkeys((*trials, *(study_experiment(study) for study in state.studies.values()))))
