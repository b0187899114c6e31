"""Street scenes of ToyCity: a painter's algorithm on numpy arrays, and the imaging chain.

Everything stands on a flat ground that a pinhole camera sees. A thing whose foot is at ground row y has
`scale = (y - horizon) / camera height` pixels a metre, so a thing h metres tall is h * scale rows tall, and a point
x metres right of the camera is at column `vanishing + x * scale`. Things are painted from far to near.

What is painted is an index of an *instance* (a material, a class) and the scale, which is the depth for the fog;
colours are drawn and looked up once at the end. Boxes are slices, surfaces are broadcast comparisons, and the picture
is three planes, whose long rows numpy is fast on: that makes a 64 x 128 scene cheap.

Sums, products, quotients and roots of floats are the same on every CPU; exponentials, sines and Fourier transforms
differ in their last bits. What comes of the latter is rounded to a grid (`settled`), so a scene has the same pixels on
every kind of x86-64 CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainables.data.toy_city.styles import Material, Materials, Range, Style, Texture, ToyClass

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Generator = np.random.Generator

TILE = 256  # rows and columns of a texture tile; it repeats
TILE_SEED = 20_250  # the patterns are the same for every scene
SKY_SCALE = 1e6  # the sky is painted without fog
MIN_POLE, MIN_SIGN = 2, 3  # pixels; thinner things stay at IoU 0 for every network of this size
MIN_SCALE = 0.055  # pixels a metre a row of the image: nothing that must be seen stands farther away
MATERIALS = {item.name: index for index, item in enumerate(fields(Materials))}
GRID = 4096  # steps a unit that results of transcendental functions are rounded to


def generator(scene_seed: int, pool: int, index: int) -> Generator:
    """The draws of one image: it can be rendered alone, whatever the size of its pool."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((scene_seed, pool, index))))


def render(style: Style, size: tuple[int, int], random: Generator) -> tuple[Bytes, Bytes]:
    """Draw one scene.

    Args:
        style: The domain.
        size: (rows, columns), at least 16 each.
        random: Of `generator`.

    Returns:
        The image [3, H, W] and its labels [H, W] (values of `ToyClass`), both uint8.
    """
    canvas = Canvas(style, size, random)
    backdrop(canvas)
    for side in (-1, 1):
        street_side(canvas, side)
    road(canvas)
    things(canvas)
    return photograph(canvas), canvas.labels()


def uniform(random: Generator, span: Range) -> float:
    """A uniform draw from a range."""
    return span[0] + (span[1] - span[0]) * random.random()


