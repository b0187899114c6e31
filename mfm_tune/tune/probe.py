"""Measuring a step on a cluster: on a node that has what a trial takes. Imports ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from mfm_tune.errors import UserError
from mfm_tune.execution.probe import Measure, probe_here
from mfm_tune.execution.settings import EngineOptions
from mfm_tune.ledger.records import Trial
from mfm_tune.program import Probe, Program
from mfm_tune.tune.cluster import check_resources, joined
from mfm_tune.tune.nodes import check_nodes


@contextmanager
def on_cluster(program: Program, options: EngineOptions) -> Iterator[Measure]:
    """Joins the cluster; within, measures a trial's config in a worker that has a trial's CPUs and GPUs.

    Args:
        options: `representative_configs` are the configs that are measured.

    Raises:
        UserError: The cluster cannot be joined, has no such node, one of its nodes lacks what trials need, or the
            program refused what it was given.
    """
    with joined(options):
        check_resources(options)
        check_nodes(program, options.representative_configs, options)
        remote: Any = ray.remote(num_cpus=options.cpus_per_trial, num_gpus=options.gpus_per_trial, max_calls=1)(
            _on_node
        )

        def measure(trial: Trial, folder: Path) -> Probe:
            try:
                measured: Probe = ray.get(
                    remote.remote(program, trial.config, folder, dict(options.data), options.cpus_per_trial)
                )
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            return measured

        yield measure


def _on_node(program: Program, config: Any, folder: Path, data: Mapping[str, str], cpus: int) -> Probe:
    os.environ["OMP_NUM_THREADS"] = str(cpus)
    folder.mkdir(parents=True, exist_ok=True)
    return probe_here(program, config, folder, data)
