"""What a machine sees of what trials need: the storage folder, the code, the data sets, its GPUs.

The driver looks at its own machine, and sends the same question to each node of a cluster; where a node sees something
else, `complaints` says what, and what to do about it. Everything here runs on nodes, so it imports little.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from mfm_tune.errors import SearchSpaceError
from mfm_tune.planning.fingerprint import TrainingCode, changed_files

VERSIONS = ("torch", "torchvision", "timm", "numpy")  # those that can change a result
MARK = "driver"
FILES_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Question:
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
class Seen:
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


def look(question: Question, answer: str) -> Seen:
    """Look at this machine.

    Args:
        answer: The name under which the token is written into the question's folder, for the driver to find.
    """
    code, code_error = _code(question.modules)
    return Seen(
        host=socket.gethostname(),
        storage=_storage(Path(question.folder), question.token, answer),
        code=code,
        code_error=code_error,
        versions=_versions(),
        missing=tuple(name for name, path in question.data.items() if not os.path.exists(path)),
        gpus=len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]),
    )


def complaints(here: Seen, there: Seen, question: Question) -> Iterator[str]:
    """What a node lacks that this machine has, one sentence each, with the remedy."""
    storage = os.path.dirname(question.folder)
    if there.storage:
        yield (
            f"Node {there.name} cannot use the storage folder {storage}: {there.storage}; mount the same disk there "
            "under the same path and make it writable, give a --storage that all nodes share, or remove the node."
        )
    yield from _code_complaints(here, there)
    other = [f"{name} {there.versions.get(name, 'missing')} instead of {version}" for name, version in
             here.versions.items() if there.versions.get(name) != version]  # fmt: skip
    if other:
        yield f"Node {there.name} has {', '.join(other)}; install there what this machine has, or remove the node."
    for name in there.missing:
        yield (
            f"Node {there.name} does not have the data set '{name}' at {question.data[name]}; put it under the same "
            "path on every node, or remove the node."
        )


def gpu_complaint(there: Seen) -> str | None:
    """Whether Ray counts on more GPUs than a node shows. (Of a simulated cluster no node shows any.)"""
    if there.gpus >= there.gpus_in_ray:
        return None
    return (
        f"Node {there.name} shows {there.gpus} GPUs, and Ray counts on {there.gpus_in_ray:g}; look at its driver "
        "(nvidia-smi), start its ray with the right --num-gpus, or remove the node."
    )


def _code_complaints(here: Seen, there: Seen) -> Iterator[str]:
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


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
