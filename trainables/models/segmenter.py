"""An encoder under a head, each by its own settings."""

from __future__ import annotations

from torch import Tensor

from trainables.geometry import Box, size_of
from trainables.models.segmentor import Encoded, Encoder, Head, Outputs, Segmentor


class EncoderDecoder(Segmentor):
    """The encoder's pyramid, of which the head reads some stages.

    Args:
        encoder, head: Made for each other: the head knows the encoder's channels.
        num_classes: K.
    """

    def __init__(self, encoder: Encoder, head: Head, num_classes: int) -> None:
        super().__init__(num_classes, encoder.channels, encoder.strides, head.decoded_stages)
        self.encoder = encoder
        self.decoder = head

    def encode(self, image: Tensor, box: Box | None = None) -> Encoded:
        return Encoded((self.encoder(image),), size_of(image))

    def decode(self, encoded: Encoded) -> Outputs:
        (pyramid,) = encoded.pyramids
        return Outputs(self.decoder(*(pyramid[stage] for stage in self.decoded_stages)))
