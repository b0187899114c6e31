"""The Ray Tune trainable of `placed_program`; apart from it, because it imports ray."""

from __future__ import annotations

from collections.abc import Mapping

import ray

from tests.benchmarks.placed_program import PlacedRunning
from tests.mfm_tune.stub_program import StubConfig
from trainables.tune import ProgramTrial


class PlacedTrial(ProgramTrial):
    """A placed trial on a worker."""

    def open_running(
        self, config: StubConfig, *, seed: int, folder: str, shared: str, data: Mapping[str, str]
    ) -> PlacedRunning:
        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids().get("GPU", [])
        return PlacedRunning(config, seed=seed, folder=folder, node=context.get_node_id(), gpu=",".join(gpus))
