"""The head of DeepLab-V2: dilated 3x3 convolutions over one stage, summed (Chen et al. 2017).

The rates are (6, 12) in the DAFormer family: the first published code returns before it adds the other two.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainables.models.segmentor import Head

HEAD_STD = 0.01


class DeepLabV2Head(Head):
    """Logits as the sum of dilated 3x3 convolutions with bias; no norm, activation or dropout.

    Args:
        channels: C of the features.
        num_classes: K.
        rates: Dilation (and padding) of each convolution.
        stage: Index of the features in the pyramid.
    """

    def __init__(self, channels: int, num_classes: int, rates: tuple[int, ...], stage: int = 0) -> None:
        super().__init__()
        self.decoded_stages = (stage,)
        convolutions = [nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates]
        for convolution in convolutions:
            nn.init.normal_(convolution.weight, std=HEAD_STD)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        self.convolutions = nn.ModuleList(convolutions)
        self.fused_channels = channels

    def forward(self, *stages: Tensor) -> Tensor:
        """[B, C, h, w] of the one stage -> [B, K, h, w]."""
        return self.classify(self.fuse(*stages))

    def fuse(self, *stages: Tensor) -> Tensor:
        """The stage itself."""
        (features,) = stages
        return features

    def classify(self, fused: Tensor) -> Tensor:
        logits: Tensor = self.convolutions[0](fused)
        for convolution in self.convolutions[1:]:
            logits = logits + convolution(fused)
        return logits
