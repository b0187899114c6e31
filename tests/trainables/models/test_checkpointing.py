"""Activation checkpointing changes memory and time, and no number."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mfm_tune.identity import config_id
from tests.trainables.tasks.training import smoke, train
from trainables.config import HRDA, DAFormer, Execution, Experiment, MiT, Network, SmallDeepLab, Timm
from trainables.models.checkpointing import blocks_of, checkpoint_blocks
from trainables.models.encoders import MiTEncoder
from trainables.recipes import SMOKE, mfm

WIDE = MiT(dims=(8, 8, 16, 16), depths=(2, 1, 2, 1), heads=(1, 1, 2, 2), drop_path=0.5)
DAFORMER = DAFormer(encoder=WIDE, embed_dim=8, channels=8, dropout=0.3)


def with_network(network: Network, *, checkpointing: bool) -> Experiment:
    """DACS + MFM for three steps of a network, which has dropout and drop path."""
    config = smoke(mfm(SMOKE))
    data = replace(config.data, image_size=(64, 64))
    return replace(config, network=network, data=data, execution=Execution(checkpointing=checkpointing))


def passed(encoder: nn.Module, image: Tensor) -> tuple[list[Tensor], int]:
    """Gradients of all parameters after one pass from a fixed seed, and how many bytes were kept for the backward."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(3)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        total = sum((stage * stage).mean() for stage in encoder(image))
    total.backward()
    return [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None], sum(kept.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [DAFORMER, HRDA(base=DAFORMER, detail_crop=(32, 32), attention_dim=8)], ids=["DAFormer", "HRDA"]
)
def test_training_ends_at_the_same_weights_bit_for_bit(network: Network, tmp_path: Path) -> None:
    """Three steps of DACS + MFM with dropout and drop path: losses, student, teacher's labels, all of it."""
    ends = {}
    for checkpointing in (False, True):
        folder = tmp_path / str(checkpointing)
        ends[checkpointing] = train(with_network(network, checkpointing=checkpointing), folder)
    (plain, student), (saving, same) = ends[False], ends[True]
    assert plain["outcome"] == saving["outcome"] == "finished"
    losses = [name for name in plain["metrics"] if name.startswith("loss/")]
    assert "loss/mfm" in losses
    assert all(plain["metrics"][name] == saving["metrics"][name] for name in losses)
    assert student.keys() == same.keys()
    assert all(torch.equal(student[name], same[name]) for name in student)


@pytest.mark.parametrize("make", [lambda: MiTEncoder(WIDE), Timm("resnet18").build], ids=["MiT", "resnet18"])
def test_a_block_is_taken_again_with_the_same_gradients_and_statistics(make: object) -> None:
    """Running statistics and their counters move once a pass, and the counters are there afterwards."""
    torch.manual_seed(0)
    plain: nn.Module = make().train()  # type: ignore[operator]
    saving = copy.deepcopy(plain)
    checkpoint_blocks(saving)
    image = torch.randn(2, 3, 64, 64)
    (wanted, whole), (found, less) = passed(plain, image), passed(saving, image)
    assert len(wanted) == len(found) > 0
    assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))
    state = saving.state_dict()
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    assert less < 0.75 * whole


def test_a_copy_of_a_student_has_plain_passes_of_its_own_weights() -> None:
    """A teacher, or a copy with the target's statistics, must not run the student's blocks."""
    student = MiTEncoder(WIDE)
    checkpoint_blocks(student)
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
        assert teacher.eval()(torch.randn(1, 3, 64, 64))[-1].abs().max() > 0


def test_blocks_are_the_innermost_ones_of_a_network() -> None:
    """A stage that holds blocks is none, nor are the two layers of a shortcut."""
    assert len(blocks_of(MiTEncoder(WIDE))) == sum(WIDE.depths)
    with torch.device("meta"):
        kinds = {type(block).__name__ for block in blocks_of(Timm("resnet18").build())}
        deeper = {type(block).__name__ for block in blocks_of(Timm("convnext_atto").build())}
    assert (kinds, deeper) == ({"BasicBlock"}, {"ConvNeXtBlock"})


def test_checkpointing_is_no_part_of_the_identity_and_goes_with_no_recording() -> None:
    """A trial may be finished with it that was begun without."""
    ids = {config_id(with_network(SmallDeepLab(), checkpointing=checkpointing)) for checkpointing in (False, True)}
    assert len(ids) == 1
    for other in ("compile", "cuda_graphs"):
        with pytest.raises(ValueError, match=rf"^Execution.checkpointing .* {other} records once; set one of the two"):
            Execution(checkpointing=True, **{other: True})  # type: ignore[arg-type]
