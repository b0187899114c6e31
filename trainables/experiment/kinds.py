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
    from trainables.models.segmentor import Segmentor


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


class Network(TakesImages):
    """Settings of a segmentation network."""

    __slots__ = ()

    @abstractmethod
    def build(self, num_classes: int) -> Segmentor:
        """A network at initial weights drawn from torch's global CPU generator: seed it, or fork it, before.

        Args:
            num_classes: K.

        Raises:
            ValueError: Settings that cannot be built, or weights that are not there.
        """


AnyNetwork = Annotated[Network, Makes("a network", "build", Network)]
