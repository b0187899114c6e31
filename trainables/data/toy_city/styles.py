"""What the domains of ToyCity look like: frozen dataclasses of colours, textures, counts, camera and imaging ranges.

Every leaf of a `Style` is a number, so two styles can be interpolated (`between`): a shift of 0.7 moves each number of
the target 70 % of the way from the source's. Colours and amplitudes are grey levels (0 to 255), lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import IntEnum
from typing import Any, TypeVar

from trainables.config import SourceStyle

Colour = tuple[float, float, float]  # grey levels, RGB
Range = tuple[float, float]  # low, high of a uniform draw


class ToyClass(IntEnum):
    """The classes of ToyCity; the value is the trainId."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    FENCE = 3
    POLE = 4
    SIGN = 5
    VEGETATION = 6
    TERRAIN = 7
    SKY = 8
    PERSON = 9
    CAR = 10
    TRUCK = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class Texture:
    """Amplitudes (standard deviations) of the patterns that a material's texture is the sum of."""

    white: float = 0.0
    fine: float = 0.0
    medium: float = 0.0
    coarse: float = 0.0
    windows: float = 0.0
    slats: float = 0.0  # vertical
    stripes: float = 0.0  # horizontal
    paving: float = 0.0  # checkers


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """How instances of one material are coloured.

    Args:
        colour: Mean.
        brightness: Standard deviation that the channels of an instance share.
        tint: Standard deviation that each channel has alone.
        texture: Added to every pixel.
    """

    colour: Colour
    brightness: float = 8.0
    tint: float = 4.0
    texture: Texture = Texture()


@dataclass(frozen=True, kw_only=True, slots=True)
class Materials:
    """The materials that scenes are built of, in the order of their texture indices."""

    road: Material
    marking: Material
    sidewalk: Material
    building: Material
    fence: Material
    pole: Material
    sign: Material
    vegetation: Material
    trunk: Material
    terrain: Material
    sky: Material
    clothes: Material
    skin: Material
    vehicle: Material  # cars and trucks share their colours
    glass: Material
    rubber: Material


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many things stand in a scene: means of Poisson draws, and probabilities for each side of the street."""

    cars: float
    trucks: float
    people: float
    poles: float
    signs: float  # probability that a pole carries a sign or a light
    trees: float
    park: float  # probability that a side is open (lawn and hedge) instead of built
    lawn: Range  # width of the terrain beyond the sidewalk of an open side
    verge: float  # probability of a strip of terrain along the facades of a built side
    fence: float  # probability of a fence beyond the sidewalk


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Where the scene is seen from.

    Args:
        horizon: Row of the horizon as a share of the image's rows.
        sideways: Column of the vanishing point, as a share of the columns.
        height: Camera height; smaller is nearer to things.
        road: Half of the road's width.
        sidewalk: Width of a sidewalk.
        storey: Height of the buildings.
    """

    horizon: Range
    sideways: Range
    height: Range
    road: Range
    sidewalk: Range
    storey: Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Imaging:
    """From the painted scene to the image.

    Args:
        saturation: 1 keeps colours, 0 is grey.
        fog: Density a metre.
        haze: Colour of the fog.
        illumination: Standard deviation of a smooth factor over the image.
        gain: Range of a factor.
        cast: Colour that is added.
        gamma: Range of the exponent on [0, 1].
        blur: Weight of the neighbours in a three-tap blur, 0 to 1/3.
        noise: Standard deviation of the pixel noise.
    """

    saturation: float
    fog: float
    haze: Colour
    illumination: float
    gain: Range
    cast: Colour
    gamma: Range
    blur: float
    noise: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """One domain."""

    materials: Materials
    counts: Counts
    camera: Camera
    imaging: Imaging


V = TypeVar("V")


def between(source: V, target: V, shift: float) -> V:
    """Interpolate every number of two values of one shape: shift 0 gives the source, 1 the target."""
    return _between(source, target, shift)  # type: ignore[no-any-return]


def _between(source: Any, target: Any, shift: float) -> Any:
    if is_dataclass(source) and not isinstance(source, type):
        names = [item.name for item in fields(source)]
        return replace(
            source, **{name: _between(getattr(source, name), getattr(target, name), shift) for name in names}
        )
    if isinstance(source, tuple):
        return tuple(_between(a, b, shift) for a, b in zip(source, target, strict=True))
    return (1 - shift) * source + shift * target


