"""On several nodes: Ray's own cluster utility simulates them on this machine, with GPUs that are on its books only."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfm_tune.errors import NodeError
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.ledger.state import read_ledger
from mfm_tune.program import Outcome
from mfm_tune.run import REPOSITORY, main
from tests.benchmarks.cluster import add_nodes, joining_node, run, simulated_cluster
from tests.mfm_tune.commands.test_kill import REAL, results
from tests.mfm_tune.stub_launch import Launched, launch, stub_trials
from tests.mfm_tune.stub_program import PROGRESS, StubConfig, StubProgram

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
GPUS = 2  # of a node


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster without nodes that could run a trial; tests add those that they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "token"))  # and back again at the end
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with simulated_cluster() as made:
            yield made


def grown_to(cluster: Any, nodes: int) -> None:
    """See to so many nodes."""
    add_nodes(cluster, nodes - len(cluster.worker_nodes), gpus=GPUS, cpus=2 * GPUS)


def test_every_trial_ends_and_every_gpu_is_packed_while_nodes_die_and_come(cluster: Any, tmp_path: Path) -> None:
    """Half a GPU a trial: two at once on each GPU, never more; what ran on the dead node finishes elsewhere."""
    grown_to(cluster, 2)
    ran = run(
        cluster, tmp_path, trials=24, fraction=0.5, seconds=4, kills=1, add={"gpus": GPUS, "cpus": 2 * GPUS}
    )  # fmt: skip
    assert ran.outcomes == {Outcome.FINISHED: 24}
    assert ran.attempts > 24  # the dead node took trials with it
    assert 0 < max(ran.all_used) <= 101  # percent; clocks are read a moment apart
    assert sum(len(gpus) for gpus in ran.used.values()) >= 2 * GPUS


def test_real_training_that_loses_a_node_ends_with_the_bits_of_one_machine(cluster: Any, tmp_path: Path) -> None:
    """ToyCity on four fake GPUs of two nodes; the node of the first trial that has a checkpoint is killed."""
    grown_to(cluster, 2)
    space, alone, spread = tmp_path / "short_study.py", tmp_path / "alone", tmp_path / "spread"
    space.write_text(REAL)
    done = subprocess.run(command(space, alone, "--inline"), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = threading.Event()
    killer = threading.Thread(target=kill_a_node_at_work, args=(cluster, spread, ended))
    killer.start()
    try:
        assert main(command(space, spread, "--address", cluster.address, "--gpus-per-trial", "1")[3:]) == 0
    finally:
        ended.set()
        killer.join()
    assert len(cluster.worker_nodes) == 1
    expected, got = (read_ledger(storage / "ledger.jsonl").trials for storage in (alone, spread))
    assert {key: results(record) for key, record in got.items()} == {
        key: results(record) for key, record in expected.items()
    }
    assert len(got) == 4
    assert any(record.attempts > 1 for record in got.values())
    for path in alone.rglob("final.safetensors"):
        assert (spread / path.relative_to(alone)).read_bytes() == path.read_bytes()


def test_a_node_that_is_taken_away_after_notice_costs_no_retry(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pre-empted, as a spot machine of a cloud: with no retry allowed its trials go on elsewhere all the same."""
    grown_to(cluster, 2)
    monkeypatch.setattr("mfm_tune.tune.rounds.RETRIES", 0)
    trials = stub_trials([StubConfig(steps=10, level=level, sleep_s=1) for level in range(2 * GPUS)])
    ended = threading.Event()
    killer = threading.Thread(target=kill_a_node_at_work, args=(cluster, tmp_path, ended), kwargs={"notice": True})
    killer.start()
    try:
        after = launch(tmp_path, trials, address=cluster.address, gpus_per_trial=1.0)
    finally:
        ended.set()
        killer.join()
    records = [after.record(trial) for trial in trials]
    assert [record.outcome for record in records] == [Outcome.FINISHED] * len(trials)
    assert max(record.attempts for record in records) == 2


def command(space: Path, storage: Path, *more: str) -> list[str]:
    """The command that trains the study."""
    return [sys.executable, "-m", "mfm_tune.run", str(space), "--storage", str(storage), "--no-tracking", *more]


def kill_a_node_at_work(cluster: Any, storage: Path, ended: threading.Event, *, notice: bool = False) -> None:
    """Wait for a trial beyond its first checkpoint, and kill the node that it runs on, with notice or without."""
    while not ended.is_set():
        for progress in storage.glob("trials/*/*/progress"):
            content = progress.read_bytes()
            if len(content) == PROGRESS.size and 3 < PROGRESS.unpack(content)[1] < 9:
                node = next(each for each in cluster.worker_nodes if holds(each, progress))
                if notice:
                    told = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
                    drain = [str(Path(sys.executable).parent / "ray"), "drain-node", "--address", cluster.address,
                             "--node-id", node.node_id, *told, "--deadline-remaining-seconds", "1"]  # fmt: skip
                    subprocess.run(drain, check=True, capture_output=True)
                cluster.remove_node(node, allow_graceful=False)
                return
        time.sleep(0.01)


