"""What a recording that fails leaves behind; CUDA itself is made up here, and real in `running/test_gpu.py`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from trainables import cuda_graphs
from trainables.cuda_graphs import WARM_UP, GraphedModule


class Noisy(nn.Module):
    """BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.dropout(self.norm(image)),)


def too_large(forward: Any, inputs: Any, *_: object) -> None:
    """Warm up as a recording does, and find no memory for the graph."""
    for _ in range(WARM_UP):
        forward(*inputs)
    raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB.")


def test_a_recording_that_fails_leaves_statistics_and_random_numbers_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The passes that go on eagerly are those of a module that was never to be recorded."""
    monkeypatch.setattr(cuda_graphs, "Recording", too_large)
    for name, stub in (
        ("get_rng_state", torch.get_rng_state),
        ("set_rng_state", torch.set_rng_state),
        ("current_stream", lambda: None),
        ("stream", lambda _: nullcontext()),
        ("empty_cache", lambda: None),
    ):
        monkeypatch.setattr(torch.cuda, name, stub)
    eager, fallen_back = Noisy(), Noisy()
    graphed = GraphedModule(fallen_back)
    image, outputs = torch.randn(2, 3, 8, 8) + 5, []
    for module in (eager, fallen_back):
        torch.manual_seed(1)
        outputs += module(image)
    assert graphed.eager is not None
    assert torch.equal(*outputs)
    for name, value in eager.state_dict().items():
        assert torch.equal(fallen_back.state_dict()[name], value), name