# --------------------------------------------------------------------------------------------------------------------
# The styles
# --------------------------------------------------------------------------------------------------------------------

ARCADE = Style(  # saturated, warm and clean, like a video game on a sunny day
    materials=Materials(
        road=Material(colour=(98, 92, 96), brightness=7, texture=Texture(fine=5)),
        marking=Material(colour=(232, 226, 200), brightness=6),
        sidewalk=Material(colour=(186, 160, 138), brightness=8, texture=Texture(paving=11)),
        building=Material(colour=(176, 122, 92), brightness=24, tint=18, texture=Texture(windows=24)),
        fence=Material(colour=(148, 104, 62), brightness=12, tint=8, texture=Texture(slats=26)),
        pole=Material(colour=(78, 78, 90), brightness=10),
        sign=Material(colour=(178, 96, 84), brightness=22, tint=52),
        vegetation=Material(colour=(62, 138, 44), brightness=14, tint=8, texture=Texture(medium=16)),
        trunk=Material(colour=(96, 66, 42), brightness=8),
        terrain=Material(colour=(140, 162, 72), brightness=12, tint=8, texture=Texture(fine=9)),
        sky=Material(colour=(112, 166, 232), brightness=10, tint=6, texture=Texture(coarse=6)),
        clothes=Material(colour=(128, 92, 104), brightness=34, tint=40),
        skin=Material(colour=(212, 160, 126), brightness=18),
        vehicle=Material(colour=(140, 96, 96), brightness=42, tint=44, texture=Texture(fine=3)),
        glass=Material(colour=(52, 66, 88), brightness=10),
        rubber=Material(colour=(28, 26, 28), brightness=5),
    ),
    counts=Counts(
        cars=3.2,
        trucks=0.9,
        people=3.0,
        poles=3.0,
        signs=0.75,
        trees=2.5,
        park=0.4,
        lawn=(2.5, 6.0),
        verge=0.4,
        fence=0.5,
    ),
    camera=Camera(
        horizon=(0.36, 0.48),
        sideways=(0.40, 0.60),
        height=(2.4, 3.2),
        road=(3.2, 4.4),
        sidewalk=(1.8, 3.0),
        storey=(6.0, 14.0),
    ),
    imaging=Imaging(
        saturation=1.1,
        fog=0.001,
        haze=(190, 205, 230),
        illumination=0.04,
        gain=(0.95, 1.08),
        cast=(6, 2, -4),
        gamma=(0.95, 1.05),
        blur=0.03,
        noise=2.0,
    ),
)

DIORAMA = Style(  # pastel, matt and seen from above, like a model railway; no terrain and no trucks
    materials=Materials(
        road=Material(colour=(134, 134, 146), brightness=6, texture=Texture(white=5)),
        marking=Material(colour=(246, 246, 240), brightness=4),
        sidewalk=Material(colour=(208, 196, 204), brightness=7, texture=Texture(stripes=9)),
        building=Material(colour=(196, 166, 150), brightness=22, tint=26, texture=Texture(windows=12, medium=5)),
        fence=Material(colour=(196, 188, 172), brightness=12, tint=6, texture=Texture(slats=20)),
        pole=Material(colour=(120, 124, 120), brightness=10),
        sign=Material(colour=(150, 120, 150), brightness=20, tint=56),
        vegetation=Material(colour=(96, 146, 96), brightness=12, tint=8, texture=Texture(white=14)),
        trunk=Material(colour=(126, 96, 72), brightness=8),
        terrain=Material(colour=(168, 178, 112), brightness=10, tint=6, texture=Texture(white=8)),
        sky=Material(colour=(196, 214, 236), brightness=6, tint=4),
        clothes=Material(colour=(150, 120, 120), brightness=30, tint=44),
        skin=Material(colour=(226, 186, 160), brightness=12),
        vehicle=Material(colour=(160, 130, 126), brightness=36, tint=48),
        glass=Material(colour=(86, 104, 124), brightness=8),
        rubber=Material(colour=(52, 50, 54), brightness=5),
    ),
    counts=Counts(
        cars=3.6,
        trucks=0.0,
        people=3.6,
        poles=3.4,
        signs=0.7,
        trees=2.0,
        park=0.35,
        lawn=(0.0, 0.0),
        verge=0.0,
        fence=0.5,
    ),
    camera=Camera(
        horizon=(0.26, 0.38),
        sideways=(0.36, 0.64),
        height=(2.8, 4.0),
        road=(3.2, 4.6),
        sidewalk=(1.8, 3.2),
        storey=(5.0, 12.0),
    ),
    imaging=Imaging(
        saturation=0.95,
        fog=0.0,
        haze=(210, 215, 225),
        illumination=0.10,
        gain=(0.98, 1.12),
        cast=(2, -2, 4),
        gamma=(0.85, 1.0),
        blur=0.0,
        noise=3.0,
    ),
)

