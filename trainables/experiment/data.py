"""Which images a model is trained and scored on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    NotNegative,
    Number,
    Positive,
    Settings,
    Size,
    UnitInterval,
)


class SourceStyle(Enum):
    """Which procedural source of ToyCity: one plays GTA's part, one SYNTHIA's (other style, some classes missing)."""

    ARCADE = "arcade"
    DIORAMA = "diorama"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyCity(Settings):
    """The embedded benchmark: two procedural domains, drawn from a seed, nothing to download.

    Args:
        image_size: (rows, columns) of every image.
        shift: Distance of the target's style from the source's: 0 is none, 1 is very hard.
        source: Which source domain.
        source_images, target_images, validation_images: Sizes of the pools.
        scene_seed: Seed of the scenes; the same for all trials, so that seeds vary initial weights and order only.
    """

    image_size: Annotated[tuple[int, int], Size(16)] = (64, 128)
    shift: UnitInterval = 0.7
    source: SourceStyle = SourceStyle.ARCADE
    source_images: AtLeast1 = 400
    target_images: AtLeast1 = 400
    validation_images: AtLeast1 = 150
    scene_seed: AtLeast0 = 0

    @property
    def training_size(self) -> tuple[int, int]:
        """(rows, columns) of a training image."""
        return self.image_size

    @property
    def evaluation_size(self) -> tuple[int, int]:
        """(rows, columns) of an evaluation image."""
        return self.image_size


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceHoldout(Settings):
    """Source images that training never draws, the same ones for every seed: they score a model without target labels.

    Args:
        share: Of the source's images; at least one image is held out.
    """

    share: Annotated[float, Number(0, 0.5, open_low=True)] = 0.05


class SourceDataset(Enum):
    """Labelled synthetic data sets."""

    GTA = "gta"
    SYNTHIA = "synthia"


class TargetDataset(Enum):
    """Unlabelled real data sets; labels of the validation split score the model."""

    CITYSCAPES = "cityscapes"
    ACDC = "acdc"
    DARK_ZURICH = "dark-zurich"
    CAMVID = "camvid"


@dataclass(frozen=True, kw_only=True, slots=True)
class RareClassSampling(Settings):
    """Source images drawn by class (DAFormer): P(c) = softmax((1 - f_c) / T) over the classes present."""

    temperature: Positive = 0.01
    min_pixels: AtLeast0 = 3000
    min_crop_ratio: NotNegative = 0.5  # the crop must hold more than min_pixels * this of the class; HRDA 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPair(Settings):
    """Two data sets from Arrow stores (see `trainables.data.packing.format`), cropped at random.

    Args:
        source, target: Which stores; their paths come with `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        source_size, target_size: (rows, columns) an image is resized to before cropping.
        evaluation_size: (rows, columns) the network sees at evaluation; labels keep their own size.
        max_class_share: A source crop is drawn again (at most 10 times) while one class fills this share of it or more.
    """

    source: SourceDataset = SourceDataset.GTA
    target: TargetDataset = TargetDataset.CITYSCAPES
    crop_size: Annotated[tuple[int, int], Size(32)] = (512, 512)
    source_size: Annotated[tuple[int, int], Size(32)] = (720, 1280)  # the box that the image is fitted into, ratio kept
    target_size: Annotated[tuple[int, int], Size(32)] = (512, 1024)
    evaluation_size: Annotated[tuple[int, int], Size(32)] = (512, 1024)
    max_class_share: Annotated[float, Number(0, 1, open_low=True)] = 0.75

    @property
    def training_size(self) -> tuple[int, int]:
        """(rows, columns) of a training image."""
        return self.crop_size


@dataclass(frozen=True, kw_only=True, slots=True)
class RealPhotographs(Settings):
    """A folder of images and trainId labels: CARLA + AirSim -> CamVid, scored on its 11 classes.

    The layout of the folder, or of what its store was made of, is written in `trainables.data.datasets.realpair`.

    Args:
        folder: Name in `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        evaluation_size: The box that images are fitted into, ratio kept, at evaluation and before they are cropped.
        max_class_share: As in `PackedPair`.
    """

    folder: str = "realpair"
    crop_size: Annotated[tuple[int, int], Size(32)] = (96, 128)
    evaluation_size: Annotated[tuple[int, int], Size(32)] = (144, 192)
    max_class_share: Annotated[float, Number(0, 1, open_low=True)] = 0.75

    @property
    def training_size(self) -> tuple[int, int]:
        """(rows, columns) of a training image."""
        return self.crop_size


Data = ToyCity | PackedPair | RealPhotographs
