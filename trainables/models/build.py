"""From a network's settings to the network."""

from __future__ import annotations

from trainables.config import (
    HRDA,
    DAFormer,
    DeepLabV2,
    EfficientNetLite,
    Network,
    SegFormer,
    SmallDeepLab,
)
from trainables.models.segmentor import Segmentor


def build_segmentor(network: Network, num_classes: int) -> Segmentor:
    """A network at random initial weights, drawn from torch's global CPU generator: seed it, or fork it, before.

    Only the modules that the network needs are imported.

    Args:
        network: Settings.
        num_classes: K.
    """
    match network:
        case SmallDeepLab():
            from trainables.models.small import SmallDeepLabSegmentor

            return SmallDeepLabSegmentor(network, num_classes)
        case DeepLabV2():
            from trainables.models.deeplabv2 import DeepLabV2Segmentor

            return DeepLabV2Segmentor(network, num_classes)
        case DAFormer():
            from trainables.models.daformer import DAFormerSegmentor

            return DAFormerSegmentor(network, num_classes)
        case SegFormer():
            from trainables.models.segformer import SegFormerSegmentor

            return SegFormerSegmentor(network, num_classes)
        case HRDA():
            from trainables.models.hrda import HRDASegmentor

            return HRDASegmentor(network, num_classes)
        case EfficientNetLite():
            from trainables.models.efficientnet import EfficientNetLiteSegmentor

            return EfficientNetLiteSegmentor(network, num_classes)
