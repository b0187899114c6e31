"""Files of runs: copied to the storage folder, or sent to a server."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from mfm_tune.ledger.storage import replacing
from mfm_tune.tracking.trouble import ArtifactTroubleError, RefusedError, TroubleError, VanishedError, as_trouble


def copy_file(artifacts: Path, root: str, name: str, content: bytes | Path) -> None:
    """Put a file where a server that is given the artefacts' folder finds it, wherever that folder was moved to."""
    path = artifacts / root.removeprefix("mlflow-artifacts:").lstrip("/") / name
    if not root.startswith("mlflow-artifacts:"):
        raise RefusedError(f"The experiment keeps its artefacts in {root}, not in the storage folder.")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(_bytes(content))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TroubleError("full", f"{path} cannot be written: {error.strerror}.") from error
        raise ArtifactTroubleError("files", f"{path} cannot be written: {error.strerror}.") from error


def upload_file(client: MlflowClient, run_id: str, name: str, content: bytes | Path) -> None:
    """Send a file to the server, which keeps it."""
    folder, _, base = name.rpartition("/")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / base
        file.write_bytes(_bytes(content))
        try:
            with as_trouble():
                client.log_artifact(run_id, str(file), folder or None)
        except TroubleError as error:
            raise ArtifactTroubleError("files", str(error)) from error
        except (RefusedError, VanishedError):
            raise
        except Exception as error:  # a store whose client is not installed, or which refuses the credentials
            raise RefusedError(f"{name} cannot be uploaded: {type(error).__name__}: {error}") from error


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content
