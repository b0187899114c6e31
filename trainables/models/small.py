"""The encoder of the embedded benchmark's network (52,104 parameters with its head): small and residual."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import Norm, SmallResNet
from trainables.models.segmentor import Encoder, Pyramid

CHANNELS_PER_GROUP = 8


def _norm(kind: Norm, channels: int) -> nn.Module:
    match kind:
        case Norm.GROUP:
            return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
        case _:
            return nn.BatchNorm2d(channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norms, and a 1x1 shortcut where the shape changes.

    The shortcut's stride is a pooling of 1x1 before it: oneDNN 3.12's weight gradient of a strided 1x1 convolution
    overruns its buffers where the input has fewer than 16 channels and the CPU has AVX-512.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.norm1 = _norm(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.norm2 = _norm(norm, outputs)
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(self._strided(x)), inplace=True)

    def _strided(self, x: Tensor) -> Tensor:
        return x if self.stride == 1 else F.avg_pool2d(x, 1, self.stride)


class SmallEncoder(Encoder):
    """[B, 3, H, W] -> [B, w0, H/2, W/2], [B, w1, H/4, W/4], [B, w2, H/4, W/4].

    Args:
        config: Widths, norm and dilations.
    """

    def __init__(self, config: SmallResNet) -> None:
        super().__init__()
        first, second, third = self.channels = config.widths
        self.strides = (2, 4, 4)
        self.stem = nn.Conv2d(3, first, 3, 2, 1, bias=False)
        self.stem_norm = _norm(config.norm, first)
        self.stage2 = ResidualBlock(first, second, config.norm, stride=2)
        inputs = (second, *[third] * (len(config.dilations) - 1))
        self.stage3 = nn.Sequential(
            *[
                ResidualBlock(channels, third, config.norm, dilation=dilation)
                for channels, dilation in zip(inputs, config.dilations, strict=True)
            ]
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Pyramid:
        f1 = F.relu(self.stem_norm(self.stem(image)), inplace=True)
        f2 = self.stage2(f1)
        return f1, f2, self.stage3(f2)
