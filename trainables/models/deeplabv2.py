"""DeepLab-V2: dilated 3x3 convolutions over the last stage, summed (Chen et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn

HEAD_STD = 0.01


class DeepLabV2Head(nn.Module):
    """Logits as the sum of dilated 3x3 convolutions with bias; no norm, activation or dropout.

    Args:
        channels: C of the features.
        num_classes: K.
        rates: Dilation (and padding) of each convolution.
    """

    def __init__(self, channels: int, num_classes: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for convolution in self.convolutions:
            nn.init.normal_(convolution.weight, std=HEAD_STD)
            nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, K, h, w]."""
        logits: Tensor = self.convolutions[0](features)
        for convolution in self.convolutions[1:]:
            logits = logits + convolution(features)
        return logits