class Canvas:
    """The instance and the scale of every pixel, the instances so far, and the camera.

    Args:
        style: The domain.
        size: (rows, columns).
        random: Draws of the scene.
    """

    def __init__(self, style: Style, size: tuple[int, int], random: Generator) -> None:
        self.style, self.size, self.random = style, size, random
        rows, columns = size
        camera = style.camera
        self.instances = np.zeros(size, np.int16)
        self.scales = np.full(size, SKY_SCALE, np.float32)
        self.classes: list[int] = []
        self.materials: list[int] = []
        self.shades: list[float] = []
        self.horizon = rows * uniform(random, camera.horizon)
        self.vanishing = columns * uniform(random, camera.sideways)
        self.height = uniform(random, camera.height)
        self.half_road = uniform(random, camera.road)
        self.sidewalks = {side: uniform(random, camera.sidewalk) for side in (-1, 1)}
        self.far = MIN_SCALE * rows
        self.near = (rows - self.horizon) / self.height  # the scale at the bottom row

    @cached_property
    def y(self) -> Floats:
        """Row centres [H, 1]."""
        return np.arange(self.size[0], dtype=np.float32)[:, None] + np.float32(0.5)

    @cached_property
    def x(self) -> Floats:
        """Column centres [W]."""
        return np.arange(self.size[1], dtype=np.float32) + np.float32(0.5)

    @cached_property
    def first_ground_row(self) -> int:
        """The first row whose centre lies under the horizon."""
        return int(self.horizon + 0.5)

    def metres(self, scale: Floats) -> Floats:
        """Distance along the street at a scale; the focal length is the image's number of rows."""
        return np.float32(self.size[0]) / scale

    def instance(self, material: str, label: ToyClass, shade: float = 1.0) -> int:
        """A new instance; its colour is drawn around the material's, times a shade."""
        self.classes.append(label)
        self.materials.append(MATERIALS[material])
        self.shades.append(shade)
        return len(self.classes) - 1

    def box(self, instance: int, scale: float, left: float, top: float, right: float, bottom: float) -> None:
        """Paint a rectangle, in pixels; what lies outside the image is cut off."""
        rows = slice(max(round(top), 0), max(round(bottom), 0))
        columns = slice(max(round(left), 0), max(round(right), 0))
        self.instances[rows, columns] = instance
        self.scales[rows, columns] = scale

    def ellipse(self, instance: int, scale: float, x: float, y: float, half_width: float, half_height: float) -> None:
        """Paint an ellipse around (x, y), in pixels."""
        top, bottom = max(int(y - half_height), 0), max(int(y + half_height) + 2, 0)
        left, right = max(int(x - half_width), 0), max(int(x + half_width) + 2, 0)
        inside = ((self.y[top:bottom] - y) / half_height) ** 2 + ((self.x[left:right] - x) / half_width) ** 2 <= 1
        self.instances[top:bottom, left:right][inside] = instance
        self.scales[top:bottom, left:right][inside] = scale

    def wall(
        self, instances: NDArray[np.int16] | int, side: int, x: float, bottom: Floats | float, top: Floats | float
    ) -> None:
        """Paint an upright surface along the street, x metres to a side, between two heights above the ground.

        Args:
            instances: For each column [W] of `wall_columns`, or one.
            side: -1 left, 1 right.
            x: Distance from the camera's axis, metres.
            bottom, top: Heights, metres, one or for each column.
        """
        columns, scale = self.wall_columns(side, x)
        foot = self.horizon + self.height * scale
        inside = (self.y >= foot - top * scale) & (self.y < foot - bottom * scale)
        np.copyto(self.instances[:, columns], instances, where=inside, casting="unsafe")
        np.copyto(self.scales[:, columns], scale, where=inside)

    def wall_columns(self, side: int, x: float) -> tuple[slice, Floats]:
        """The columns in which a wall x metres to a side is seen, and its scale in each."""
        if side < 0:
            columns = slice(0, max(int(self.vanishing), 0))
            return columns, np.maximum((self.vanishing - self.x[columns]) / np.float32(x), np.float32(1e-3))
        columns = slice(int(self.vanishing), self.size[1])
        return columns, np.maximum((self.x[columns] - self.vanishing) / np.float32(x), np.float32(1e-3))

    def labels(self) -> Bytes:
        """The class of every pixel, [H, W] uint8."""
        return np.asarray(self.classes, np.uint8)[self.instances]


# --------------------------------------------------------------------------------------------------------------------
# Layers of a scene, from far to near
# --------------------------------------------------------------------------------------------------------------------


def backdrop(canvas: Canvas) -> None:
    """The sky, the skyline at the end of the street, and the ground."""
    random = canvas.random
    rows, columns = canvas.size
    canvas.instances[:] = canvas.instance("sky", ToyClass.SKY)
    count = 7
    edges = np.sort(random.random(count)) * columns
    heights = random.uniform(0.02, 0.16, count + 1) * rows
    built = random.random(count + 1) < 0.6
    for (left, right), height, is_built in zip(
        pairwise((0.0, *edges.tolist(), float(columns))), heights.tolist(), built.tolist(), strict=True
    ):
        kind = ("building", ToyClass.BUILDING) if is_built else ("vegetation", ToyClass.VEGETATION)
        block = canvas.instance(*kind)
        canvas.box(block, canvas.far * 0.6, left, canvas.horizon - height, right, canvas.horizon + 2)


