"""Published weights that an encoder starts from, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from mfm_tune.fields import FileName, Rule, Settings


class HubName(Rule):
    """A repository of a hub."""

    wanted = "be the OWNER/NAME of a repository"
    _pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")

    def fits(self, value: object) -> bool:
        """Whether the value can be such a name."""
        return isinstance(value, str) and self._pattern.fullmatch(value) is not None


class SafeFile(Rule):
    """A file that is read without running what it holds."""

    wanted = "be a .safetensors file of the repository, since reading any other would run what it holds"
    _pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}\.safetensors")

    def fits(self, value: object) -> bool:
        """Whether the value is the name of such a file."""
        return isinstance(value, str) and self._pattern.fullmatch(value) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Published(Settings):
    """One file of weights on a hub that speaks Hugging Face's protocol.

    Args:
        repository: `owner/name`.
        file: In the repository.
        licence: Of the weights, as their publisher abbreviates it (`apache-2.0`); None where unknown.
    """

    repository: Annotated[str, HubName()]
    file: Annotated[str, SafeFile()] = "model.safetensors"
    licence: Annotated[str, FileName()] | None = None


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


def published_encoder(network: Any) -> PublishedEncoder:
    """The part of a network's settings that has published weights: the encoder, or that of HRDA's base network.

    Raises:
        ValueError: There is none.
    """
    base = getattr(network, "base", network)
    encoder = getattr(base, "encoder", base)
    if isinstance(encoder, PublishedEncoder):
        return encoder
    raise ValueError(
        f"Experiment.initial Pretrained() takes an encoder whose weights are published by name, such as Timm, got "
        f"{type(encoder).__name__}; give its weights by file (ImageNetWeights), or choose another encoder."
    )
