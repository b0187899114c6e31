"""How long a ToyCity scene takes: milliseconds per 64 x 128 image on one core, at most 4 are allowed.

    python -m tests.benchmarks.toy_city_renderer

Beside each style stands the time that Pillow takes, in turn with it, to decode the same image and its label from PNG
files in memory: what a folder of such files would cost. The figures are CPU times, so a busy machine disturbs
them little; the best of several rounds counts.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from trainables.data.toy_city.scenes import generator, render
from trainables.data.toy_city.styles import ARCADE, DIORAMA, Style, target_style

SIZE = (64, 128)
IMAGES, ROUNDS = 100, 7
LIMIT_MS = 4.0
STYLES = (("source, arcade", ARCADE, 0), ("source, diorama", DIORAMA, 0), ("target", target_style(0.7), 1))


def main() -> int:
    """Print the table; 1 where a style takes longer than allowed."""
    print(f"{'style':<22}{'render':>10}{'decode':>10}{'ratio':>8}")
    slowest = 0.0
    for name, style, pool in STYLES:
        rendered, decoded = measure(style, pool)
        slowest = max(slowest, rendered)
        print(f"{name:<22}{rendered:>7.2f} ms{decoded:>7.2f} ms{rendered / decoded:>8.1f}")
    print(f"allowed: {LIMIT_MS} ms an image; 1000 images take {slowest:.1f} s at most")
    return int(slowest > LIMIT_MS)


def measure(style: Style, pool: int) -> tuple[float, float]:
    """Milliseconds to render an image, and to decode it from PNG."""
    files = [file for index in range(IMAGES) for file in png_files(style, pool, index)]

    def render_all() -> None:
        for index in range(IMAGES):
            render(style, SIZE, generator(0, pool, index))

    def decode_all() -> None:
        for file in files:
            with Image.open(io.BytesIO(file)) as image:
                np.asarray(image)

    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for place, work in enumerate((render_all, decode_all)):
            best[place] = min(best[place], milliseconds(work))
    return best[0], best[1]


def milliseconds(work: Callable[[], None]) -> float:
    """CPU time of one of the images."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started) / IMAGES


def png_files(style: Style, pool: int, index: int) -> tuple[bytes, bytes]:
    """An image and its label as PNG files."""
    image, label = render(style, SIZE, generator(0, pool, index))
    return png(image.transpose(1, 2, 0)), png(label)


def png(pixels: np.ndarray) -> bytes:
    """An array [H, W, 3] or [H, W] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
