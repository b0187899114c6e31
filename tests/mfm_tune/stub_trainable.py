"""The Ray Tune trainable of the stub program; apart from it, so that declaring a stub study does not import ray."""

from __future__ import annotations

from collections.abc import Mapping

from tests.mfm_tune.stub_program import StubConfig, StubRunning
from trainables.tune import ProgramTrial


class StubTrial(ProgramTrial):
    """A stub trial on a worker."""

    def open_running(
        self, config: StubConfig, *, seed: int, folder: str, shared: str, data: Mapping[str, str]
    ) -> StubRunning:
        return StubRunning(config, seed=seed, folder=folder)
