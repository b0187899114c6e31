"""An encoder under a head, each by its own settings."""

from __future__ import annotations

from torch import Tensor

from trainables.geometry import Box, size_of
from trainables.models.segmentor import Encoded, Encoder, Head, Outputs, Segmentor


def checked_encoder(encoder: object, settings: str) -> Encoder:
    """What settings of an encoder have built.

    Raises:
        ValueError: It is none, or lacks the channels or strides of its stages.
    """
    channels, strides = (getattr(encoder, name, None) for name in ("channels", "strides"))
    if not isinstance(encoder, Encoder):
        raise ValueError(
            f"{settings}.build must return an Encoder, got {type(encoder).__name__}; "
            "derive it from trainables.models.segmentor.Encoder."
        )
    if not (isinstance(channels, tuple) and isinstance(strides, tuple) and len(channels) == len(strides) > 0):
        raise ValueError(
            f"{type(encoder).__name__} must have tuples channels and strides, a number for each stage of its pyramid, "
            f"got {channels!r} and {strides!r}; set them when it is made."
        )
    return encoder


def checked_head(head: object, settings: str, stages: int) -> Head:
    """What settings of a head have built for an encoder of so many stages.

    Raises:
        ValueError: It is none, or does not name stages of the encoder that it reads.
    """
    if not isinstance(head, Head):
        raise ValueError(
            f"{settings}.build must return a Head, got {type(head).__name__}; "
            "derive it from trainables.models.segmentor.Head."
        )
    read = getattr(head, "decoded_stages", None)
    if not (isinstance(read, tuple) and read and all(stage in range(stages) for stage in read)):
        raise ValueError(
            f"{type(head).__name__}.decoded_stages must be a tuple of the stages that it reads, of 0 to {stages - 1}, "
            f"got {read!r}; set it when the head is made."
        )
    return head


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