def street_side(canvas: Canvas, side: int) -> None:
    """One side of the street: ground, then facades or a hedge with trees, then perhaps a fence."""
    counts = canvas.style.counts
    draws = canvas.random.random(4)
    edge = canvas.half_road + canvas.sidewalks[side]
    is_open = bool(draws[0] < counts.park)
    width = uniform(canvas.random, counts.lawn) if is_open else 0.8 if draws[1] < counts.verge else 0.0
    ground(canvas, side, edge, width)
    if is_open:
        hedge(canvas, side, edge + width)
    else:
        facades(canvas, side, edge + width + 0.2)
    trees(canvas, side, edge, width)
    if draws[2] < counts.fence:
        fence(canvas, side, edge)


def ground(canvas: Canvas, side: int, edge: float, lawn: float) -> None:
    """The ground of a side: terrain as far as the lawn reaches, sidewalk elsewhere; the road comes later."""
    top = canvas.first_ground_row
    scale = (canvas.y[top:] - canvas.horizon) / np.float32(canvas.height)
    columns = slice(0, int(canvas.vanishing)) if side < 0 else slice(int(canvas.vanishing), canvas.size[1])
    part = canvas.instances[top:, columns]
    part[:] = canvas.instance("sidewalk", ToyClass.SIDEWALK)
    canvas.scales[top:, columns] = scale
    if lawn > 0:
        grass = canvas.instance("terrain", ToyClass.TERRAIN)
        np.copyto(part, grass, where=np.abs(canvas.x[columns] - canvas.vanishing) >= edge * scale, casting="unsafe")


def facades(canvas: Canvas, side: int, x: float) -> None:
    """A row of houses of different heights and colours, some with hedges between them."""
    random = canvas.random
    count = 8
    lengths = random.uniform(7.0, 16.0, count)
    heights = random.uniform(*canvas.style.camera.storey, count).astype(np.float32)
    shade = 0.88 if side < 0 else 1.0  # the sun stands on the left
    houses = [canvas.instance("building", ToyClass.BUILDING, shade) for _ in range(count)]
    for gap in np.flatnonzero(random.random(count) < 0.15).tolist():
        houses[gap] = canvas.instance("vegetation", ToyClass.VEGETATION, shade)
        heights[gap] = uniform(random, (1.5, 3.5))
    _, scale = canvas.wall_columns(side, x)
    which = np.minimum(np.searchsorted(np.cumsum(lengths), canvas.metres(scale)), count - 1)
    canvas.wall(np.asarray(houses, np.int16)[which], side, x, 0.0, heights[which])


def hedge(canvas: Canvas, side: int, x: float) -> None:
    """A hedge with an uneven top."""
    _, scale = canvas.wall_columns(side, x)
    phase = canvas.random.random(2) * 6
    distance = canvas.metres(scale).astype(np.float64)
    swing = settled(np.sin(distance / 1.3 + phase[0]) + np.sin(distance / 0.45 + phase[1]))
    top = np.float32(uniform(canvas.random, (1.6, 3.2))) + np.float32(0.3) * swing
    canvas.wall(canvas.instance("vegetation", ToyClass.VEGETATION), side, x, 0.0, top)


def fence(canvas: Canvas, side: int, x: float) -> None:
    """A fence along the outer edge of the sidewalk, over a part of the street."""
    _, scale = canvas.wall_columns(side, x)
    distance = canvas.metres(scale)
    start = uniform(canvas.random, (2.0, 7.0))
    end = start + uniform(canvas.random, (6.0, 16.0))
    top = np.where((distance > start) & (distance < end), np.float32(uniform(canvas.random, (1.2, 1.8))), np.float32(0))
    canvas.wall(canvas.instance("fence", ToyClass.FENCE), side, x, 0.0, top)


