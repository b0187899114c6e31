"""DeepLab-V2: dilated 3x3 convolutions over the last stage, summed (Chen et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.config import DeepLabV2
from trainables.geometry import Box, size_of
from trainables.models.encoders import RESNET_STRIDES, ResNetEncoder
from trainables.models.segmentor import Encoded, Outputs, Segmentor

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
        convolutions = [nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates]
        for convolution in convolutions:
            nn.init.normal_(convolution.weight, std=HEAD_STD)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, K, h, w]."""
        logits: Tensor = self.convolutions[0](features)
        for convolution in self.convolutions[1:]:
            logits = logits + convolution(features)
        return logits


class DeepLabV2Segmentor(Segmentor):
    """ResNet-v1c at output stride 8 under the DeepLab-V2 head, which reads the last stage only.

    The rates are (6, 12) in the DAFormer family: the first published code returns before it adds the other two.

    Args:
        config: Layers, widths and rates; 43,219,846 parameters by default with 19 classes.
        num_classes: K.
    """

    def __init__(self, config: DeepLabV2, num_classes: int) -> None:
        channels = tuple(4 * config.base_width * factor for factor in (1, 2, 4, 8))
        super().__init__(num_classes, channels, RESNET_STRIDES, decoded_stages=(3,))
        self.encoder = ResNetEncoder(config)
        self.decoder = DeepLabV2Head(channels[-1], num_classes, config.rates)

    def encode(self, image: Tensor, box: Box | None = None) -> Encoded:
        return Encoded((self.encoder(image),), size_of(image))

    def decode(self, encoded: Encoded) -> Outputs:
        return Outputs(self.decoder(encoded.pyramids[0][-1]))
