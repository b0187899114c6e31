"""A simulated cluster: how well its GPUs are packed while nodes die and come.

    python -m tests.benchmarks.cluster [--nodes 8] [--gpus 4] [--trials 200] [--fractions 1 0.5 0.25] [--workers 64]
                                       [--out tests/benchmarks/results]

Ray's own cluster utility starts the nodes on this machine, with GPUs that are on the books only; trials sleep. For
each fraction of a GPU all trials run once; two nodes are killed and one is added on the way. A GPU's utilisation is
the share of its time, from its first trial until no trial waits any more (or its node dies), in which it was promised
to trials. Workers are real processes, each some 100 MiB: where there would be more than `--workers`, the run takes
fewer GPUs a node.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm_tune.execution.recorder import Recorder
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.program import Outcome
from mfm_tune.tune.engine import run_with_ray
from mfm_tune.tune.environment import set_environment
from tests.benchmarks.instant_program import REPOSITORY, new_recorder
from tests.benchmarks.placed_program import PlacedProgram, Stay, stays_in
from tests.mfm_tune.stub_launch import stub_trials
from tests.mfm_tune.stub_program import StubConfig

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

STORE_BYTES = 80 * 2**20  # of a node's object store, the least that Ray takes


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run: outcomes, attempts, and how each GPU was used (percent), by node and GPU."""

    outcomes: dict[Outcome | None, int]
    attempts: int
    seconds: float
    used: dict[str, dict[str, float]]

    @property
    def all_used(self) -> list[float]:
        return [share for gpus in self.used.values() for share in gpus.values()]


@contextmanager
def simulated_cluster() -> Iterator[Cluster]:
    """A head that runs nothing; nodes are added with `add_nodes`. Ends with the context."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # a Ray that ran in this process before may have hidden all GPUs
    set_environment("", verbose=False)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add_nodes(cluster: Cluster, count: int, *, gpus: int, cpus: int) -> None:
    """Add nodes to a simulated cluster, and wait until they are there."""
    settings: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "object_store_memory": STORE_BYTES}
    for _ in range(count):
        _patiently(lambda: cluster.add_node(**settings))


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a node; on a busy machine it gives up after 30 s, and is started again."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


@contextmanager
def joining_node(address: str, *, gpus: int, cpus: int, within: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A node that is started as a person would, and ends with the context; it is there some seconds later.

    Args:
        within: Shell commands before it, in a mount namespace of its own.
    """
    start = (
        f"ray start --address={address} --num-cpus={cpus} --num-gpus={gpus} --object-store-memory={STORE_BYTES} "
        "--disable-usage-stats --block"
    )
    command = ["unshare", "-m", "sh", "-c", f"{within} && exec {start}"] if within else start.split()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        yield node
    finally:
        node.terminate()
        node.wait()


class Disturbing(Recorder):
    """Does something to the cluster whenever a number of trials has ended."""

    def disturb_at(self, what: dict[int, Any]) -> None:
        """What to do after how many ends."""
        self._what, self._ended = what, 0

    def ended(self, key: str, outcome: Outcome, **more: Any) -> None:
        super().ended(key, outcome, **more)
        self._ended += 1
        if self._ended in self._what:
            self._what[self._ended]()


