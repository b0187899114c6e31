"""Writing runs to MLflow so that everything can be written twice.

Only `MlflowClient` with an explicit URI is used. Runs are found by a tag that they are born with. The mark of the last
row that a run has is a tag of it, written by the request that writes the row: MLflow stores a request's metrics before
its tags, so no run bears the mark of rows that it lacks. A run that has rows and no mark of them gets them again; they
carry the ledger's time and value, so MLflow drops what it has. Artefacts have names that do not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment as MlflowExperiment
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from mfm_tune.tracking.artifacts import Place, copy_file, upload_file
from mfm_tune.tracking.datasets import Key, as_inputs, keys_of
from mfm_tune.tracking.mirror import Target
from mfm_tune.tracking.prepare import prepare_database
from mfm_tune.tracking.printed import DIFFERENCE
from mfm_tune.tracking.runs import Run, RunStatus
from mfm_tune.tracking.server import server_version
from mfm_tune.tracking.trouble import ArtifactTroubleError, RefusedError, TroubleError, as_trouble, word_for
from mfm_tune.tracking.views import reads_views

if TYPE_CHECKING:
    from mfm_tune.tracking.reader import Row

MOST_ROWS = 999  # metrics a request, which takes 1000 of all kinds: one is the mark
LEAST_ROWS = 20  # to a server so slow that it does not take more in time
PASSING = ("mfm.in.", DIFFERENCE, "mfm.paper", "mfm.trained", "mfm.interval")  # tags that a run may lose again
MOST_TAGS = 100
MOST_PARAMS = 100  # a request
PAGE = 200  # runs a search
MARK = "mfm.delivered"  # of the last row that a run has
MODEL_MARK = "mfm.model."  # and a step: of a run whose model of that step is there; the value is its files' digest
FILES_MARK = "mfm.delivered_files"  # step and time of the last report whose files a run has


@dataclass
class Handle:
    """A run that exists.

    Args:
        root: Its artefact URI.
        deleted: Somebody deleted it, and nothing is written to it any more.
        tags, params, data, status, ended: As MLflow has them; among the tags the marks of what it has.
    """

    run_id: str
    root: str
    deleted: bool
    tags: dict[str, str]
    params: set[str]
    data: set[Key]
    status: str
    ended: int | None

    @property
    def place(self) -> Place:
        """Where its files go."""
        return Place(self.run_id, self.root)


@dataclass
class Experiment:
    """An experiment and the runs that this ledger has in it."""

    id: str
    deleted: bool
    tags: dict[str, str]
    runs: dict[str, Handle] = field(default_factory=dict)


class TrackingStore:
    """A tracking server or database.

    Args:
        target: Where to.
        ledger: The ledger's identity; its runs alone are looked at.
        from_start: Write everything again, whatever runs have.

    Attributes:
        taken: How many writes it has taken.
        rows: How many rows it has taken.
        notice: What was done to a damaged SQLite file, in a sentence; empty where nothing was.

    Raises:
        TroubleError: It does not answer, is locked, or cannot be made.
        UnusableError: It is damaged and not ours, or another version of MLflow wrote it.
    """

    def __init__(self, target: Target, ledger: str, *, from_start: bool = False) -> None:
        self.target = target
        self.ledger = ledger
        self.from_start = from_start
        self.experiments: dict[str, Experiment] = {}
        self.taken = self.rows = 0
        self.notice = ""
        self._piece = MOST_ROWS
        self._version = "" if target.served else mlflow.__version__
        try:
            with as_trouble():
                if target.database is not None:
                    self.notice = prepare_database(target.database, ours=target.given is None)
                self.client = MlflowClient(tracking_uri=target.uri)
        except (TroubleError, RefusedError):
            raise
        except Exception as error:  # a database's own: its driver is not installed, it does not answer
            detail = f"{type(error).__name__}: {error}"
            raise TroubleError(word_for(detail), detail) from error

    def experiment(self, name: str) -> Experiment:
        """Get or create an experiment, and look up its runs once."""
        if name in self.experiments:
            return self.experiments[name]
        with as_trouble():
            found = self.client.get_experiment_by_name(name) or self._created(name)
        if found.name != name:  # a server that answers anything with an empty object takes nothing
            raise TroubleError("failing", f"Asked for the experiment {name}, the server gave '{found.name}'.")
        experiment = Experiment(
            id=found.experiment_id, deleted=found.lifecycle_stage == "deleted", tags=dict(found.tags)
        )
        if not experiment.deleted:
            experiment.runs = self._runs_of(experiment)
        self.experiments[name] = experiment
        return experiment

    @property
    def deleted(self) -> str:
        """Which experiments somebody deleted, in a sentence; empty where none is."""
        gone = ", ".join(f"'{name}' (id {each.id})" for name, each in self.experiments.items() if each.deleted)
        again = "'mlflow experiments restore' brings one back, and mfm_tune.sync what it lacks"
        return f"Experiments that were deleted in MLflow get nothing: {gone}; {again}." if gone else ""

    @property
    def reads_views(self) -> bool:
        """Whether the MLflow that shows this store is known to read our saved views."""
        return reads_views(self._known_version)

    @property
    def keeps_models(self) -> bool:
        """Whether it is known to have logged models, which came with MLflow 3."""
        major = self._known_version.partition(".")[0]
        return major.isdecimal() and int(major) >= 3

    @property
    def _known_version(self) -> str:
        self._version = self._version or server_version(self.target.uri)
        return self._version

    def set_experiment_tags(self, experiment: Experiment, tags: Mapping[str, str]) -> None:
        """Write those tags that differ. Those of a deleted experiment stay as they are."""
        for key, value in tags.items():
            if not experiment.deleted and experiment.tags.get(key) != value:
                with self.writing():
                    self.client.set_experiment_tag(experiment.id, key, value)
                experiment.tags[key] = value

    def delete_experiment_tag(self, experiment: Experiment, key: str) -> None:
        """Delete a tag that an experiment has."""
        if not experiment.deleted:
            with self.writing():
                self.client.delete_experiment_tag(experiment.id, key)
            del experiment.tags[key]

    def write(self, run: Run, rows: list[Row]) -> Handle | None:
        """Bring a run up to date: params, data, rows, tags, status, in this order. None where somebody deleted it.

        Args:
            run: As it should be.
            rows: Those that it gets; what is delivered is taken off, whatever is raised then.

        Raises:
            TroubleError: Try again later.
            RefusedError: MLflow will never take part of it; the rest is written.
        """
        handle = self._handle(run)
        if handle is None or handle.deleted:
            return None
        refusals = []
        for part in (self._write_params, self._write_data, self._write_rows, self._write_tags, self._write_status):
            try:
                part(handle, run, rows)
            except RefusedError as error:
                refusals.append(str(error))
        if refusals and self._deleted_meanwhile(handle):
            return None
        if refusals:
            raise RefusedError("; ".join(refusals))
        return handle

    def write_file(self, place: Place, name: str, content: bytes | Path) -> None:
        """Write an artefact: its content, or a file to copy.

        Raises:
            ArtifactTroubleError: It could not be written now, while runs could be.
            TroubleError: Nothing can be written now.
            RefusedError: It never can.
        """
        try:
            if self.target.served:
                upload_file(self.client, place, name, content)
            else:
                copy_file(self.target.artifacts, place, name, content)
        except ArtifactTroubleError:
            with as_trouble():
                self.client.get_run(place.run_id)
            raise
        self.taken += 1

    def mark_files(self, handle: Handle, mark: str) -> None:
        """Note in a run how far it has its files."""
        with self.writing():
            self.client.log_batch(handle.run_id, tags=_tags({FILES_MARK: mark}))
        handle.tags[FILES_MARK] = mark

    # -- runs ----------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A request that changes the store; errors are sorted (`mfm_tune.tracking.trouble`)."""
        with as_trouble():
            yield
        self.taken += 1

    def _created(self, name: str) -> MlflowExperiment:
        location = None if self.target.served else f"mlflow-artifacts:/{_slug(name)}"
        with suppress(MlflowException):  # somebody else was faster: then it is there
            self.client.create_experiment(name, artifact_location=location)
        found = self.client.get_experiment_by_name(name)
        if found is None:
            raise TroubleError("unreachable", f"The experiment {name} could not be made.")
        return found

    def _runs_of(self, experiment: Experiment) -> dict[str, Handle]:
        found: dict[str, list[MlflowRun]] = {}
        token = None
        while True:
            with as_trouble():
                page = self.client.search_runs(
                    [experiment.id],
                    filter_string=f"tags.`mfm.ledger` = '{self.ledger}'",
                    run_view_type=ViewType.ALL,
                    max_results=PAGE,
                    page_token=token,
                )
            for run in page:
                if "mfm.duplicate_of" not in run.data.tags:
                    found.setdefault(run.data.tags.get("mfm.key", ""), []).append(run)
            token = page.token
            if not token:
                return {key: self._found(self._chosen(runs)) for key, runs in found.items()}

    def _found(self, run: MlflowRun) -> Handle:
        handle = _as_handle(run)
        if self.from_start:
            handle.tags = {key: value for key, value in handle.tags.items() if key not in (MARK, FILES_MARK)}
        return handle

    def _chosen(self, runs: Sequence[MlflowRun]) -> MlflowRun:
        """The run that counts, one with rows if any. More than one is left by a request that succeeded after all."""
        chosen = min(runs, key=lambda run: (MARK not in run.data.tags, _is_deleted(run), run.info.run_id))
        for run in runs:
            if run is not chosen and not _is_deleted(run):
                with self.writing():
                    self.client.log_batch(run.info.run_id, tags=_tags({"mfm.duplicate_of": chosen.info.run_id}))
                    self.client.delete_run(run.info.run_id)
        return chosen

    def _handle(self, run: Run) -> Handle | None:
        experiment = self.experiment(run.experiment)
        if experiment.deleted:
            return None
        if run.key not in experiment.runs:
            try:
                with self.writing():
                    made = self.client.create_run(
                        experiment.id,
                        start_time=run.started,
                        tags=dict(run.tags),
                        run_name=run.tags.get("mlflow.runName"),
                    )
            except TroubleError:
                del self.experiments[run.experiment]  # it may have been made all the same: look again
                raise
            experiment.runs[run.key] = _as_handle(made)
        return experiment.runs[run.key]

    def _deleted_meanwhile(self, handle: Handle) -> bool:
        with as_trouble():
            handle.deleted = self.client.get_run(handle.run_id).info.lifecycle_stage == "deleted"
        return handle.deleted

    def _write_params(self, handle: Handle, run: Run, _rows: list[Row]) -> None:
        new = [Param(key, value) for key, value in run.params.items() if key not in handle.params]
        for begin in range(0, len(new), MOST_PARAMS):
            piece = new[begin : begin + MOST_PARAMS]
            with self.writing():
                self.client.log_batch(handle.run_id, params=piece)
            handle.params |= {param.key for param in piece}

    def _write_data(self, handle: Handle, run: Run, _rows: list[Row]) -> None:
        new = [each for each in as_inputs(run.data) if not keys_of([each]) <= handle.data]
        if new:
            with self.writing():
                self.client.log_inputs(handle.run_id, new)
            handle.data |= keys_of(new)

    def _write_rows(self, handle: Handle, _run: Run, rows: list[Row]) -> None:
        """Write what the run lacks, in pieces that get smaller where a server is too slow for them, and stay small."""
        there = next((number for number, row in enumerate(rows, 1) if row.mark == handle.tags.get(MARK)), 0)
        del rows[:there]
        while rows:
            piece = [Metric(row.key, row.value, row.time, row.step) for row in rows[: self._piece]]
            mark = rows[len(piece) - 1].mark
            try:
                with self.writing():
                    self.client.log_batch(handle.run_id, metrics=piece, tags=_tags({MARK: mark}))
            except TroubleError as error:
                if "timed out" in str(error):
                    self._piece = max(LEAST_ROWS, self._piece // 4)
                raise
            handle.tags[MARK] = mark
            self.rows += len(piece)
            del rows[: len(piece)]

    def _write_tags(self, handle: Handle, run: Run, _rows: list[Row]) -> None:
        changed = {key: value for key, value in run.tags.items() if handle.tags.get(key) != value}
        pairs = _tags(changed)
        for begin in range(0, len(pairs), MOST_TAGS):
            with self.writing():
                self.client.log_batch(handle.run_id, tags=pairs[begin : begin + MOST_TAGS])
        handle.tags |= changed
        for key in [key for key in handle.tags if key.startswith(PASSING) and key not in run.tags]:
            with self.writing():
                self.client.delete_tag(handle.run_id, key)  # its config left that table, no seed gives that number
            del handle.tags[key]

    def _write_status(self, handle: Handle, run: Run, _rows: list[Row]) -> None:
        status, running = run.status.value, run.status is RunStatus.RUNNING
        if handle.status == status and (running or handle.ended == run.ended):
            return
        with self.writing():
            if running:
                self.client.update_run(handle.run_id, status=status)
            else:
                self.client.set_terminated(handle.run_id, status=status, end_time=run.ended)
                handle.ended = run.ended
        handle.status = status


def _is_deleted(run: MlflowRun) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def _as_handle(run: MlflowRun) -> Handle:
    return Handle(
        run_id=run.info.run_id,
        root=run.info.artifact_uri,
        deleted=_is_deleted(run),
        tags=dict(run.data.tags),
        params=set(run.data.params),
        data=keys_of(run.inputs.dataset_inputs if run.inputs else ()),
        status=run.info.status,
        ended=run.info.end_time,
    )


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in tags.items()]


def _slug(name: str) -> str:
    """An experiment's name as a folder."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-.") or "runs"