def road(canvas: Canvas) -> None:
    """The road with its lane marks."""
    top = canvas.first_ground_row
    scale = (canvas.y[top:] - canvas.horizon) / np.float32(canvas.height)
    across = (canvas.x - canvas.vanishing) / scale  # metres right of the axis [h, W]
    part = canvas.instances[top:]
    inside = np.abs(across) < canvas.half_road
    np.copyto(part, canvas.instance("road", ToyClass.ROAD), where=inside, casting="unsafe")
    np.copyto(canvas.scales[top:], scale, where=inside)
    dash = (canvas.metres(scale) + 3 * canvas.random.random()) % 3.0 < 1.7
    mark = canvas.instance("marking", ToyClass.ROAD)
    np.copyto(part, mark, where=(np.abs(across) < 0.09) & dash, casting="unsafe")


def trees(canvas: Canvas, side: int, edge: float, width: float) -> None:
    """Trees on the lawn of an open side, or at the facades of a built one."""
    for _ in range(int(canvas.random.poisson(canvas.style.counts.trees / 2))):
        tree(canvas, side * (edge + 0.3 + canvas.random.random() * width), depth(canvas))


def depth(canvas: Canvas, nearest: float = 1.0) -> float:
    """A scale between the farthest and a share of the nearest, uniform in its logarithm."""
    far, near = canvas.far, canvas.near * nearest
    return float(far * (near / far) ** canvas.random.random())


def things(canvas: Canvas) -> None:
    """Cars, trucks, people, poles and street trees, sorted from far to near."""
    random, counts = canvas.random, canvas.style.counts
    kinds: tuple[tuple[Callable[[Canvas, float, float], None], float, Callable[[Canvas], float], float], ...] = (
        (car, counts.cars, in_lane, 1.05),
        (truck, counts.trucks, in_lane, 0.8),
        (person, counts.people, on_foot, 1.05),
        (pole, counts.poles, at_kerb, 0.9),
    )
    todo: list[tuple[float, float, Callable[[Canvas, float, float], None]]] = []
    for paint, mean, place, nearest in kinds:
        for _ in range(int(random.poisson(mean))):
            todo.append((depth(canvas, nearest), place(canvas), paint))
    for scale, x, paint in sorted(todo, key=lambda item: item[0]):
        paint(canvas, x, scale)


def in_lane(canvas: Canvas) -> float:
    """Metres from the axis of something in a lane, or parked at the kerb."""
    side = 1 if canvas.random.random() < 0.5 else -1
    share = 0.5 if canvas.random.random() < 0.5 else 0.8
    return side * (canvas.half_road * share + 0.3 * float(canvas.random.standard_normal()))


def on_foot(canvas: Canvas) -> float:
    """Metres from the axis of somebody: mostly on a sidewalk, sometimes on the road."""
    side = 1 if canvas.random.random() < 0.5 else -1
    if canvas.random.random() < 0.2:
        return side * canvas.half_road * canvas.random.random()
    return side * (canvas.half_road + canvas.sidewalks[side] * (0.15 + 0.8 * canvas.random.random()))


def at_kerb(canvas: Canvas) -> float:
    """Metres from the axis of a pole."""
    side = 1 if canvas.random.random() < 0.5 else -1
    return side * (canvas.half_road + 0.35)


# --------------------------------------------------------------------------------------------------------------------
# Things, each with its foot x metres right of the axis and `scale` pixels a metre
# --------------------------------------------------------------------------------------------------------------------


def foot(canvas: Canvas, x: float, scale: float) -> tuple[float, float]:
    """Column and row of a point on the ground."""
    return canvas.vanishing + x * scale, canvas.horizon + canvas.height * scale