def holds(node: Any, path: Path) -> bool:
    """Whether a worker of a node has a file open: the raylet's socket stands in its command line."""
    for folder in Path("/proc").iterdir():
        try:
            files = {os.readlink(link) for link in (folder / "fd").iterdir()}
            if str(path) not in files:
                continue
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            return node.raylet_socket_name.encode() in Path(f"/proc/{parent}/cmdline").read_bytes()
        except OSError:
            continue  # no process, or ended meanwhile
    return False


def test_a_node_that_lacks_storage_code_and_data_is_refused_by_name(cluster: Any, tmp_path: Path) -> None:
    """A node with file systems of its own: another disk over the storage, other code, no data. No trial starts, and
    `--probe` measures nothing."""
    grown_to(cluster, 1)
    storage, data, code = tmp_path / "storage", tmp_path / "data", tmp_path / "code.py"
    storage.mkdir()
    data.mkdir()
    original = REPOSITORY / "tests" / "mfm_tune" / "stub_program.py"
    code.write_text(original.read_text() + "\nOTHER = 1\n")
    over = f"mount -t tmpfs none {storage} && mount --bind {code} {original} && mount -t tmpfs none {tmp_path}/data"
    if subprocess.run(["unshare", "-m", "sh", "-c", over], capture_output=True).returncode:
        pytest.skip("needs mount namespaces (unshare -m)")
    store = data / "store"
    store.mkdir()
    there = alive(cluster)
    with joining_node(cluster.address, gpus=0, cpus=1, within=over) as node:
        while not alive(cluster) - there:  # by name: a node that an earlier test has killed may still count as alive
            assert node.poll() is None, "the node did not start"
        with pytest.raises(NodeError) as refused:
            launch(storage, stub_trials([StubConfig()]), address=cluster.address, data={"toy": str(store)})
        from mfm_tune.tune.probe import on_cluster  # imports ray, whose environment is set by now

        options = EngineOptions(
            storage=storage, address=cluster.address, data={"toy": str(store)}, representative_configs=(StubConfig(),)
        )
        with pytest.raises(NodeError) as probed, on_cluster(StubProgram(), options):
            pass
    assert str(probed.value) == str(refused.value)
    said = str(refused.value).splitlines()
    names = {line.split(" (")[1].split(")")[0] for line in said}
    assert len(names) == 1, said  # of one node, by its address and id
    assert [line.partition(") ")[2].partition(";")[0] for line in said] == [
        f"cannot use the storage folder {storage}: what this machine has written there is not to be seen",
        "has another version of tests/mfm_tune/stub_program.py",
        f"does not have the data set 'toy' at {store}",
    ]
    assert Launched(storage).keys_of("start") == []
    assert [path.name for path in storage.iterdir() if path.name.startswith(".nodes")] == []


def alive(cluster: Any) -> set[str]:
    """The ids of the nodes that are alive, the head's among them."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
    try:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    finally:
        ray.shutdown()


# --------------------------------------------------------------------------------------------------------------------
# What the documentation gives
# --------------------------------------------------------------------------------------------------------------------

SCONTROL = "#!/bin/sh\nprintf 'first\\nsecond\\n'\n"
SRUN = """#!/usr/bin/env bash
echo "$*" >> "$SRUN_LOG"
while [[ $1 == --* ]]; do shift; done
if [[ $1 == hostname ]]; then echo 127.0.0.1; exit; fi
exec "$@" --disable-usage-stats --object-store-memory=83886080
"""


def test_the_slurm_script_starts_head_and_workers_and_runs_a_study(tmp_path: Path) -> None:
    """With commands of Slurm that start everything here: two nodes, a study trained on them, nothing left running."""
    from tests.mfm_tune.stub_launch import processes_with
    from tests.mfm_tune.stub_space import write_space

    bin_folder, mark = tmp_path / "bin", secrets.token_hex(8)
    bin_folder.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    space = write_space(tmp_path, 'STUDY = study("smoke", seeds=(0,))')
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CUDA_"))} | {
        "PATH": f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "SLURM_JOB_NODELIST": "[first-second]",
        "SLURM_CPUS_PER_TASK": "1",
        "SRUN_LOG": str(tmp_path / "srun.log"),
        "RAY_PORT": str(free_port()),
        "STUB_LAUNCH": mark,
    }
    storage = tmp_path / "storage"
    script = [str(REPOSITORY / "docs" / "cluster" / "slurm.sh"), str(space), "--storage", str(storage), "--no-tracking"]
    done = subprocess.run(script, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 nodes are there" in done.stdout
    assert [record.outcome for record in Launched(storage).state.trials.values()] == [Outcome.FINISHED] * 2
    assert "--nodes=1 --ntasks=1 --exclude=first ray start" in (tmp_path / "srun.log").read_text()
    end = time.monotonic() + 60
    while processes_with("STUB_LAUNCH", mark):
        assert time.monotonic() < end, "something is left running"
        time.sleep(0.2)


def free_port() -> int:
    """A port that nobody listens on now."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
