"""How the unlabelled target is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    BelowOne,
    IntRange,
    Makes,
    Number,
    Range,
    Settings,
    Size,
    UnitInterval,
)

if TYPE_CHECKING:
    from trainables.adaptation.mixer import Mixer


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourJitter(Settings):
    """Colour jitter of mixed images as in kornia 0.5.8: additive brightness, scaled contrast, HSV saturation, hue."""

    probability: UnitInterval = 0.8  # the reference jitters where u > 0.2
    brightness: UnitInterval = 0.2
    contrast: UnitInterval = 0.2
    saturation: UnitInterval = 0.2
    hue: Annotated[float, Number(0, 0.5)] = 0.2  # turns


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur(Settings):
    """Gaussian blur of mixed images, sigma uniform in a range, in pixels."""

    probability: UnitInterval = 0.5
    sigma: Annotated[tuple[float, float], Range(open_low=True)] = (0.15, 1.15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Margins(Settings):
    """Rows and columns of the target image whose pseudo-labels weigh 0 (ego-vehicle hood, rectification), in pixels.

    They are measured on the whole resized image (`of_size`), or on the crop itself where `of_size` is None.
    """

    top: AtLeast0 = 0
    bottom: AtLeast0 = 0
    left: AtLeast0 = 0
    right: AtLeast0 = 0
    of_size: Annotated[tuple[int, int], Size()] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMix(Settings):
    """Half of the source classes of a batch are pasted onto target images (Olsson et al. 2021, as in DACS)."""

    def build(self) -> Mixer:
        """The mixer (`trainables.adaptation.classmix`)."""
        from trainables.adaptation.classmix import ClassMixer

        return ClassMixer()


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassBalancedCrop(Settings):
    """Of several windows of a target image the one where the teacher sees the evenest classes (SePiCo).

    The step begins with it; the teacher then labels the window anew.

    Args:
        size: (rows, columns) of a window: that of the source's crops.
        tries: Windows at uniform places.
        max_class_share: A window with a class that fills this share of it or more is the last choice.
    """

    size: Annotated[tuple[int, int], Size(8)]
    tries: AtLeast1 = 10
    max_class_share: UnitInterval = 0.75


AnyMixer = Annotated[Any, Makes("a mixer", "build", arguments=())]


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTraining(Settings):
    """DACS: an EMA teacher labels target images; source classes are pasted onto them (Tranheden et al. 2021).

    Args:
        momentum: EMA alpha; step t uses min(1 - 1/(t+1), alpha).
        threshold: The pseudo-label weight q is the share of the batch's pixels with at least this probability.
        jitter, blur: Augmentation of the mixed images; None is off.
        margins: Where pseudo-labels weigh 0; None is nowhere.
        mixer: What makes the mixed images: ClassMix, or settings of your own whose `build` returns a
            `trainables.adaptation.mixer.Mixer`.
        augment_source: Whether the student sees the source with jitter and blur, too, at the steps where mixed images
            have them. What is mixed is as it was.
        class_crop: How target images are cropped once more, on the training device; None is not.
    """

    momentum: BelowOne = 0.99
    threshold: UnitInterval = 0.968
    jitter: ColourJitter | None = field(default_factory=ColourJitter)
    blur: Blur | None = field(default_factory=Blur)
    margins: Margins | None = None
    mixer: AnyMixer = field(default=ClassMix(), metadata={"identity": "when set"})
    augment_source: bool = field(default=False, metadata={"identity": "when set"})
    class_crop: ClassBalancedCrop | None = field(default=None, metadata={"identity": "when set"})


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoMetricDistortion(Settings):
    """MMSegmentation's colour distortion of 8-bit images; each part happens to every second image.

    Args:
        brightness: Added: at most so much, in pixel values, either way.
        contrast, saturation: Ranges of the factors.
        hue: Turned by -hue to hue - 1 of 180 hues (steps of 2 degrees).
    """

    brightness: Annotated[float, Number(0, 255)] = 32
    contrast: Annotated[tuple[float, float], Range()] = (0.5, 1.5)
    saturation: Annotated[tuple[float, float], Range()] = (0.5, 1.5)
    hue: Annotated[int, IntRange(0, 90)] = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOnly(Settings):
    """Source cross-entropy alone.

    Args:
        adapt_statistics: Re-estimate BatchNorm statistics on this many target batches before each evaluation (AdaBN);
            None leaves them.
        distortion: Colour distortion of the source images; None is off.
    """

    adapt_statistics: AtLeast1 | None = None
    distortion: PhotoMetricDistortion | None = field(default=None, metadata={"identity": "when set"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSupervised(Settings):
    """The oracle: cross-entropy on labelled target images."""


Adaptation = SelfTraining | SourceOnly | TargetSupervised