def car(canvas: Canvas, x: float, scale: float) -> None:
    """A car from the front or back: body, cabin with glass, wheels, lights, and its shadow on the road."""
    column, row = foot(canvas, x, scale)
    half = scale * uniform(canvas.random, (0.9, 1.05)) * (1 + 0.12 * min(abs(x), 4.0))
    tall = scale * uniform(canvas.random, (1.4, 1.65))
    paint = canvas.instance("vehicle", ToyClass.CAR)
    glass = canvas.instance("glass", ToyClass.CAR)
    rubber = canvas.instance("rubber", ToyClass.CAR)
    canvas.box(
        canvas.instance("rubber", ToyClass.ROAD, 1.3),
        scale,
        column - half,
        row - 0.1 * tall,
        column + half,
        row + 0.05 * tall,
    )
    canvas.box(rubber, scale, column - half, row - 0.3 * tall, column - 0.6 * half, row)
    canvas.box(rubber, scale, column + 0.6 * half, row - 0.3 * tall, column + half, row)
    canvas.box(paint, scale, column - 0.76 * half, row - tall, column + 0.76 * half, row - 0.5 * tall)
    canvas.box(glass, scale, column - 0.64 * half, row - 0.9 * tall, column + 0.64 * half, row - 0.58 * tall)
    canvas.box(paint, scale, column - half, row - 0.6 * tall, column + half, row - 0.14 * tall)
    lamp = canvas.instance("sign", ToyClass.CAR)
    canvas.box(lamp, scale, column - 0.95 * half, row - 0.5 * tall, column - 0.7 * half, row - 0.36 * tall)
    canvas.box(lamp, scale, column + 0.7 * half, row - 0.5 * tall, column + 0.95 * half, row - 0.36 * tall)


def truck(canvas: Canvas, x: float, scale: float) -> None:
    """A truck from behind: a tall cargo box, a dark underside and wheels."""
    column, row = foot(canvas, x, scale)
    half = scale * uniform(canvas.random, (1.2, 1.4)) * (1 + 0.1 * min(abs(x), 4.0))
    tall = scale * uniform(canvas.random, (3.0, 3.8))
    paint = canvas.instance("vehicle", ToyClass.TRUCK)
    edge = canvas.instance("vehicle", ToyClass.TRUCK, 0.7)
    rubber = canvas.instance("rubber", ToyClass.TRUCK)
    canvas.box(
        canvas.instance("rubber", ToyClass.ROAD, 1.3),
        scale,
        column - half,
        row - 0.05 * tall,
        column + half,
        row + 0.02 * tall,
    )
    canvas.box(rubber, scale, column - half, row - 0.2 * tall, column - 0.55 * half, row)
    canvas.box(rubber, scale, column + 0.55 * half, row - 0.2 * tall, column + half, row)
    canvas.box(edge, scale, column - half, row - tall, column + half, row - 0.12 * tall)
    canvas.box(paint, scale, column - 0.86 * half, row - 0.95 * tall, column + 0.86 * half, row - 0.22 * tall)


def person(canvas: Canvas, x: float, scale: float) -> None:
    """Somebody standing: legs, torso, head."""
    column, row = foot(canvas, x, scale)
    tall = scale * uniform(canvas.random, (1.9, 2.3))  # a little larger than life, to be seen at this resolution
    half = max(scale * 0.40, 1.2)
    legs = canvas.instance("clothes", ToyClass.PERSON, 0.6)
    torso = canvas.instance("clothes", ToyClass.PERSON)
    head = canvas.instance("skin", ToyClass.PERSON)
    canvas.box(legs, scale, column - 0.7 * half, row - 0.5 * tall, column + 0.7 * half, row)
    canvas.box(torso, scale, column - half, row - 0.84 * tall, column + half, row - 0.44 * tall)
    canvas.box(head, scale, column - 0.55 * half, row - tall, column + 0.55 * half, row - 0.83 * tall)


