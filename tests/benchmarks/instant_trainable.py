"""The Ray Tune trainable of `instant_program`; apart from it, because it imports ray."""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks.instant_program import Instant, InstantRunning
from trainables.tune import ProgramTrial


class InstantTrial(ProgramTrial):
    """An instant trial on a worker."""

    def open_running(
        self, config: Instant, *, seed: int, folder: str, shared: str, data: Mapping[str, str]
    ) -> InstantRunning:
        return InstantRunning(config)
