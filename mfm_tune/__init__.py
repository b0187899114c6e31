"""mfm_tune: ablation tables and searches for domain-adaptive segmentation, on Ray Tune and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfm_tune.results.frames import Frames

__all__ = ["load"]


def load(storage: str | Path = "runs") -> Frames:
    """The numbers of a storage folder as pandas frames: `trials`, `cells`, `curves`, `configs`.

    Nothing is written; a run that is under way is read as far as it has come.

    Args:
        storage: The folder that `--storage` names.

    Raises:
        StorageError: It has no ledger, or one that cannot be read.
    """
    from mfm_tune.ledger.state import read_storage
    from mfm_tune.results.frames import frames

    return frames(read_storage(Path(storage)))
