"""Delivers a piece of the ledger: rows, tags and status of the runs it touches, then pictures, views and reports."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mfm_tune.errors import StorageError
from mfm_tune.ledger.cells import DeclaredCell, declared_cells
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.schema import Event
from mfm_tune.ledger.storage import Export, Storage
from mfm_tune.ledger.uri import without_password_of
from mfm_tune.tracking.artifacts import Place
from mfm_tune.tracking.mirror import Target
from mfm_tune.tracking.models import begin_model, contents, exported_model, finish_model, place_of
from mfm_tune.tracking.pictures import Matrix, confusion_files, picture_files, table_path
from mfm_tune.tracking.reader import Batch, LedgerReader, Row
from mfm_tune.tracking.runs import (
    NOTE,
    Kind,
    Run,
    RunStatus,
    cell_run,
    experiment_name,
    study_experiment,
    study_key,
    study_run,
    tables_in,
    trial_run,
)
from mfm_tune.tracking.store import FILES_MARK, Handle, TrackingStore
from mfm_tune.tracking.trouble import ArtifactTroubleError, RefusedError
from mfm_tune.tracking.views import experiment_note, experiment_views, is_of_every_ledger, table_views

PARENT = "mlflow.parentRunId"
PATIENCE = 3  # a file that is refused so often, while runs are taken, is left out
LARGEST_FILE = 50 * 2**20  # bytes; larger report files stay in the storage folder
Contents = Mapping[str, bytes | Path]
Reports = Sequence[Mapping[str, Any]]


class Delivery:
    """Writes batches to a store.

    Args:
        target: The storage folder and where it is mirrored to.
        ledger: The ledger's identity.
        store: Where to.
        reader: The ledger as far as it was read; its state is what runs are brought up to.
    """

    def __init__(self, target: Target, ledger: str, store: TrackingStore, reader: LedgerReader) -> None:
        self.target = target
        self.store = store
        self._ledger = ledger
        self._reader = reader
        self._storage = Storage(target.storage)
        self._refusals: dict[str, int] = {}
        self._sent: dict[str, set[str]] = {}  # names of files of the batch that is being delivered
        self._said: set[str] = set()

    @property
    def trials_with_files(self) -> int:
        """How many trials of the batch that is being delivered have begun to get their files."""
        return len(self._sent)

    def deliver(self, batch: Batch) -> None:
        """Deliver a batch. Delivering it twice changes nothing.

        Raises:
            TroubleError: It could not be delivered, or not wholly; given again, it resumes from there.
        """
        for name in batch.studies:  # before the runs that are shown below theirs
            self._write_study(name, batch)
        trials = {key: self._write_trial(key, batch) for key in batch.trials}
        for cell in batch.former.values():
            self._retire(cell)
        for key, handle in trials.items():
            if handle is not None:
                self._write_trial_files(key, handle, batch.files.get(key, []))
        self._sent.clear()

    def deliver_reports(self) -> None:
        """Copy reports that are new or have changed."""
        for (study, profile), event in self._reader.state.studies.items():
            files = _report_files(self._storage, study, profile)
            if files:
                self._write_report(event, files)

    # -- trials --------------------------------------------------------------------------------------------------

    def _write_trial(self, key: str, batch: Batch) -> Handle | None:
        run = self._trial_run(self._reader.state.trials[key])
        run = replace(run, tags={**run.tags, **_file_tags(batch.files.get(key, []))})
        return self._write(run, batch.rows.get(run.key, []))

    def _trial_run(self, record: TrialRecord) -> Run:
        fields = self._reader.varying.get(experiment_name(record.benchmark, record.profile))
        return trial_run(self._reader.state, record, self._ledger, fields.names if fields else ())

    def _write_trial_files(self, key: str, handle: Handle, reports: Reports) -> None:
        """Write those of a trial's files that its run lacks: its config, and what reports have."""
        marks = [f"{report['step']}/{report['time']}" for report in reports]
        mark = handle.tags.get(FILES_MARK)
        if mark in marks:
            reports = reports[marks.index(mark) + 1 :]
        if reports or not mark:
            self._write_files(key, handle.place, partial(self._trial_files, key, reports, begun=bool(mark)))
            self.store.mark_files(handle, marks[-1] if marks else "config")

    def _trial_files(self, key: str, reports: Reports, *, begun: bool) -> Contents:
        record = self._reader.state.trials[key]
        config = self._reader.state.configs.get(record.config_id)
        files: dict[str, bytes | Path] = {}
        if config is not None and not begun:
            files["config.json"] = json.dumps(config.config, indent=1, sort_keys=True).encode()
        files |= confusion_files(_newest_confusion(reports), config.classes if config else ())
        for report in reports:
            files |= picture_files(key, report, self._storage.trial(record.folder))
        return files

    # -- cells and studies ---------------------------------------------------------------------------------------

    def _write_study(self, name: tuple[str, str], batch: Batch) -> None:
        state = self._reader.state
        event = state.studies[name]
        numbers = self._reader.numbers
        cells = [cell_run(state, cell, self._ledger, numbers.get(cell.key, {})) for cell in declared_cells(event)]
        runs = [run for run in cells if run is not None]
        if runs:
            self._write(study_run(state, event, self._ledger, self._reader.declared_at[name]), [])
        for run in runs:
            self._write(run, batch.rows.get(run.key, []))
        for experiment in dict.fromkeys(run.experiment for run in runs):
            self._write_views(experiment)

    def _retire(self, cell: DeclaredCell) -> None:
        """Take a cell that its study no longer declares out of the tables; no trial will end it any more."""
        config = self._reader.state.configs.get(cell.config_id)
        if config is None:
            return
        experiment = self.store.experiment(experiment_name(config.benchmark, cell.profile))
        handle = experiment.runs.get(cell.key)
        if handle is not None and not handle.deleted:
            open_still = handle.status == RunStatus.RUNNING.value
            dropped = self._reader.state.studies[cell.study, cell.profile]["time"]
            run = Run(
                key=cell.key,
                experiment=experiment_name(config.benchmark, cell.profile),
                started=0,
                tags={"mfm.kind": Kind.FORMER_CELL.value},
                status=RunStatus.KILLED if open_still else RunStatus(handle.status),
                ended=dropped if open_still else handle.ended,
            )
            self._write(run, [])

    def _write_views(self, name: str) -> None:
        """The note of an experiment with its links, and the saved views of its tables, of failures and of pictures."""
        experiment = self.store.experiment(name)
        state = self._reader.state
        tables = [(event, tables_in(state, event, name)) for event in state.studies.values()]
        studies = [event for event, here in tables if here]
        saved = self.store.reads_views
        tags = {NOTE: experiment_note(experiment.id, studies, self._ledger, saved=saved)}
        if saved:
            for event, here in tables:
                tags |= table_views(event, here, self._ledger, self._reader.pseudo_labels.get(name, ()))
            tags |= experiment_views(self._reader.pictures.get(name, {}), studies, self._ledger)
        writes = {key: partial(self.store.set_experiment_tags, experiment, {key: value}) for key, value in tags.items()}
        if saved:
            former = filter(is_of_every_ledger, experiment.tags)
            writes |= {key: partial(self.store.delete_experiment_tag, experiment, key) for key in former}
        for key, write in writes.items():
            try:
                write()
            except RefusedError as error:
                self._say(f"{key} of {name}: {error}")

    # -- models --------------------------------------------------------------------------------------------------

    def deliver_models(self) -> None:
        """Deliver models of trials that were exported, and those that were exported anew.

        Raises:
            TroubleError: It could not be done, or not wholly; the next call resumes there.
        """
        notes = sorted(self._storage.exports.glob("*.json"))
        if notes and not self.store.keeps_models:
            self._say_once("exported models: MLflow 3 lists them, and the server is not known to be of that version")
            return
        for path in notes:
            record = self._reader.state.trials.get(path.stem)
            export = self._storage.export_of(path.stem)
            if record is not None and export is not None:
                self._write_model(record, export)

    def _write_model(self, record: TrialRecord, export: Export) -> None:
        run = self._trial_run(record)
        experiment = self.store.experiment(run.experiment)
        handle = experiment.runs.get(run.key)
        try:
            model = exported_model(record, export, run, self._reader.time_of(record.key, export.step))
            digest = model.digest()
        except OSError as error:
            self._say_once(f"the model of {record.key}: {error}")
            return
        key = f"{model.key}/{digest}"
        delivered = handle is not None and handle.tags.get(model.mark) == digest and not self.store.from_start
        if handle is None or handle.deleted or delivered or not self._takes_files(key):
            return
        try:
            made = begin_model(self.store, experiment, handle, model, digest)
            if made is not None and self._write_files(key, place_of(made, handle), lambda: contents(model, made)):
                finish_model(self.store, handle, made, model, digest)
        except RefusedError as error:
            self._refusals[key] = PATIENCE
            self._say(f"{key}: {error}")

    # -- reports -------------------------------------------------------------------------------------------------

    def _write_report(self, event: Event, files: Mapping[str, Path]) -> None:
        handle = self.store.experiment(study_experiment(event)).runs.get(study_key(event))
        digest = _digest(files)
        if handle is None or handle.deleted or handle.tags.get("mfm.report") == digest:
            return
        if self._write_files(f"{study_key(event)}/{digest}", handle.place, lambda: files):
            begun = self._reader.declared_at[event["study"], event["profile"]]
            run = study_run(self._reader.state, event, self._ledger, begun)
            self._write(replace(run, tags={**run.tags, "mfm.report": digest}), [])

    # -- both ----------------------------------------------------------------------------------------------------

    def _write(self, run: Run, rows: list[Row]) -> Handle | None:
        try:
            return self.store.write(self._nested(run), rows)
        except RefusedError as error:
            self._say(f"{run.key}: {error}")
            return self.store.experiment(run.experiment).runs.get(run.key)

    def _nested(self, run: Run) -> Run:
        """The run below the first of its parents that MLflow has; the pages show no parent of another experiment."""
        there = self.store.experiment(run.experiment).runs
        parent = next((there[key] for key in run.parents if key in there and not there[key].deleted), None)
        return run if parent is None else replace(run, tags={**run.tags, PARENT: parent.run_id})

    def _write_files(self, key: str, place: Place, files: Callable[[], Contents]) -> bool:
        """Write artefacts; False where they were left out. Runs come before files: a store that takes no files must not
        keep the runs waiting for ever."""
        if not self._takes_files(key):
            return False
        sent = self._sent.setdefault(key, set())
        try:
            for name, content in files().items():
                if name not in sent:
                    self.store.write_file(place, name, content)
                    sent.add(name)
                    self._refusals.pop(key, None)
        except RefusedError as error:
            self._refusals[key] = PATIENCE
            self._say(f"files of {key}: {error}")
            return False
        except ArtifactTroubleError:
            self._refusals[key] = self._refusals.get(key, 0) + 1
            raise
        return True

    def _takes_files(self, key: str) -> bool:
        """Whether files of this key were not refused too often."""
        return self._refusals.get(key, 0) < PATIENCE

    def _say_once(self, text: str) -> None:
        """For the log, where it was not said before."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        """For the log."""
        text = without_password_of(self.target.given, text)
        print(time.strftime("%Y-%m-%d %H:%M:%S"), "left out:", text, file=sys.stderr, flush=True)


def _file_tags(reports: Reports) -> dict[str, str]:
    """The tags by which MLflow's pages find a run's pictures and tables."""
    tags, confusion = {}, _newest_confusion(reports)
    if any("pictures" in report for report in reports):
        tags["mlflow.loggedImages"] = "True"
    if confusion:
        tables = [{"path": table_path(network), "type": "table"} for network in confusion]
        tags["mlflow.loggedArtifacts"] = json.dumps(tables)
    return tags


def _newest_confusion(reports: Reports) -> Mapping[str, Matrix]:
    """The confusion matrix of each network in the last report that has any."""
    return next((report["confusion"] for report in reversed(reports) if "confusion" in report), {})


def _report_files(storage: Storage, study: str, profile: str) -> dict[str, Path]:
    """The files of a report: name in the artefacts -> path."""
    try:
        folder = storage.report(study, profile)
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {str(path.relative_to(folder)): path for path in paths if path.stat().st_size <= LARGEST_FILE}
    except (OSError, StorageError):
        return {}  # it is being replaced, and the next look finds it; or it can have none


def _digest(files: Mapping[str, Path]) -> str:
    """Twelve digits that change when a report does."""
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\0".encode())
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError:
            continue
    return digest.hexdigest()[:12]
