"""Cars, trucks, people, poles and trees of ToyCity, each with its foot x metres right of the axis, at a scale."""

from __future__ import annotations

import numpy as np

from trainables.data.toy_city.canvas import Canvas, uniform
from trainables.data.toy_city.styles import ToyClass

MIN_POLE, MIN_SIGN = 2, 3  # pixels; thinner things stay at IoU 0 for every network of this size


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
