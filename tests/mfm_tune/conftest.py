"""One local Ray for all fast tests: starting one costs seconds, joining one milliseconds."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Before anything imports ray: the head, this process and the drivers that tests start know one token.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

HEAD = """
import ray, sys
head = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
print("address", head.address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def ray_head() -> Iterator[str]:
    """The address of a Ray with two CPUs. It ends with the tests, also when they are killed: its input closes."""
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert head.stdin is not None
    assert head.stdout is not None
    address = ""
    for line in head.stdout:
        if line.startswith("address "):
            address = line.split()[1]
            break
    assert address, "the head of Ray did not start"
    yield address
    head.stdin.close()
    head.wait(timeout=60)
