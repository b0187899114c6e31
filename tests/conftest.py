"""What all tests share: where the optional reference data lies, and quiet threads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # tests never assert times
settings.load_profile("any machine")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # no test writes to the server of whoever runs it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two torch threads on two busy cores wait for each other


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that use it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Inputs and outputs of the published reference code."""
    return shared / "data" / "golden"


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user's own, as whom the test runs: permissions mean nothing to root."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, -1)
            os.setresuid(65534, 65534, 0)
        try:
            yield Path(folder)
        finally:
            if root:
                os.setresuid(0, 0, 0)