OVERCAST = Style(  # the target at shift 1: grey, greenish, foggy, blurred and noisy, more crowded, seen from nearer
    materials=Materials(
        road=Material(colour=(104, 108, 104), brightness=9, texture=Texture(medium=6)),
        marking=Material(colour=(176, 178, 168), brightness=9),
        sidewalk=Material(colour=(118, 120, 114), brightness=9, texture=Texture(white=6)),
        building=Material(colour=(126, 124, 112), brightness=22, tint=9, texture=Texture(stripes=7, windows=7)),
        fence=Material(colour=(98, 104, 96), brightness=12, tint=5, texture=Texture(stripes=14)),
        pole=Material(colour=(104, 108, 106), brightness=12),
        sign=Material(colour=(132, 124, 112), brightness=24, tint=36),
        vegetation=Material(colour=(82, 96, 72), brightness=11, tint=5, texture=Texture(white=12)),
        trunk=Material(colour=(76, 72, 62), brightness=8),
        terrain=Material(colour=(118, 118, 84), brightness=11, tint=6, texture=Texture(coarse=8)),
        sky=Material(colour=(214, 218, 212), brightness=8, tint=3, texture=Texture(coarse=4)),
        clothes=Material(colour=(88, 86, 88), brightness=32, tint=18),
        skin=Material(colour=(164, 142, 122), brightness=18),
        vehicle=Material(colour=(112, 112, 110), brightness=46, tint=18, texture=Texture(coarse=6)),
        glass=Material(colour=(66, 74, 74), brightness=12),
        rubber=Material(colour=(40, 42, 40), brightness=6),
    ),
    counts=Counts(
        cars=4.4,
        trucks=1.1,
        people=4.2,
        poles=3.4,
        signs=0.75,
        trees=3.0,
        park=0.4,
        lawn=(2.5, 6.0),
        verge=0.4,
        fence=0.5,
    ),
    camera=Camera(
        horizon=(0.38, 0.50),
        sideways=(0.42, 0.58),
        height=(2.0, 2.7),
        road=(3.0, 4.2),
        sidewalk=(1.8, 3.2),
        storey=(7.0, 16.0),
    ),
    imaging=Imaging(
        saturation=0.75,
        fog=0.010,
        haze=(196, 202, 194),
        illumination=0.12,
        gain=(0.82, 1.05),
        cast=(-6, 4, -4),
        gamma=(0.9, 1.25),
        blur=0.2,
        noise=7.0,
    ),
)


def source_style(source: SourceStyle) -> Style:
    """The style of a source domain."""
    match source:
        case SourceStyle.ARCADE:
            return ARCADE
        case SourceStyle.DIORAMA:
            return DIORAMA


def target_style(shift: float) -> Style:
    """The style of the target, a share `shift` of the way from ARCADE to OVERCAST.

    It does not depend on the source that a config chooses, so both sources are scored on the same target images.
    """
    return between(ARCADE, OVERCAST, shift)


def absent_classes(style: Style) -> frozenset[ToyClass]:
    """Classes that scenes of this style never contain."""
    counts = style.counts
    shares = {
        ToyClass.TRUCK: counts.trucks,
        ToyClass.TERRAIN: counts.park * counts.lawn[1] + counts.verge,
        ToyClass.FENCE: counts.fence,
        ToyClass.CAR: counts.cars,
        ToyClass.PERSON: counts.people,
        ToyClass.POLE: counts.poles,
        ToyClass.SIGN: counts.poles * counts.signs,
    }
    return frozenset(name for name, share in shares.items() if share == 0)