def pole(canvas: Canvas, x: float, scale: float) -> None:
    """A pole, mostly with a sign, a traffic light or a lamp arm."""
    random = canvas.random
    column, row = foot(canvas, x, scale)
    tall = scale * uniform(random, (4.5, 7.0))
    half = max(scale * 0.13, MIN_POLE / 2)
    metal = canvas.instance("pole", ToyClass.POLE)
    canvas.box(metal, scale, column - half, row - tall, column + half, row)
    draws = random.random(3)
    if draws[0] >= canvas.style.counts.signs:
        reach = -np.sign(x) * 1.6 * scale
        canvas.box(
            metal, scale, min(column, column + reach), row - tall, max(column, column + reach), row - tall + 2 * half
        )
        return
    centre = row - tall * (0.55 + 0.4 * draws[1])
    if draws[2] < 0.65:
        size = max(scale * 0.55, MIN_SIGN / 2)
        canvas.box(
            canvas.instance("sign", ToyClass.SIGN), scale, column - size, centre - size, column + size, centre + size
        )
        return
    wide, long = max(scale * 0.35, MIN_SIGN / 2), max(scale * 0.8, MIN_SIGN)
    canvas.box(
        canvas.instance("rubber", ToyClass.SIGN), scale, column - wide, centre - long, column + wide, centre + long
    )
    lamp = canvas.instance("sign", ToyClass.SIGN, 1.3)
    canvas.box(lamp, scale, column - 0.6 * wide, centre - 0.8 * long, column + 0.6 * wide, centre - 0.1 * long)


def tree(canvas: Canvas, x: float, scale: float) -> None:
    """A trunk (which counts as vegetation) and a crown of three ellipses."""
    random = canvas.random
    column, row = foot(canvas, x, scale)
    tall = scale * uniform(random, (3.5, 6.5))
    trunk = canvas.instance("trunk", ToyClass.VEGETATION)
    half = max(scale * 0.18, 1.0)
    canvas.box(trunk, scale, column - half, row - 0.6 * tall, column + half, row)
    crown = canvas.instance("vegetation", ToyClass.VEGETATION)
    bright = canvas.instance("vegetation", ToyClass.VEGETATION, 1.12)
    offsets = random.uniform(-0.14, 0.14, (3, 2)) * tall
    for colour, (dx, dy), size in zip((crown, bright, crown), offsets.tolist(), (0.27, 0.22, 0.18), strict=True):
        canvas.ellipse(colour, scale, column + dx, row - 0.72 * tall + dy, size * tall, size * tall)


# --------------------------------------------------------------------------------------------------------------------
# Textures and the camera
# --------------------------------------------------------------------------------------------------------------------


def settled(values: NDArray[np.float64]) -> Floats:
    """Values rounded to 1/4096: float64's last bits, in which CPUs differ, are gone."""
    return np.asarray(np.rint(values * GRID) / GRID, np.float32)


