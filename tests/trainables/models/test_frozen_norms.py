"""Frozen BatchNorm: neither its statistics nor its scales and shifts move, in student, teacher and every pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.models.tiny import TINY_DLV2, built
from tests.trainables.trained import finished_trial, tiny
from trainables.adaptation.teacher import Teacher
from trainables.config import (
    HRDA,
    DeepLabV2Head,
    EfficientNetLite0,
    EncoderSettings,
    MaskedConsistency,
    Norm,
    ResNetV1c,
    Segmenter,
    Timm,
)
from trainables.models.frozen_norms import BATCH_NORMS
from trainables.recipes import SMOKE, dacs, mfm
from trainables.running.initial import new_student

RESNET = ResNetV1c(layers=(1, 1, 1, 1), base_width=2, stem_width=4, norm=Norm.FROZEN)


def norms(encoder: nn.Module) -> dict[str, Tensor]:
    """All tensors of its BatchNorm layers, by name."""
    layers = [(name, layer) for name, layer in encoder.named_modules() if isinstance(layer, BATCH_NORMS)]
    return {f"{name}.{key}": tensor.clone() for name, layer in layers for key, tensor in layer.state_dict().items()}


@pytest.mark.parametrize("norm", [Norm.FROZEN, Norm.BATCH])
@pytest.mark.parametrize("around", ["plain", "hrda"])
def test_frozen_norms_stay_as_they_began_in_student_and_teacher(norm: Norm, around: str, tmp_path: Path) -> None:
    """Over steps with source, mixed, MFM and masked passes, evaluations between them; trained norms all move."""
    base = Segmenter(encoder=replace(RESNET, norm=norm), head=DeepLabV2Head(rates=(1, 2)))
    network = base if around == "plain" else HRDA(base=base, detail_crop=(16, 32))
    rebuilder = replace(mfm(SMOKE), start_step=0)
    config = tiny(replace(dacs(SMOKE, rebuilder, MaskedConsistency(block=4)), network=network), steps=3)
    trial = finished_trial(tmp_path / "trial", config)
    state = trial._state
    assert state is not None
    assert state.teacher is not None
    before = new_student(config, state.streams, 12, torch.device("cpu"))
    for encoder in (state.student.encoder, state.teacher.network.encoder):
        moved = {
            name for name, tensor in norms(encoder).items() if not torch.equal(tensor, norms(before.encoder)[name])
        }
        assert moved == (set() if norm is Norm.FROZEN else set(norms(before.encoder)))
        convolution = encoder.get_submodule("layer4.0.conv1").weight
        assert not torch.equal(convolution, before.encoder.get_submodule("layer4.0.conv1").weight)


@pytest.mark.parametrize(
    "encoder",
    [RESNET, EfficientNetLite0(pretrained=False, norm=Norm.FROZEN), Timm("resnet18", norm=Norm.FROZEN)],
    ids=lambda encoder: type(encoder).__name__,
)
def test_no_mode_wakes_a_frozen_norm(encoder: EncoderSettings) -> None:
    """Train mode of the network and of the teacher, which is a copy; affine parameters do not learn."""
    network = built(Segmenter(encoder=encoder, head=DeepLabV2Head(rates=(1,))))
    teacher = Teacher(network, 0.9).network
    for each in (network.train(), teacher.train()):
        layers = [layer for layer in each.encoder.modules() if isinstance(layer, BATCH_NORMS)]
        assert layers
        assert not any(layer.training for layer in layers)
        assert not any(parameter.requires_grad for layer in layers for parameter in layer.parameters())
        before = norms(each.encoder)
        each(torch.randn(2, 3, 32, 32))
        assert all(torch.equal(tensor, before[name]) for name, tensor in norms(each.encoder).items())


def test_other_norms_are_refused_in_a_sentence() -> None:
    """An architecture that was published with BatchNorm has no other."""
    for make in (lambda: replace(RESNET, norm=Norm.GROUP), lambda: EfficientNetLite0(norm=Norm.GROUP)):
        with pytest.raises(ValueError, match=r"\.norm must be Norm\.BATCH or Norm\.FROZEN, got Norm\.GROUP; the arch"):
            make()


def test_the_network_of_the_name_is_not_frozen() -> None:
    """DeepLab-V2 trains its norms, as published in this family."""
    assert TINY_DLV2.parts.encoder.norm is Norm.BATCH  # type: ignore[attr-defined]
