"""The head of SegFormer: embeddings of all stages, fused by a 1x1 convolution (Xie et al. 2021)."""

from __future__ import annotations

from trainables.experiment.heads import SegFormerHead as Settings
from trainables.models.daformer import ConvNormReLU, EmbeddingHead


class SegFormerHead(EmbeddingHead):
    """Embeddings of all stages; 3,164,947 parameters over a MiT by default with 19 classes.

    Args:
        config: Width and dropout.
        stages: Channels of the stages that it reads.
        decoded_stages: Their indices in the pyramid.
        num_classes: K.
    """

    def __init__(
        self, config: Settings, stages: tuple[int, ...], decoded_stages: tuple[int, ...], num_classes: int
    ) -> None:
        dim = config.embed_dim
        fusion = ConvNormReLU(len(stages) * dim, dim, 1)
        super().__init__(stages, decoded_stages, dim, fusion, dim, num_classes, config.dropout)
