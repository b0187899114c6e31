"""Files of runs and models: copied to the storage folder, or sent to a server."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from mfm_tune.errors import DISK_FULL
from mfm_tune.ledger.storage import replacing
from mfm_tune.tracking.trouble import ArtifactTroubleError, RefusedError, TroubleError, VanishedError, as_trouble


@dataclass(frozen=True)
class Place:
    """Where files go: the artefacts of a run, or of a logged model of it.

    Args:
        root: The artefact URI.
    """

    run_id: str
    root: str
    model_id: str | None = None


def copy_file(artifacts: Path, place: Place, name: str, content: bytes | Path) -> None:
    """Put a file where a server that is given the artefacts' folder finds it, wherever that folder was moved to."""
    path = artifacts / place.root.removeprefix("mlflow-artifacts:").lstrip("/") / name
    if not place.root.startswith("mlflow-artifacts:"):
        raise RefusedError(f"The experiment keeps its artefacts in {place.root}, not in the storage folder.")
    try:
        with replacing(path) as temporary:
            if isinstance(content, Path):
                shutil.copyfile(content, temporary)
            else:
                temporary.write_bytes(content)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise TroubleError("full", f"{path} cannot be written: {error.strerror}.") from error
        raise ArtifactTroubleError("files", f"{path} cannot be written: {error.strerror}.") from error


def upload_file(client: MlflowClient, place: Place, name: str, content: bytes | Path) -> None:
    """Send a file to the server, which keeps it."""
    folder, _, base = name.rpartition("/")
    with ExitStack() as stack:
        if isinstance(content, Path) and content.name == base:
            file = content
        else:
            file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / base
            file.write_bytes(content.read_bytes() if isinstance(content, Path) else content)
        try:
            with as_trouble():
                if place.model_id is None:
                    client.log_artifact(place.run_id, str(file), folder or None)
                else:
                    client.log_model_artifact(place.model_id, str(file), folder or None)
        except TroubleError as error:
            raise ArtifactTroubleError("files", str(error)) from error
        except (RefusedError, VanishedError):
            raise
        except Exception as error:  # a store whose client is not installed, or which refuses the credentials
            raise RefusedError(f"{name} cannot be uploaded: {type(error).__name__}: {error}") from error
