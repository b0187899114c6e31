"""QuadMix: how mixed images are made of both domains and of the step before.

Defaults are the method as it is meant; what the released code does otherwise is a switch beside them, and `as_released`
sets all of these (docs/readings.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from mfm_tune.fields import AtLeast0, AtLeast1, IntRange, Settings, UnitInterval

if TYPE_CHECKING:
    from trainables.adaptation.mixer import Mixer

TrainId = Annotated[int, IntRange(0, 254)]


class Exclusion(Enum):
    """Which classes the target template may not take.

    The released code keeps the positions of the source template's classes in the sorted list of its image's classes,
    and bars the classes with these numbers: low ones, mostly.
    """

    IDS = "ids"  # the classes of the source template
    POSITIONS = "positions"
    NONE = "none"


class IgnoredArea(Enum):
    """Whether the source template may take the ignored area (255), which then counts as one class."""

    DRAW = "draw"  # as released
    SKIP = "skip"


class PatchWeight(Enum):
    """Weight of the pixels of a rare patch."""

    GROUND = "ground"  # what it is pasted on, as released: the pseudo-label's there, and 0 in margins
    ONE = "one"


class PatchColour(Enum):
    """Colours of a rare patch."""

    NORMALISED = "normalised"
    RELEASED = "released"  # (BGR - RGB mean) / 255: swapped channels, a quarter of the contrast


@dataclass(frozen=True, kw_only=True, slots=True)
class RarePatches(Settings):
    """Pixels of rare classes out of further source images, pasted onto both views.

    Args:
        classes: trainIds to draw from; one that is there twice is drawn twice as often, and may be drawn twice.
        number: Classes a step, the same for all images.
        more_than: A crop of the patch's image shows more pixels of its class than this.
        weight, colour: See the enums.
    """

    classes: tuple[TrainId, ...] = (3, 4, 5, 6, 12, 15, 16, 17, 18)  # GTA's
    number: AtLeast1 = 2
    more_than: AtLeast0 = 50
    weight: PatchWeight = PatchWeight.GROUND
    colour: PatchColour = PatchColour.NORMALISED


@dataclass(frozen=True, kw_only=True, slots=True)
class QuadMix(Settings):
    """Mixing between and within both domains (Zhang et al., "Unified Domain Adaptive Semantic Segmentation", 2025).

    Two views a step, half of L_uda each: the source and the target of this step, each under a template of the source
    and then one of the target of the step before, and under rare patches. Before it begins, ClassMix mixes.

    Args:
        start: Share of the run after which it begins; 6,000 of 40,000 steps as released.
        source_classes: Classes of the source template, drawn of each remembered source label.
        target_classes: Classes of the target template, drawn of each remembered pseudo-label.
        confidence: Least probability of a pixel in the target template.
        exclude, ignored: See the enums.
        rare: None pastes no rare patches.
    """

    start: UnitInterval = 0.15
    source_classes: AtLeast1 = 2
    target_classes: AtLeast1 = 2
    confidence: UnitInterval = 0.9
    exclude: Exclusion = Exclusion.IDS
    ignored: IgnoredArea = IgnoredArea.DRAW
    rare: RarePatches | None = field(default_factory=RarePatches)

    def as_released(self) -> QuadMix:
        """The same with every habit of the released code."""
        rare = None if self.rare is None else replace(self.rare, colour=PatchColour.RELEASED)
        return replace(self, exclude=Exclusion.POSITIONS, rare=rare)

    def build(self) -> Mixer:
        """The mixer (`trainables.adaptation.quadmix`)."""
        from trainables.adaptation.quadmix import QuadMixer

        return QuadMixer(self)