@cache
def patterns() -> dict[str, Floats]:
    """The patterns by name, each [TILE, TILE], periodic, of mean 0 and deviation 1; `smooth` is for illumination."""
    random = np.random.Generator(np.random.SFC64(np.random.SeedSequence(TILE_SEED)))
    y, x = np.mgrid[:TILE, :TILE]
    raw = {
        "white": random.standard_normal((TILE, TILE)),
        "fine": _smooth(random, 0.8),
        "medium": _smooth(random, 1.8),
        "coarse": _smooth(random, 5.0),
        "windows": -1.0 * ((y % 8 >= 2) & (y % 8 < 6) & (x % 8 >= 2) & (x % 8 < 6)),
        "slats": 1.0 * (x % 4 < 2),
        "stripes": 1.0 * (y % 4 < 2),
        "paving": 1.0 * ((y // 4 + x // 4) % 2),
        "smooth": _smooth(random, 24.0),
    }
    return {name: settled((field - field.mean()) / field.std()) for name, field in raw.items()}


def _smooth(random: Generator, sigma: float) -> NDArray[np.float64]:
    """White noise under a periodic Gaussian blur."""
    frequency = np.fft.fftfreq(TILE)
    falloff = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    spectrum = np.fft.fft2(random.standard_normal((TILE, TILE))) * falloff[:, None] * falloff
    return np.asarray(np.fft.ifft2(spectrum).real)


@cache
def tiles(style: Style) -> Floats:
    """The texture of each material, [materials, TILE, TILE]."""
    names = [item.name for item in fields(Texture)]
    total = np.zeros((len(MATERIALS), TILE, TILE), np.float32)
    for material, index in MATERIALS.items():
        texture = getattr(style.materials, material).texture
        for name in names:
            total[index] += np.float32(getattr(texture, name)) * patterns()[name]
    return total


@cache
def paints(style: Style) -> Floats:
    """Red, green, blue, brightness and tint of each material, [5, materials]."""
    settings: list[Material] = [getattr(style.materials, material) for material in MATERIALS]
    return np.asarray([(*item.colour, item.brightness, item.tint) for item in settings], np.float32).T.copy()


def window(random: Generator, size: tuple[int, int]) -> NDArray[np.int64]:
    """Places [H, W] of a random window in a flattened tile."""
    top, left = random.integers(0, TILE, 2).tolist()
    rows, columns = (top + np.arange(size[0])) % TILE, (left + np.arange(size[1])) % TILE
    places: NDArray[np.int64] = rows[:, None] * TILE + columns
    return places


def photograph(canvas: Canvas) -> Bytes:
    """Colour every pixel by its instance and put the picture through the imaging chain: [3, H, W] uint8."""
    random, imaging = canvas.random, canvas.style.imaging
    materials = np.asarray(canvas.materials)
    image = colours(canvas, materials).take(canvas.instances, axis=1)
    image += tiles(canvas.style).take(window(random, canvas.size) + (TILE * TILE * materials).take(canvas.instances))
    grey = (image[0] + image[1] + image[2]) / np.float32(3)
    image -= grey
    image *= np.float32(imaging.saturation)
    image += grey
    haze = plane_values(imaging.haze)
    image -= haze
    image *= settled(np.exp(-imaging.fog * canvas.metres(canvas.scales).astype(np.float64)))
    image += haze
    image *= exposure(random, imaging.illumination, imaging.gain, canvas.size)
    image += plane_values(imaging.cast)
    image = blur(image, np.float32(imaging.blur))
    image += np.float32(imaging.noise) * random.standard_normal(image.shape, np.float32)
    return response(uniform(random, imaging.gamma)).take(np.rint(image).clip(0, 255).astype(np.uint8))


def colours(canvas: Canvas, materials: NDArray[np.int64]) -> Floats:
    """Colours of all instances, [3, instances]."""
    settings = paints(canvas.style)[:, materials]
    draws = canvas.random.standard_normal((4, len(materials)), np.float32)
    drawn = settings[:3] + settings[3] * draws[0] + settings[4] * draws[1:]
    return np.asarray(np.asarray(canvas.shades, np.float32) * drawn).clip(4, 251)


def plane_values(colour: tuple[float, float, float]) -> Floats:
    """A colour to be added to planes, [3, 1, 1]."""
    return np.asarray(colour, np.float32)[:, None, None]


def exposure(random: Generator, illumination: float, gain: Range, size: tuple[int, int]) -> Floats:
    """A smooth factor over the image, [H, W]."""
    factor = 1 + np.float32(illumination) * patterns()["smooth"].take(window(random, size))
    return np.asarray(factor * np.float32(uniform(random, gain)))


def blur(image: Floats, weight: np.float32) -> Floats:
    """A three-tap blur of rows and columns; the border repeats."""
    for axis in (1, 2):
        padded = np.concatenate([image.take([0], axis), image, image.take([-1], axis)], axis)
        neighbours = padded[:, :-2] + padded[:, 2:] if axis == 1 else padded[:, :, :-2] + padded[:, :, 2:]
        image = image * (1 - 2 * weight) + neighbours * weight
    return image


def response(gamma: float) -> Bytes:
    """The camera's response: grey level -> grey level, [256]."""
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
