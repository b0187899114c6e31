"""QuadMix's mixer against a slow reference that was written from its description, on cases of every shape."""

from __future__ import annotations

import itertools
import re

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.slow_quadmix import Rules, Step, slow_quadmix
from trainables.adaptation.mixer import MixView
from trainables.adaptation.quadmix import QuadMixer
from trainables.config import Exclusion, IgnoredArea, PatchWeight, QuadMix, RarePatches
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.randomness import Recorded
from trainables.step_data import Batch, PseudoLabel

CLASSES = st.lists(st.sampled_from([*range(19), 255]), min_size=1, max_size=8, unique=True)
POOLS = st.lists(st.integers(0, 18), min_size=1, max_size=4)  # a class may be there twice


def random_step(generator: np.random.Generator, shape: tuple[int, int, int], classes: list[int]) -> Step:
    """A step with some of the classes in its labels; pseudo-labels know no ignored area."""
    batch, rows, columns = shape
    images = generator.normal(size=(2, batch, 3, rows, columns)).astype(np.float32)
    known = [one for one in classes if one != 255] or [0]
    return Step(
        source=images[0],
        label=generator.choice(classes, shape),
        target=images[1],
        pseudo=generator.choice(known, shape),
        probability=generator.choice([0.3, 0.9, 1.0], shape),
        weight=generator.uniform(size=shape).astype(np.float32),
    )


def patches(generator: np.random.Generator, shape: tuple[int, int, int]) -> dict[tuple[int, int], Step]:
    """A batch of source images for each of the classes of a step and each view."""
    return {key: random_step(generator, shape, list(range(19))) for key in itertools.product(range(2), range(2))}


def view_of(step: Step, number: int, streams: Recorded, drawn: dict[tuple[int, int], Step]) -> MixView:
    """What the mixer sees."""

    def source_of_class(purpose: str, class_id: int, count: int, more_than: int = 0) -> Batch:
        place, view = map(int, re.findall(r"\d", purpose))
        return Batch(torch.from_numpy(drawn[place, view].source), torch.from_numpy(drawn[place, view].label))

    weight, probability = torch.from_numpy(step.weight), torch.from_numpy(step.probability)
    return MixView(
        step=number,
        total_steps=10,
        streams=streams,
        source=Batch(torch.from_numpy(step.source), torch.from_numpy(step.label)),
        target=Batch(torch.from_numpy(step.target)),
        pseudo=PseudoLabel(torch.from_numpy(step.pseudo), weight, probability, weight.mean()),
        source_of_class=source_of_class,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    classes=CLASSES,
    rules=st.builds(
        Rules,
        source_classes=st.integers(1, 3),
        target_classes=st.integers(1, 3),
        confidence=st.sampled_from([0.0, 0.9, 1.0]),
        exclude=st.sampled_from(["ids", "positions", "none"]),
        draw_ignored=st.booleans(),
        patch_weight=st.sampled_from(["ground", "one"]),
    ),
    pool=st.none() | POOLS,
)
def test_quadmix(
    seed: int, shape: tuple[int, int, int], classes: list[int], rules: Rules, pool: list[int] | None
) -> None:
    """Both views of the second of two steps, for every switch, one class and fewer classes than are drawn."""
    generator = np.random.default_rng(seed)
    before, now = (random_step(generator, shape, classes) for _ in range(2))
    drawn = patches(generator, shape)
    keys = generator.uniform(size=(2, shape[0], 256))
    rare = [] if pool is None else generator.permutation(pool).tolist()[:2]
    streams = Recorded(
        0,
        {
            ("quadmix source classes", 4, 0): torch.from_numpy(keys[0]),
            ("quadmix target classes", 4, 0): torch.from_numpy(keys[1]),
            ("quadmix rare classes", 4, 0): torch.arange(len(rare)),
        },
    )
    own = QuadMix(
        start=0.3,
        source_classes=rules.source_classes,
        target_classes=rules.target_classes,
        confidence=rules.confidence,
        exclude=Exclusion(rules.exclude),
        ignored=IgnoredArea.DRAW if rules.draw_ignored else IgnoredArea.SKIP,
        rare=RarePatches(classes=tuple(rare), weight=PatchWeight(rules.patch_weight)) if rare else None,
    )
    mixer = QuadMixer(own)
    mixer.mix(view_of(before, 3, streams, drawn))
    views = mixer.mix(view_of(now, 4, streams, drawn))
    expected = slow_quadmix(
        now,
        before,
        rules,
        (keys[0], keys[1]),
        rare,
        lambda place, view, image: (drawn[place, view].source[image], drawn[place, view].label[image]),
    )
    assert len(views) == len(expected) == 2
    for mixed, pixels in zip(views, expected, strict=True):
        for (image, row, column), pixel in pixels.items():
            assert tuple(mixed.image[image, :, row, column].tolist()) == pixel.colour
            assert int(mixed.label[image, row, column]) == pixel.label
            assert float(mixed.weight[image, row, column]) == pixel.weight
            assert bool(mixed.pasted[image, 0, row, column]) == pixel.of_source
