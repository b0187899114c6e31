"""One local Ray for all fast tests: starting one costs seconds, joining one milliseconds."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mfm_tune.tracking.tracking_places import Shown

REPOSITORY = Path(__file__).resolve().parents[2]

# Before anything imports ray: the head, this process and the drivers that tests start know one token.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)  # of the Ray within which the tests may run

HEAD = """
import ray, sys
head = ray.init(address="local", num_cpus=2, num_gpus=int(sys.argv[1]), include_dashboard=False, log_to_driver=False,
                object_store_memory=2**27)
print("address", head.address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def ray_head() -> Iterator[str]:
    """The address of a Ray with two CPUs."""
    with _head(gpus=0) as address:
        yield address


@pytest.fixture(scope="session")
def gpu_head() -> Iterator[str]:
    """The address of a Ray with two CPUs, and a GPU that is only on its books."""
    with _head(gpus=1) as address:
        yield address


@contextmanager
def _head(*, gpus: int) -> Iterator[str]:
    """A Ray that ends with the tests, also when they are killed: its input closes."""
    command = [sys.executable, "-c", HEAD, str(gpus)]
    # A Ray that ran in this process before may have hidden all GPUs from its children.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    head = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment
    )
    assert head.stdin is not None
    assert head.stdout is not None
    address = next((line.split()[1] for line in head.stdout if line.startswith("address ")), "")
    assert address, "the head of Ray did not start"
    yield address
    head.stdin.close()
    head.wait(timeout=60)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database, to be copied: making one costs seconds."""
    from tests.mfm_tune.tracking.tracking_places import make_database

    return make_database(tmp_path_factory.mktemp("database") / "mlflow.db")


@pytest.fixture(scope="session")
def shown(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A storage folder that was mirrored, moved, and is shown by the UI's server."""
    from tests.mfm_tune.tracking.tracking_places import shown_storage

    with shown_storage(empty_database, tmp_path_factory.mktemp("shown")) as storage:
        yield storage


@pytest.fixture
def environment_of_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mirror's processes have in their environment, before MLflow is imported here."""
    from mfm_tune.tracking.mirror import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
