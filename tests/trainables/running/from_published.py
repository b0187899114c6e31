"""Configs that start from published weights: of the small encoder, as if it were published, and of timm's ResNet-18."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainables.config import DeepLabV2Head, Pretrained, Published, Segmenter, SmallResNet, Timm
from trainables.recipes import SMOKE, dacs

if TYPE_CHECKING:
    from trainables.models.segmentor import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Small(SmallResNet):
    """The encoder."""

    @property
    def weights_name(self) -> str:
        return "small"

    def published(self) -> Published:
        return Published(repository="owner/small", licence="mit")

    def build(self) -> Encoder:
        from trainables.models.small import SmallEncoder

        return SmallEncoder(self)


SHORT = replace(SMOKE, schedule=replace(SMOKE.schedule, steps=2, warmup_steps=1))
HEAD = DeepLabV2Head(rates=(2, 4))
FROM_PUBLISHED = replace(dacs(SHORT), network=Segmenter(encoder=Small(), head=HEAD), initial=Pretrained())
RESNET18 = replace(FROM_PUBLISHED, network=Segmenter(encoder=Timm("resnet18"), head=HEAD))
