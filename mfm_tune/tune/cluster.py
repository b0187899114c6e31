"""Starting Ray on this machine or joining a cluster, and leaving it again. Imports ray."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import ray

from mfm_tune.errors import OptionError, UserError
from mfm_tune.execution.resources import fitting
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.execution.signals import EngineLost
from mfm_tune.tune.folder import private_folder
from mfm_tune.tune.reach import Part, check_address, check_loopback

NOBODY = "http://127.0.0.1:9"  # the port of the discard service, on which nothing listens
PROXY_VARIABLES = ("http_proxy", "no_proxy", "NO_PROXY")
OWN_S = 3.0  # how long a process on this machine may be silent before it counts as lost
JOINED_S = 45.0  # and the head of a cluster, which may be started again by its owner
OBJECT_STORE_BYTES = 128 * 2**20  # configs and reports are all that goes through it


@contextmanager
def joined(options: EngineOptions) -> Iterator[None]:
    """A connection to Ray, left again at the end, also where joining fails half-way.

    Args:
        options: `address` None starts a Ray of our own, which ends with the context. (Ray, told nothing, would join any
            cluster that happens to run on this machine.)

    Raises:
        OptionError: The address does not answer, or is none that a driver can join.
        UserError: Ray does not start on this machine.
    """
    with ExitStack() as opened:
        if options.address is None:
            check_loopback()
            folder = opened.enter_context(private_folder())
            opened.push(_shut_down)
            _start(folder, options)
        else:
            check_address(options.address)
            opened.push(_shut_down)
            _join(options.address, options)
        yield


def _join(address: str, options: EngineOptions) -> None:
    try:
        _init(options, address=address)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise OptionError(
            f"--address {address} cannot be joined: {_first_line(error)}; start the cluster, give HOST:PORT of its "
            "head, or leave --address out (and RAY_ADDRESS unset) to use this machine."
        ) from error


def _start(folder: Path, options: EngineOptions) -> None:
    """Start a Ray of our own. A busy machine may need longer than Ray waits, so a second try is made.

    Raises:
        UserError: It does not start.
    """
    local = {
        "address": "local",
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": str(folder),
    }
    for last_try in (False, True):
        try:
            with _no_questions_to_the_network():
                _init(options, **local)
            return
        except Exception as error:  # Ray has no class of its own for what prevents a start
            ray.shutdown()
            slow = "timed out" in str(error).lower()
            if slow and not last_try:
                continue
            raise UserError(
                "Ray did not start on this machine within its time, in two tries; give the same command again "
                "when the machine is less busy, or give --inline."
                if slow
                else f"Ray cannot be started on this machine: {_first_line(error)}; -v says more, "
                "and --inline does without Ray."
            ) from error


def _init(options: EngineOptions, **arguments: Any) -> None:
    ray.init(
        runtime_env=_runtime_environment(options),
        log_to_driver=options.verbose,
        logging_level=logging.INFO if options.verbose else logging.CRITICAL,
        configure_logging=True,
        **arguments,
    )


def parts(options: EngineOptions) -> tuple[Part, ...]:
    """The processes without which no trial can run: the cluster's head, and what runs workers on this machine."""
    here = ray.get_runtime_context()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    node = next(node for node in nodes if node["NodeID"] == here.get_node_id())
    return (
        Part("GCS", here.gcs_address, OWN_S if options.address is None else JOINED_S),
        Part("raylet", f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", OWN_S),
    )


def check_resources(options: EngineOptions) -> None:
    """Raise `OptionError` unless some node can hold one trial: Tune would wait for ever."""
    nodes = _resources_of_nodes()
    wanted = {"CPU": float(options.cpus_per_trial), "GPU": float(options.gpus_per_trial)}
    for name, option in (("CPU", "--cpus-per-trial"), ("GPU", "--gpus-per-trial")):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if wanted[name] > most:
            raise OptionError(
                f"{option} must be at most {most:g}, what the largest machine has, got {wanted[name]:g}; "
                "ask for less, or join a cluster with --address."
            )
    if not any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        raise OptionError(
            f"No machine has both {wanted['CPU']:g} CPUs (--cpus-per-trial) and {wanted['GPU']:g} GPUs "
            "(--gpus-per-trial); ask for less of one."
        )


def _shut_down(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
    """Leave Ray; not where a part of it is lost, which it would ask, and wait for its answer. The rest ends with us."""
    if kind is not None and issubclass(kind, EngineLost):
        atexit.register(_end_at_once)
    else:
        ray.shutdown()


def _end_at_once() -> None:
    """End this process before Ray's own exit, which asks what is lost and waits a minute for its answer."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)


def _first_line(error: Exception) -> str:
    """What Ray says, in short."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def _no_questions_to_the_network() -> Iterator[None]:
    """Within, processes that start ask an address of this machine where they would ask the network over HTTP.

    Ray's API server, told not to report usage, still looks up `metadata.google.internal` and asks 169.254.169.254 which
    cloud this is, and no option of Ray's prevents it. A proxy that is not there ends both at once. Workers get the
    user's own settings back (`_runtime_environment`).
    """
    before = {name: os.environ.pop(name, None) for name in PROXY_VARIABLES}
    os.environ["http_proxy"] = NOBODY
    try:
        yield
    finally:
        os.environ.pop("http_proxy")
        os.environ.update({name: value for name, value in before.items() if value is not None})


def places(options: EngineOptions) -> int:
    """How many trials run at once on the machines that are there now."""
    cpus, gpus = options.cpus_per_trial, options.gpus_per_trial
    return sum(
        fitting(node.get("CPU", 0.0), node.get("GPU", 0.0), cpus_per_trial=cpus, gpus_per_trial=gpus)
        for node in _resources_of_nodes()
    )


def _resources_of_nodes() -> list[dict[str, float]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def _runtime_environment(options: EngineOptions) -> dict[str, Any]:
    """What workers need in their environment, on this machine or another."""
    variables = {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial that was given no GPU sees none
    }
    if options.address is None:  # what `_no_questions_to_the_network` hid
        variables |= {name: os.environ.get(name, "") for name in PROXY_VARIABLES}
    if options.import_paths:  # the search space's own classes come from where this process has them
        known = os.environ.get("PYTHONPATH", "")
        variables["PYTHONPATH"] = os.pathsep.join([*options.import_paths, *([known] if known else [])])
    return {"env_vars": variables}
