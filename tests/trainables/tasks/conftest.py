"""What DACS alone trains to, once a session."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torch import Tensor

from tests.trainables.tasks.training import smoke, train, with_hrda


@pytest.fixture(scope="session")
def dacs_weights(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, dict[str, Tensor]]:
    """The final student of three steps of DACS at the smoke scale, by whether the network is the tiny HRDA."""
    configs = {False: smoke(), True: with_hrda(smoke())}
    return {hrda: train(config, tmp_path_factory.mktemp("dacs"))[1] for hrda, config in configs.items()}
