"""The nodes of a cluster are checked before the first trial starts. Imports ray.

The driver looks at its own machine, and each node at itself: the storage folder, the code, the data sets, the GPUs.
Where a node sees something else, `mismatches` names it, with the remedy.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfm_tune.errors import NodeError, SearchSpaceError, last_line, storage_error
from mfm_tune.execution.resources import gpu_devices
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.identity import defining_modules
from mfm_tune.ledger.events import versions_of
from mfm_tune.planning.fingerprint import TrainingCode, changed_files
from mfm_tune.program import Program

VERSIONS = ("torch", "torchvision", "timm", "numpy")  # those that can change a result
MARK = "driver"
FILES_NAMED = 3
ANSWER_S = 300.0  # how long nodes have: a worker starts there and reads the code
GONE_S = 30.0  # how long Ray takes to notice that a node is gone
SETTLE_S = 10.0  # how long a shared disk may take to show here what was written there


def check_nodes(program: Program, configs: Sequence[Any], options: EngineOptions) -> None:
    """Ask every node that is alive: one tiny task each, all at once.

    Args:
        configs: Those of the trials, or others of the same classes.

    Raises:
        NodeError: A node lacks something; every such node is named, one sentence for each thing.
        StorageError: The storage folder cannot be written here.
    """
    with _node_check(program, configs, options) as check:
        here = look(check, "here")
        nodes = _alive()
        asked = {name: _ask(name, check) for name in nodes}
        said: list[str] = []
        answers: list[NodeReport] = []
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
        for name, answer in asked.items():
            seen = _answer(answer, nodes[name])
            if isinstance(seen, str):
                said.extend(() if _dies(name) else [seen])
                continue
            answers.append(seen if seen.storage else replace(seen, storage=_not_shared(check, name)))
        for seen in answers:
            said.extend(mismatches(here, seen, check))
        said.extend(_gpu_mismatches(answers))
    if said:
        raise NodeError("\n".join(said))


def _alive() -> dict[str, Mapping[str, Any]]:
    """The nodes that Ray takes for alive, by id."""
    known: list[Mapping[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node for node in known if node["Alive"]}


def _dies(node: str) -> bool:
    """Whether a node that gave no answer is gone, which Ray finds out only after a while. No trial will start there."""
    end = time.monotonic() + GONE_S
    while node in _alive():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _gpu_mismatches(answers: Sequence[NodeReport]) -> list[str]:
    """Where no node shows a GPU, the cluster is a simulated one, or its GPUs are none that can be counted here."""
    promised = sum(seen.gpus_in_ray for seen in answers)
    if all(seen.gpus == 0 for seen in answers):
        if promised:
            print(f"No node shows a GPU, although Ray counts on {promised:g}: trials may train on CPUs.", flush=True)
        return []
    return [text for text in map(gpu_mismatch, answers) if text is not None]


@contextmanager
def _node_check(program: Program, configs: Sequence[Any], options: EngineOptions) -> Iterator[NodeCheck]:
    """A check with its token in the storage, which is removed at the end."""
    folder = options.storage / f".nodes-{secrets.token_hex(4)}"
    token = secrets.token_hex(16)
    failed = f"The storage folder {options.storage} cannot be written"
    with storage_error(failed, "make it writable, or give another --storage"):
        folder.mkdir(parents=True)
        (folder / MARK).write_text(token)
    try:
        yield NodeCheck(folder=str(folder), token=token, modules=modules_of(program, configs), data=options.data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def modules_of(program: Program, configs: Sequence[Any]) -> tuple[str, ...]:
    """The training code: the program's packages, and the modules that define further parts of configs."""
    own = {module for config in configs for module in defining_modules(config)}
    return (*program.packages, *sorted(module for module in own if not _within(module, program.packages)))


def _within(module: str, packages: Sequence[str]) -> bool:
    """Whether a module's file is covered by packages, or it has none."""
    covered = any(module == package or module.startswith(f"{package}.") for package in packages)
    return covered or not getattr(sys.modules.get(module), "__file__", None)


def _ask(node: str, check: NodeCheck) -> Any:
    remote: Any = ray.remote(look)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(check, node)


