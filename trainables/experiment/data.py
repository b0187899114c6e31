"""Which images a model is trained and scored on: pairs of domains, which open themselves.

A pair of one's own derives from `DomainPair` and has fields or properties `training_size` and `evaluation_size`, a
method `open`, and, for reports with IoU by class, `class_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Annotated

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    Line,
    Makes,
    Name,
    NotNegative,
    Number,
    Positive,
    Settings,
    Size,
    UnitInterval,
    shown,
)
from trainables.geometry import MOST_CLASSES

if TYPE_CHECKING:
    from trainables.data.domains import Domains, Opening
    from trainables.data.image_sets import ImageSet

# Key such as `miou16` -> indices of the evaluated classes in this mean; a tuple of them counts as one class.
Means = Mapping[str, tuple[int | tuple[int, ...], ...]]


@dataclass(frozen=True, slots=True)
class StoreUse:
    """A store that a pair reads.

    Args:
        name: In `--data NAME=PATH`.
        dataset: What `python -m trainables.data prepare` makes it of.
        box: (rows, columns) that its training images are fitted into; None is their native size.
        evaluation_box: The same for images that are evaluated; None where the pair evaluates none of them.
    """

    name: str
    dataset: str
    box: tuple[int, int] | None
    evaluation_box: tuple[int, int] | None = None


class DomainPair(Settings):
    """A source and a target: what the platform has to know of them without torch, and how they are opened.

    `given` is what `--data` names: name -> path.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def training_size(self) -> tuple[int, int]:
            """(rows, columns) of a training image."""

        @property
        def evaluation_size(self) -> tuple[int, int]:
            """The box (rows, columns) that evaluation images are fitted into."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("training_size", "evaluation_size"):
            size = getattr(self, name, None)
            if not Size().fits(size):
                raise self.refusal(
                    f"{type(self).__name__}.{name} must {Size().wanted}, got {shown(size)}; give it as a field or a "
                    "property."
                )

    def open(self, opening: Opening) -> Domains:
        """The domains of one trial.

        Raises:
            ValueError: A data set is not given, or cannot be used: one sentence.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open(opening).")

    @property
    def benchmark(self) -> str:
        """Name of the pair and its scale: one MLflow experiment each."""
        rows, columns = self.training_size
        return f"{type(self).__name__.lower()}-{rows}x{columns}"

    @property
    def evaluation_name(self) -> str | None:
        """What `trainables.evaluate --data NAME` calls its validation images; None where they lie in a store."""
        return type(self).__name__.lower()

    def class_names(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the evaluated classes, in the order of the confusion matrix; none where they are not known yet."""
        del given
        return ()

    def further_means(self, given: Mapping[str, str]) -> Means:
        """Means over some of the evaluated classes."""
        del given
        return {}

    def stores(self) -> tuple[StoreUse, ...]:
        """The stores that it reads."""
        return ()

    def image_sets(self, given: Mapping[str, str]) -> tuple[ImageSet, ...]:
        """Its images by use, as far as the standard library can look in a few milliseconds."""
        from trainables.data.image_sets import own_set

        return (own_set(self, given),)

    def check(self, given: Mapping[str, str]) -> None:
        """See that what is given is what it reads, as far as the standard library can look in a few milliseconds.

        Raises:
            ValueError: It is not: one sentence.
        """


class SourceStyle(Enum):
    """Which procedural source of ToyCity: one plays GTA's part, one SYNTHIA's (other style, some classes missing)."""

    ARCADE = "arcade"
    DIORAMA = "diorama"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyCity(DomainPair):
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

    @property
    def benchmark(self) -> str:
        """Name of the data and the scale."""
        return f"toy-city-{self.source.value}-{self.image_size[0]}x{self.image_size[1]}"

    @property
    def evaluation_name(self) -> str:
        """What `trainables.evaluate` calls it."""
        return "toy-city"

    def class_names(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """Its 12 classes."""
        from trainables.data.classes import TOY_CITY_CLASSES

        return TOY_CITY_CLASSES

    def further_means(self, given: Mapping[str, str]) -> Means:
        """The mean over the classes that the source has."""
        from trainables.data.scored import toy_city_means

        return toy_city_means(self.source)

    def image_sets(self, given: Mapping[str, str]) -> tuple[ImageSet, ...]:
        """Its pools."""
        from trainables.data.image_sets import drawn_sets

        return drawn_sets(self)

    def open(self, opening: Opening) -> Domains:
        """Draw its pools, once a process."""
        from trainables.data.toy_city.domains import ToyCityDomains

        return ToyCityDomains(self, opening.device, opening.sampling, opening.margins, opening.holdout)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceHoldout(Settings):
    """Source images that training never draws, the same ones for every seed: they score a model without target labels.

    Args:
        share: Of the source's images; at least one image is held out.
    """

    share: Annotated[float, Number(0, 0.5, open_low=True)] = 0.05


class SourceDataset(StrEnum):
    """Names of the paper's sources; a pair takes any other name, too."""

    GTA = "gta"
    SYNTHIA = "synthia"


class TargetDataset(StrEnum):
    """Names of the targets that the field evaluates; a pair takes any other name, too."""

    CITYSCAPES = "cityscapes"
    ACDC = "acdc"
    DARK_ZURICH = "dark-zurich"
    CAMVID = "camvid"


@dataclass(frozen=True, kw_only=True, slots=True)
class RareClassSampling(Settings):
    """Source images drawn by class (DAFormer): P(c) = softmax((1 - f_c) / T) over the classes present."""

    temperature: Positive = 0.01
    min_pixels: AtLeast0 = 3000
    min_crop_ratio: NotNegative = 0.5  # crops hold more than min_pixels * this of the class; HRDA 2.0; 0 asks nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPair(DomainPair):
    """Two data sets from Arrow stores (see `trainables.data.packing.format`), cropped at random.

    Args:
        source, target: Names of the stores, any that `prepare` makes; their paths come with `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        source_size, target_size: (rows, columns) an image is resized to before cropping.
        evaluation_size: (rows, columns) the network sees at evaluation; labels keep their own size.
        max_class_share: A source crop is drawn again (at most 10 times) while one class fills this share of it or more.
        classes: Names of the classes of both stores, in the order of their ids; None takes them from the stores.
        target_crop: (rows, columns) of a target crop, where it is cropped once more in the step
            (`SelfTraining.class_crop`); None is that of the source.
    """

    source: Name = SourceDataset.GTA
    target: Name = TargetDataset.CITYSCAPES
    crop_size: Annotated[tuple[int, int], Size(32)] = (512, 512)
    source_size: Annotated[tuple[int, int], Size(32)] = (720, 1280)  # the box that the image is fitted into, ratio kept
    target_size: Annotated[tuple[int, int], Size(32)] = (512, 1024)
    evaluation_size: Annotated[tuple[int, int], Size(32)] = (512, 1024)
    max_class_share: Annotated[float, Number(0, 1, open_low=True)] = 0.75
    classes: tuple[Line, ...] | None = field(default=None, metadata={"identity": "when set"})
    target_crop: Annotated[tuple[int, int], Size(32)] | None = field(default=None, metadata={"identity": "when set"})

    def _check_together(self) -> None:
        if self.classes is None:
            return
        twice = [name for name in self.classes if self.classes.count(name) > 1]
        if twice:
            raise ValueError(f"PackedPair.classes must name each class once, got {twice[0]!r} twice.")
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(f"PackedPair.classes must be at most {MOST_CLASSES} names, got {len(self.classes)}.")

    @property
    def training_size(self) -> tuple[int, int]:
        """(rows, columns) of a training image."""
        return self.crop_size

    @property
    def benchmark(self) -> str:
        """Source, target and the size of a crop."""
        return f"{self.source}-{self.target}-{self.crop_size[0]}x{self.crop_size[1]}"

    @property
    def evaluation_name(self) -> None:
        """Its validation images lie in the target's store."""
        return

    def class_names(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """Those of `classes`, else of a given store, else of a known data set; CamVid is evaluated in its 11."""
        from trainables.data.given import classes_of
        from trainables.data.scored import evaluated_classes

        return evaluated_classes(classes_of(self, given), self.target)

    def further_means(self, given: Mapping[str, str]) -> Means:
        """Those over SYNTHIA's 16 and 13 classes, and over CamVid's 8 frequent ones."""
        from trainables.data.given import classes_of
        from trainables.data.scored import evaluated_means

        return evaluated_means(classes_of(self, given), self.source, self.target)

    def stores(self) -> tuple[StoreUse, ...]:
        """The source's and the target's."""
        return (
            StoreUse(self.source, self.source, self.source_size),
            StoreUse(self.target, self.target, self.target_size, self.evaluation_size),
        )

    def image_sets(self, given: Mapping[str, str]) -> tuple[ImageSet, ...]:
        """Splits of the stores that are given."""
        from trainables.data.image_sets import packed_sets

        return packed_sets(self, given)

    def check(self, given: Mapping[str, str]) -> None:
        """See that given stores are those of its names, and of one list of classes."""
        from trainables.data.given import check_stores

        check_stores(self, given)

    def open(self, opening: Opening) -> Domains:
        """Open both stores."""
        from trainables.data.pairs import open_packed_pair

        return open_packed_pair(self, opening)


@dataclass(frozen=True, kw_only=True, slots=True)
class RealPhotographs(DomainPair):
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

    @property
    def benchmark(self) -> str:
        """The target's name."""
        return "camvid"

    @property
    def evaluation_name(self) -> str:
        """The folder's name."""
        return self.folder

    def class_names(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """CamVid's 11 classes."""
        from trainables.data.classes import CAMVID_CLASSES

        return CAMVID_CLASSES

    def further_means(self, given: Mapping[str, str]) -> Means:
        """The mean over the 8 frequent classes."""
        from trainables.data.scored import CAMVID_MEANS

        return CAMVID_MEANS

    def stores(self) -> tuple[StoreUse, ...]:
        """The one store that can be made of the folder, at native size."""
        return (StoreUse(self.folder, "realpair", None),)

    def image_sets(self, given: Mapping[str, str]) -> tuple[ImageSet, ...]:
        """Parts of the folder, or of its store, that is given."""
        from trainables.data.image_sets import photograph_sets

        return photograph_sets(self, given)

    def check(self, given: Mapping[str, str]) -> None:
        """See that a given folder, or store, is one of such a pair."""
        from trainables.data.given import check_real_images

        check_real_images(self, given)

    def open(self, opening: Opening) -> Domains:
        """Open the store, or read the folder (once a process)."""
        from trainables.data.pairs import open_real_photographs

        return open_real_photographs(self, opening)


Data = Annotated[DomainPair, Makes("a pair of domains", "open", DomainPair)]
