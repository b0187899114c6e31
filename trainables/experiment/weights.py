"""Published weights that an encoder starts from, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mfm_tune.fields import Settings


@dataclass(frozen=True, kw_only=True)
class Published:
    """One file of weights on a hub that speaks Hugging Face's protocol.

    Args:
        repository: `owner/name`.
        file: In the repository; .safetensors, since nothing else is read without running what it holds.
        licence: Of the weights, as their publisher names it; None where unknown.
    """

    repository: str
    file: str = "model.safetensors"
    licence: str | None = None


@runtime_checkable
class PublishedEncoder(Protocol):
    """Settings of an encoder (or of a whole network) whose weights are published by name."""

    @property
    def weights_name(self) -> str:
        """What `--data` calls the file, known without any library: `resnet18`, `resnet18.a1_in1k`."""

    def published(self) -> Published:
        """Where the file is published.

        Raises:
            ValueError: Nothing is published under this name.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained(Settings):
    """The encoder starts from its published weights: given by `--data NAME=PATH`, lying in the hub's cache, or, where
    `--download` asks for it, fetched from the hub.

    Which weights is part of the encoder's settings (`Timm("resnet18.a1_in1k")`), as they decide more: the mean and
    the deviation that images are normalised by.
    """


def published_encoder(network: Any) -> PublishedEncoder | None:
    """The part of a network's settings that has published weights: the encoder, that of HRDA's base network, or the
    network itself; None where none has."""
    while not hasattr(network, "encoder") and hasattr(network, "base"):
        network = network.base
    part = getattr(network, "encoder", network)
    return part if isinstance(part, PublishedEncoder) else None
