"""The teacher labels without dropout of any kind, whatever a network of one's own is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.models.tiny import TINY_DLV2, built
from trainables.adaptation.teacher import MovingAverage, Teacher


class Attention(nn.MultiheadAttention):
    """Attention of tokens to each other."""

    def __init__(self) -> None:
        super().__init__(4, 1, dropout=0.5, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        attended: Tensor = super().forward(tokens, tokens, tokens, need_weights=False)[0]
        return attended


@pytest.mark.parametrize(
    "layer", [nn.Dropout(), nn.Dropout1d(), nn.AlphaDropout(), Attention()], ids=lambda layer: type(layer).__name__
)
def test_a_teacher_drops_nothing(layer: nn.Module) -> None:
    """A student does: the same tokens twice."""
    student = built(TINY_DLV2).train()
    student.decoder.add_module("own", layer)
    teacher = Teacher(student, momentum=0.9)
    teacher.eval()
    teacher.train()  # as after an evaluation; a task's copy of a head likewise, with the module that holds it
    tokens = torch.randn(2, 8, 4)
    torch.manual_seed(0)
    for network, alike in ((student, False), (teacher.network, True)):
        own = network.decoder.get_submodule("own")
        assert torch.equal(own(tokens), own(tokens)) is alike
    assert teacher.network.encoder.training
    held = nn.ModuleList([MovingAverage(nn.Sequential(layer), 0.9)]).train()
    copied = held[0]
    assert torch.equal(copied(tokens), copied(tokens))
