"""Kinds of settings that make what they describe: networks, encoders, heads.

A class of your own derives from one of them, is a frozen dataclass and has a `build` of its own, which imports what it
makes when it is called: settings are planned where nothing else is installed.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Self

from mfm_tune.fields import Makes, Settings
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from torch import nn

    from trainables.models.segmentor import Encoder, Head, Segmentor


class TakesImages(Settings):
    """What networks and encoders have in common: normalised images, and perhaps weights that they start from."""

    __slots__ = ()

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of each channel, RGB, in pixel values: subtracted from images."""
        return IMAGENET_MEAN

    @property
    def std(self) -> tuple[float, float, float]:
        """Of each channel, RGB, in pixel values: what centred images are divided by."""
        return IMAGENET_STD

    @property
    def brings_weights(self) -> bool:
        """Whether `build` starts from published weights by itself."""
        return False

    def check_weights(self) -> None:
        """See that these weights are there, before anything is trained.

        Raises:
            ValueError: They are not.
        """

    def without_weights(self) -> Self:
        """The same at random initial weights: for a model whose own weights are given."""
        return self


class EncoderSettings(TakesImages):
    """Settings of an encoder."""

    __slots__ = ()

    @property
    def label(self) -> str:
        """What the time that it takes depends on most, in a word or two."""
        return type(self).__name__

    @abstractmethod
    def build(self) -> Encoder:
        """An encoder at initial weights drawn from torch's global CPU generator.

        Raises:
            ValueError: Settings that cannot be built, or weights that are not there.
        """


class HeadSettings(Settings):
    """Settings of a head, which can be put on any encoder."""

    __slots__ = ()

    @abstractmethod
    def build(self, channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> Head:
        """A head at initial weights drawn from torch's global CPU generator.

        Args:
            channels, strides: Of the encoder's stages, fine to coarse.
            num_classes: K.

        Raises:
            ValueError: It cannot be put on such an encoder.
        """

    def attention(self, channels: tuple[int, ...], num_classes: int, dim: int) -> nn.Module:
        """The head that weighs HRDA's detail against its context; it reads the same stages.

        Args:
            channels: Of the stages that the head reads, fine to coarse.
            num_classes: K.
            dim: Its width, for heads that have one.
        """
        raise NotImplementedError

    @property
    def gives_attention(self) -> bool:
        """Whether HRDA can be put around it."""
        return type(self).attention is not HeadSettings.attention


class Network(TakesImages):
    """Settings of a segmentation network."""

    __slots__ = ()

    @property
    def label(self) -> str:
        """What the time of a step depends on most, in a word or two."""
        return type(self).__name__

    @abstractmethod
    def build(self, num_classes: int) -> Segmentor:
        """A network at initial weights drawn from torch's global CPU generator: seed it, or fork it, before.

        Args:
            num_classes: K.

        Raises:
            ValueError: Settings that cannot be built, or weights that are not there.
        """

    def attention(self, segmentor: Segmentor, num_classes: int, dim: int) -> nn.Module:
        """The head that weighs HRDA's detail against its context; it reads the same stages.

        Args:
            segmentor: Of these settings.
            num_classes: K.
            dim: Its width, for heads that have one.
        """
        raise NotImplementedError

    @property
    def gives_attention(self) -> bool:
        """Whether HRDA can be put around it."""
        return type(self).attention is not Network.attention


AnyEncoder = Annotated[EncoderSettings, Makes("an encoder", "build", EncoderSettings)]
AnyHead = Annotated[HeadSettings, Makes("a head", "build", HeadSettings)]
AnyNetwork = Annotated[Network, Makes("a network", "build", Network)]
