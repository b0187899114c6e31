"""Encoders, from timm's parts: ResNet-v1c at output stride 8 and the Mix Transformer. Both return all four stages.

The Mix Transformer is PVT-v2 with an MLP ratio of 4 (same tensors, same outputs), so timm's implementation serves; its
attention is PyTorch's scaled dot-product attention. Submodules keep timm's names; `trainables.models.pretrained` maps
published ones.
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul

from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from trainables.config import MiT, Norm, ResNetV1c
from trainables.models.segmentor import Encoder, Pyramid

RESNET_STRIDES = (4, 8, 8, 8)


class ResNetEncoder(Encoder, ResNet):
    """ResNet-v1c (deep stem) at output stride 8: dilations 1, 1, 2, 4, the first block of a stage with the one before.

    Args:
        config: Layers and widths; 42,519,392 parameters by default (ResNet-101).
    """

    def __init__(self, config: ResNetV1c) -> None:
        super().__init__(
            Bottleneck,  # type: ignore[arg-type]  # timm means the class and writes the instance
            config.layers,
            channels=tuple(config.base_width * factor for factor in (1, 2, 4, 8)),
            stem_width=config.stem_width // 2,
            stem_type="deep",
            output_stride=RESNET_STRIDES[-1],
            num_classes=0,
        )
        self.channels = tuple(4 * config.base_width * factor for factor in (1, 2, 4, 8))
        self.strides = RESNET_STRIDES
        if config.norm is Norm.FROZEN:
            self.freeze()

    def forward(self, image: Tensor) -> Pyramid:  # type: ignore[override]  # timm's gives logits
        """[B, 3, H, W] -> [B, 4b, H/4, W/4], then [B, 8b], [B, 16b], [B, 32b] at H/8 x W/8, b the base width."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(image))))
        stages = []
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
            stages.append(x)
        return tuple(stages)


def mit_strides(config: MiT) -> tuple[int, ...]:
    """Stride of each stage relative to the image."""
    return tuple(accumulate(config.strides, mul))


class MiTEncoder(Encoder, PyramidVisionTransformerV2):
    """Mix Transformer; MiT-B5 by default (81,443,008 parameters). Odd sizes are allowed: a stage rounds up.

    Args:
        config: Dims, depths, heads, reductions, strides and drop path.
    """

    def __init__(self, config: MiT) -> None:
        super().__init__(
            num_classes=0,
            depths=config.depths,
            embed_dims=config.dims,
            num_heads=config.heads,
            sr_ratios=config.reductions,
            mlp_ratios=(4, 4, 4, 4),
            qkv_bias=True,
            drop_path_rate=config.drop_path,
        )
        convolutions = ("patch_embed.proj", *(f"stages.{stage}.downsample.proj" for stage in (1, 2, 3)))
        for name, stride in zip(convolutions, config.strides, strict=True):
            convolution = self.get_submodule(name)
            assert isinstance(convolution, nn.Conv2d)
            convolution.stride = (stride, stride)  # timm knows the published ones only
        self.channels = config.dims
        self.strides = mit_strides(config)

    def forward(self, image: Tensor) -> Pyramid:
        """[B, 3, H, W] -> [B, dims[i], H / s, W / s] i = 0 ... 3, s of `mit_strides` (4, 8, 16, 32 by default)."""
        x = self.patch_embed(image)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        return tuple(stages)
