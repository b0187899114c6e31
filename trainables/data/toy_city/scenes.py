"""Street scenes of ToyCity: a painter's algorithm on numpy arrays, from far to near, then the imaging chain.

What is painted is an index of an *instance* (a material, a class) and the scale, which is the depth for the fog;
colours are drawn and looked up once at the end. Boxes are slices, surfaces are broadcast comparisons, and the image
is three planes, whose long rows numpy is fast on: that makes a 64 x 128 scene cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from trainables.data.toy_city.canvas import Bytes, Canvas, Generator, uniform
from trainables.data.toy_city.imaging import photograph, settled
from trainables.data.toy_city.styles import Style, ToyClass
from trainables.data.toy_city.things import car, person, pole, tree, truck


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
    shade = 0.88 if side < 0 else 1.0  # the sun is on the left
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
