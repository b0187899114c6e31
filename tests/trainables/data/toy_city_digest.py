"""A checksum of the embedded benchmark's first scenes. Imports no torch, so that a process of its own starts fast."""

from __future__ import annotations

import hashlib
import sys

import numpy as np

from trainables.data.toy_city.scenes import generator, render
from trainables.data.toy_city.styles import ARCADE, DIORAMA, target_style

SCENES = 10


def scenes_digest() -> str:
    """SHA-256 of images and labels 0 to 9 of scene seed 0: ARCADE, DIORAMA, and the target at shift 0.7."""
    found = hashlib.sha256()
    for style, pool in ((ARCADE, 0), (DIORAMA, 0), (target_style(0.7), 1)):
        for index in range(SCENES):
            for array in render(style, (64, 128), generator(0, pool, index)):
                found.update(array.tobytes())
    return found.hexdigest()


def arithmetic_digest() -> str:
    """SHA-256 of exponentials and sines, whose last bits depend on the CPU."""
    points = np.random.default_rng(0).random(10_000)
    found = hashlib.sha256()
    for function in (np.exp, np.sin):
        for kind in (np.float32, np.float64):
            found.update(function(points.astype(kind)).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(f"{arithmetic_digest()} {scenes_digest()}")
