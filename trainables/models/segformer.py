"""SegFormer: embeddings of all stages of a Mix Transformer, fused by a 1x1 convolution (Xie et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from trainables.config import SegFormer
from trainables.geometry import Box, size_of
from trainables.models.daformer import ConvNormReLU, EmbeddingHead
from trainables.models.encoders import MiTEncoder, mit_strides
from trainables.models.segmentor import Encoded, Outputs, Segmentor


def segformer_head(config: SegFormer, num_classes: int) -> EmbeddingHead:
    """The SegFormer head, 3,164,947 parameters by default with 19 classes."""
    dims, dim = config.encoder.dims, config.embed_dim
    return EmbeddingHead(dims, dim, ConvNormReLU(len(dims) * dim, dim, 1), dim, num_classes, config.dropout)


class SegFormerSegmentor(Segmentor):
    """Mix Transformer under the SegFormer head, which reads all stages.

    Args:
        config: Encoder and head.
        num_classes: K.
    """

    def __init__(self, config: SegFormer, num_classes: int) -> None:
        super().__init__(num_classes, config.encoder.dims, mit_strides(config.encoder), decoded_stages=(0, 1, 2, 3))
        self.encoder = MiTEncoder(config.encoder)
        self.decoder = segformer_head(config, num_classes)

    def encode(self, image: Tensor, box: Box | None = None) -> Encoded:
        return Encoded((self.encoder(image),), size_of(image))

    def decode(self, encoded: Encoded) -> Outputs:
        return Outputs(self.decoder(*encoded.pyramids[0]))
