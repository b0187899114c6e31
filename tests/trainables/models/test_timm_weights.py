"""Weights of timm's encoders: every tensor comes from the file, or the file is refused in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import timm
import torch
from torch import Tensor

from trainables.config import Timm
from trainables.models.pretrained import load_encoder_tensors
from trainables.models.timm_encoder import TimmEncoder

NAMES = {  # a family each, small; the published file's architecture is the encoder's own
    "convolutional": Timm("resnet18"),
    "dilated": Timm("resnet18", output_stride=8),
    "channels last": Timm("convnext_atto"),
    "windows": Timm("swin_tiny_patch4_window7_224"),
    "head of its own": Timm("mobilenetv4_conv_small"),
    "plain ViT": Timm("vit_tiny_patch16_224"),
    "blocks left out": Timm("vit_tiny_patch16_224", blocks=(8,)),
    "norm of its classifier": Timm("eva02_tiny_patch14_224"),
}


def of(name: str, **options: object) -> dict[str, Tensor]:
    """What a published file of an architecture holds, with its classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = timm.create_model(name, pretrained=False, **options)
        state: dict[str, Tensor] = model.state_dict()
        return {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()}


def loaded(settings: Timm, tensors: Mapping[str, Tensor]) -> TimmEncoder:
    """The encoder from these tensors."""
    encoder = settings.build()
    load_encoder_tensors(encoder, tensors, "other.safetensors")
    return encoder


def refusal(settings: Timm, tensors: Mapping[str, Tensor]) -> str:
    """The sentence with which tensors are refused."""
    with pytest.raises(ValueError) as refused:
        loaded(settings, tensors)
    text = str(refused.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("settings", NAMES.values(), ids=NAMES)
def test_every_tensor_of_the_encoder_comes_from_the_file(settings: Timm) -> None:
    """With the published classifier, with another one, and without."""
    tensors = of(settings.name)
    classifier = timm.models.get_pretrained_cfg(settings.name).classifier
    bare = {key: value for key, value in tensors.items() if not key.startswith(f"{classifier}.")}
    for given in (
        (tensors, of(settings.name, num_classes=5), bare) if settings == NAMES["convolutional"] else (tensors, bare)
    ):
        encoder = loaded(settings, given)
        state = encoder.model.state_dict()
        assert state
        assert all(torch.equal(state[key], given[key]) for key in state if "num_batches_tracked" not in key)


def test_a_file_of_another_architecture_is_refused_with_the_first_tensor_that_is_missing() -> None:
    """timm alone would go on with random weights."""
    told = refusal(Timm("resnet18"), of("convnext_atto"))
    assert told.startswith(
        "other.safetensors is of another architecture than resnet18: 100 tensors missing (first: conv1"
    )
    assert told.endswith("give the file that belongs to the encoder, or set the encoder it was made for.")
    one = of("resnet18")
    del one["layer3.1.bn2.bias"]
    assert "1 tensor missing (first: layer3.1.bn2.bias)" in refusal(Timm("resnet18"), one)


def test_a_file_of_a_deeper_or_wider_one_of_the_family_is_refused() -> None:
    """It would load without a word as far as it fits."""
    assert "not of this network (first: layer1.2" in refusal(Timm("resnet18"), of("resnet34"))
    assert "of another shape (first: " in refusal(Timm("convnext_atto"), of("convnext_femto"))
    assert "is of another architecture" in refusal(Timm("vit_tiny_patch16_224"), of("vit_small_patch16_224"))
    assert "is of another architecture" in refusal(Timm("vit_tiny_patch16_224"), of("resnet18"))


def test_a_plain_vit_takes_the_weights_of_another_patch() -> None:
    """Kernels and positions are resampled; the blocks are the file's."""
    given = of("vit_tiny_patch16_224")
    encoder = loaded(Timm("vit_tiny_patch16_224", patch=8), given)
    state = encoder.model.state_dict()
    assert state["patch_embed.proj.weight"].shape[-2:] == (8, 8)
    assert torch.equal(state["blocks.3.attn.qkv.weight"], given["blocks.3.attn.qkv.weight"])


def test_loading_draws_no_number() -> None:
    """Else what is built after it would have other initial weights."""
    encoder = Timm("resnet18").build()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_encoder_tensors(encoder, of("resnet18"))
    assert torch.equal(torch.rand(3), expected)


def test_published_weights_are_those_of_the_tag_with_their_licence() -> None:
    """Without a tag the architecture's default one; what is on no hub is one sentence."""
    assert Timm("resnet18").published().repository == "timm/resnet18.a1_in1k"
    assert Timm("resnet18").weights_name == "resnet18"
    further = Timm("convnextv2_atto.fcmae").published()
    assert (further.repository, further.licence) == ("timm/convnextv2_atto.fcmae", "cc-by-nc-4.0")
    assert further.file == "model.safetensors"
    with pytest.raises(
        ValueError, match=r"timm knows of no weights of 'botnet50ts_256' on a hub; give a file by --data"
    ):
        Timm("botnet50ts_256").published()