def _answer(answer: Any, node: Mapping[str, Any]) -> NodeReport | str:
    """What a node sees, or a sentence on why it does not say."""
    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, node {node['NodeID'][:8]})"
    try:
        seen: NodeReport = ray.get(answer, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"Node {name} did not answer within {ANSWER_S:g} s; look at its ray, or remove the node."
    except ray.exceptions.RayError as error:
        why = last_line(str(error)).rstrip(".")
        return (
            f"Node {name} cannot run this project's code: {why}; install the same version there, or put it on the "
            "shared disk under the same path."
        )
    return replace(
        seen, node=node["NodeID"], address=node["NodeManagerAddress"], gpus_in_ray=node["Resources"].get("GPU", 0.0)
    )


def _not_shared(check: NodeCheck, answer: str) -> str:
    """What a node wrote into the storage must be found here; a network disk may take a moment."""
    path, end = Path(check.folder) / answer, time.monotonic() + SETTLE_S
    while True:
        try:
            if path.read_text() == check.token:
                return ""
        except OSError:
            pass
        if time.monotonic() > end:
            return "what the node has written there is not to be seen on this machine"
        time.sleep(0.2)


# --------------------------------------------------------------------------------------------------------------------
# On one machine
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NodeCheck:
    """What a node is asked.

    Args:
        folder: A folder in the storage in which the driver has left `token` under the name `MARK`.
        token: What is in it.
        modules: Packages and modules of the training code.
        data: Dataset name -> path.
    """

    folder: str
    token: str
    modules: tuple[str, ...]
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What a machine sees.

    Args:
        host, address: The machine's name and, in a cluster, its address.
        storage: What is wrong with the storage folder there, empty where nothing is.
        code: Hash of each file of the training code by name; empty where it cannot be found.
        code_error: Why it cannot.
        versions: Of Python and of the packages that can change a result.
        missing: Names of the data sets whose path does not exist.
        gpus: GPUs that the operating system shows.
    """

    host: str
    storage: str
    code: Mapping[str, str]
    code_error: str
    versions: Mapping[str, str]
    missing: tuple[str, ...]
    gpus: int
    address: str = ""
    node: str = ""
    gpus_in_ray: float = 0.0

    @property
    def name(self) -> str:
        """How the machine is called in a sentence."""
        return f"{self.host} ({self.address}, node {self.node[:8]})" if self.node else self.host


def look(check: NodeCheck, answer: str) -> NodeReport:
    """Look at this machine.

    Args:
        answer: The name under which the token is written into the check's folder, for the driver to find.
    """
    code, code_error = _code(check.modules)
    return NodeReport(
        host=socket.gethostname(),
        storage=_storage(Path(check.folder), check.token, answer),
        code=code,
        code_error=code_error,
        versions=versions_of(VERSIONS),
        missing=tuple(name for name, path in check.data.items() if not os.path.exists(path)),
        gpus=gpu_devices(),
    )


def mismatches(here: NodeReport, there: NodeReport, check: NodeCheck) -> Iterator[str]:
    """What a node lacks that this machine has, one sentence each, with the remedy."""
    storage = os.path.dirname(check.folder)
    if there.storage:
        yield (
            f"Node {there.name} cannot use the storage folder {storage}: {there.storage}; mount the same disk there "
            "under the same path and make it writable, give a --storage that all nodes share, or remove the node."
        )
    yield from _code_mismatches(here, there)
    other = [f"{name} {there.versions.get(name, 'missing')} instead of {version}" for name, version in
             here.versions.items() if there.versions.get(name) != version]  # fmt: skip
    if other:
        yield f"Node {there.name} has {', '.join(other)}; install there what this machine has, or remove the node."
    for name in there.missing:
        yield (
            f"Node {there.name} does not have the data set '{name}' at {check.data[name]}; put it under the same "
            "path on every node, or remove the node."
        )


def gpu_mismatch(there: NodeReport) -> str | None:
    """Whether Ray counts on more GPUs than a node shows. (Of a simulated cluster no node shows any.)"""
    if there.gpus >= there.gpus_in_ray:
        return None
    return (
        f"Node {there.name} shows {there.gpus} GPUs, and Ray counts on {there.gpus_in_ray:g}; look at its driver "
        "(nvidia-smi), start its ray with the right --num-gpus, or remove the node."
    )


def _code_mismatches(here: NodeReport, there: NodeReport) -> Iterator[str]:
    if there.code_error:
        yield (
            f"Node {there.name} cannot find the training code: {there.code_error}; install this project there, or put "
            "it on the shared disk under the same path."
        )
        return
    changed = changed_files(here.code, there.code)
    if changed:
        more = f" and {len(changed) - FILES_NAMED} more" if len(changed) > FILES_NAMED else ""
        yield (
            f"Node {there.name} has another version of {', '.join(changed[:FILES_NAMED])}{more}; bring it to the "
            "version of this machine, or remove the node."
        )


def _storage(folder: Path, token: str, answer: str) -> str:
    """What is wrong with the folder, empty where nothing is."""
    try:
        if (folder / MARK).read_text() != token:
            return "what this machine has written there reads otherwise"
        (folder / answer).write_text(token)
    except FileNotFoundError:
        return "what this machine has written there is not to be seen"
    except OSError as error:
        return f"{error.strerror}"
    return ""


def _code(modules: tuple[str, ...]) -> tuple[Mapping[str, str], str]:
    try:
        return TrainingCode(modules).files, ""
    except (SearchSpaceError, ImportError, ValueError) as error:
        return {}, str(error).rstrip(".").split(";")[0]
