"""The nodes of a cluster are asked what they see before the first trial starts. Imports ray."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfm_tune.errors import NodeError, StorageError
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.identity import defining_modules
from mfm_tune.program import Program
from mfm_tune.tune.node import MARK, Question, Seen, complaints, gpu_complaint, look

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
    with _question(program, configs, options) as question:
        here = look(question, "here")
        nodes = _alive()
        asked = {name: _ask(name, question) for name in nodes}
        said: list[str] = []
        answers: list[Seen] = []
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
        for name, answer in asked.items():
            seen = _answer(answer, nodes[name])
            if isinstance(seen, str):
                said.extend(() if _dies(name) else [seen])
                continue
            answers.append(seen if seen.storage else replace(seen, storage=_not_shared(question, name)))
        for seen in answers:
            said.extend(complaints(here, seen, question))
        said.extend(_gpu_complaints(answers))
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


def _gpu_complaints(answers: Sequence[Seen]) -> list[str]:
    """Where no node shows a GPU, the cluster is a simulated one, or its GPUs are none that can be counted here."""
    promised = sum(seen.gpus_in_ray for seen in answers)
    if all(seen.gpus == 0 for seen in answers):
        if promised:
            print(f"No node shows a GPU, although Ray counts on {promised:g}: trials may train on CPUs.", flush=True)
        return []
    return [text for text in map(gpu_complaint, answers) if text is not None]


@contextmanager
def _question(program: Program, configs: Sequence[Any], options: EngineOptions) -> Iterator[Question]:
    """A question with its token in the storage, which is removed at the end."""
    folder = options.storage / f".nodes-{secrets.token_hex(4)}"
    token = secrets.token_hex(16)
    try:
        folder.mkdir(parents=True)
        (folder / MARK).write_text(token)
    except OSError as error:
        raise StorageError(
            f"The storage folder {options.storage} cannot be written: {error.strerror}; make it writable, "
            "or give another --storage."
        ) from error
    try:
        yield Question(folder=str(folder), token=token, modules=modules_of(program, configs), data=options.data)
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


def _ask(node: str, question: Question) -> Any:
    remote: Any = ray.remote(look)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(question, node)


def _answer(answer: Any, node: Mapping[str, Any]) -> Seen | str:
    """What a node sees, or a sentence on why it does not say."""
    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, node {node['NodeID'][:8]})"
    try:
        seen: Seen = ray.get(answer, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"Node {name} did not answer within {ANSWER_S:g} s; look at its ray, or remove the node."
    except ray.exceptions.RayError as error:
        why = _last_line(str(error))
        return (
            f"Node {name} cannot run this project's code: {why}; install the same version there, or put it on the "
            "shared disk under the same path."
        )
    return replace(
        seen, node=node["NodeID"], address=node["NodeManagerAddress"], gpus_in_ray=node["Resources"].get("GPU", 0.0)
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it does not say why"


def _not_shared(question: Question, answer: str) -> str:
    """What a node wrote into the storage must be found here; a network disk may take a moment."""
    path, end = Path(question.folder) / answer, time.monotonic() + SETTLE_S
    while True:
        try:
            if path.read_text() == question.token:
                return ""
        except OSError:
            pass
        if time.monotonic() > end:
            return "what the node has written there is not to be seen on this machine"
        time.sleep(0.2)