def run(
    cluster: Cluster, storage: Path, *, trials: int, fraction: float, seconds: float, kills: int, add: dict[str, int]
) -> Ran:
    """Run stub trials of so many seconds on a cluster; nodes are killed and one is added while they run.

    Args:
        add: `gpus` and `cpus` of the node that is added.
    """
    configs = [StubConfig(steps=10, interval=2, level=level, sleep_s=seconds / 10) for level in range(trials)]
    planned = stub_trials(configs)
    recorder, state = new_recorder(storage, planned, Disturbing)
    assert isinstance(recorder, Disturbing)
    nodes = list(cluster.worker_nodes)
    died: dict[str, float] = {}

    def kill() -> None:
        node = nodes.pop()
        died[node.node_id] = time.time()
        cluster.remove_node(node, allow_graceful=False)

    ends = {trials * (number + 1) // 5: kill for number in range(kills)}
    options = EngineOptions(
        storage=storage, address=cluster.address, gpus_per_trial=fraction, import_paths=(REPOSITORY,)
    )
    with ExitStack() as joined:

        def grow() -> None:
            joined.enter_context(joining_node(cluster.address, **add))

        recorder.disturb_at({**ends, trials * (kills + 1) // 5: grow})
        begun = time.perf_counter()
        run_with_ray(PlacedProgram(), planned, recorder, options)
        took = time.perf_counter() - begun
    outcomes: dict[Outcome | None, int] = defaultdict(int)
    for trial in planned:
        outcomes[state.trials[trial.key].outcome] += 1
    stays = list(stays_in(storage, {trial.key: trial.folder for trial in planned}))
    return Ran(
        outcomes=dict(outcomes),
        attempts=sum(state.trials[trial.key].attempts for trial in planned),
        seconds=took,
        used=utilisation(stays, fraction, died),
    )


def utilisation(stays: Sequence[Stay], fraction: float, died: dict[str, float]) -> dict[str, dict[str, float]]:
    """Percent of each GPU's time that trials had, by node and GPU, up to the start of the last trial of all."""
    end = max(stay.begun for stay in stays)
    by_gpu: dict[tuple[str, str], list[Stay]] = defaultdict(list)
    for stay in stays:
        by_gpu[stay.node, stay.gpu].append(stay)
    used: dict[str, dict[str, float]] = defaultdict(dict)
    for (node, gpu), held in sorted(by_gpu.items()):
        first, last = min(stay.begun for stay in held), min(end, died.get(node, end))
        if last > first:
            busy = sum(max(0.0, min(stay.until, last) - stay.begun) for stay in held)
            used[node][gpu] = 100 * fraction * busy / (last - first)
    return dict(used)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--gpus", type=int, default=4, help="of a node")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20, help="of a trial on a whole GPU, more on a fraction")
    parser.add_argument("--fractions", type=float, nargs="+", default=[1.0, 0.5, 0.25])
    parser.add_argument("--workers", type=int, default=64, help="at most")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the tables there, too, after each run")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load average {load:.1f}; {given.trials} trials a run", flush=True)
    runs: list[Told] = []
    for fraction in given.fractions:
        gpus = max(1, min(given.gpus, int(given.workers * fraction / given.nodes)))
        runs.append(_one(given, fraction, gpus))
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / "cluster.md").write_text(page(runs, given, load))
    return 0


@dataclass(frozen=True, kw_only=True)
class Told:
    """A run, and on what it ran."""

    ran: Ran
    fraction: float
    nodes: int
    gpus: int

    @property
    def places(self) -> int:
        """Trials at once, before nodes die and come."""
        return int(self.nodes * self.gpus / self.fraction)

    @property
    def outcomes(self) -> str:
        """`200 finished`."""
        return ", ".join(f"{count} {each.value if each else 'open'}" for each, count in self.ran.outcomes.items())


def page(runs: Sequence[Told], given: argparse.Namespace, load: float) -> str:
    """The runs as a page of tables."""
    options = f"--nodes {given.nodes} --gpus {given.gpus} --trials {given.trials} --workers {given.workers}"
    lines = [
        "# A simulated cluster while nodes die and come",
        "",
        f"`python -m tests.benchmarks.cluster {options}` on one machine of {os.cpu_count()} cores, load average "
        f"{load:.1f} at the start. In each run two nodes are killed (after a fifth and two fifths of the trials) and "
        "one is added (after three fifths). A GPU's utilisation is the share of its time, from its first trial until "
        "the last trial of all has started (or its node dies), that trials had. GPUs are on Ray's books only, and "
        f"trials sleep for {given.seconds:g} s divided by the fraction; where there would be more than {given.workers} "
        "workers, which are real processes, a node has fewer GPUs.",
        "",
        "| GPUs a trial | nodes x GPUs | places | trials | attempts | s | utilisation: mean | lowest GPU |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for told in runs:
        used = told.ran.all_used
        lines.append(
            f"| {told.fraction:g} | {told.nodes} x {told.gpus} | {told.places} | {told.outcomes} | "
            f"{told.ran.attempts} | {told.ran.seconds:.0f} | {statistics.fmean(used):.1f} % | {min(used):.1f} % |"
        )
    for told in runs:
        lines += ["", f"## {told.fraction:g} GPU a trial: percent of each GPU's time", ""]
        lines += ["| node | " + " | ".join(f"GPU {number}" for number in range(told.gpus)) + " |"]
        lines += ["| ---: |" + " ---: |" * told.gpus]
        for number, shares in enumerate(told.ran.used.values(), start=1):
            cells = [f"{shares[str(gpu)]:.1f}" if str(gpu) in shares else "no trial" for gpu in range(told.gpus)]
            lines.append(f"| {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _one(given: argparse.Namespace, fraction: float, gpus: int) -> Told:
    cpus = int(gpus / fraction)
    with simulated_cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        add_nodes(cluster, given.nodes, gpus=gpus, cpus=cpus)
        ran = run(
            cluster, Path(folder), trials=given.trials, fraction=fraction, seconds=given.seconds / fraction, kills=2,
            add={"gpus": gpus, "cpus": cpus},
        )  # fmt: skip
    told = Told(ran=ran, fraction=fraction, nodes=given.nodes, gpus=gpus)
    print(f"\n{fraction:g} GPU a trial, {given.nodes} nodes x {gpus} GPUs, {told.places} places")
    print(f"  {told.outcomes}; {ran.attempts} attempts; {ran.seconds:.0f} s")
    for number, (_, shares) in enumerate(ran.used.items(), start=1):
        print(f"  node {number}: " + "  ".join(f"GPU {gpu} {share:5.1f} %" for gpu, share in shares.items()))
    every = ran.all_used
    print(f"  all GPUs: mean {statistics.fmean(every):.1f} %, lowest {min(every):.1f} %", flush=True)
    return told


if __name__ == "__main__":
    sys.exit(main())
