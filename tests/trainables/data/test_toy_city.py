"""The embedded benchmark: what a scene depends on, what it holds, and that its pixels stay what they are."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.trainables.data.toy_city_digest import arithmetic_digest, scenes_digest
from trainables.config import RareClassSampling, SourceHoldout, SourceStyle, ToyCity
from trainables.data.classes import TOY_CITY_CLASSES
from trainables.data.toy_city.domains import Pool, ToyCityDomains, draw_pool
from trainables.data.toy_city.scenes import generator, render
from trainables.data.toy_city.styles import (
    ARCADE,
    DIORAMA,
    OVERCAST,
    Style,
    ToyClass,
    absent_classes,
    between,
    target_style,
)
from trainables.randomness import Streams

ROOT = Path(__file__).parents[3]
SIZE = (64, 128)
TARGET = target_style(0.7)
CPU = torch.device("cpu")
SMALL = ToyCity(image_size=(32, 64), source_images=6, target_images=5, validation_images=4)

DIGEST = "42b47fe2e053e94d5ff49bfb47d06dad6c7fc0883c683efe6429359d64c59c40"  # of `scenes_digest`


def labels(style: Style, pool: Pool, count: int = 60) -> NDArray[np.uint8]:
    return draw_pool(style, SIZE, count, 0, pool).label.numpy()


# -- what an image depends on ------------------------------------------------------------------------------------------


@given(index=st.integers(0, 40), count=st.integers(1, 6), seed=st.integers(0, 3), pool=st.sampled_from(Pool))
@settings(max_examples=15)
def test_image_i_is_the_same_alone_and_in_pools_of_any_size(index: int, count: int, seed: int, pool: Pool) -> None:
    index %= count
    pooled = draw_pool(TARGET, (32, 64), count, seed, pool)
    image, label = render(TARGET, (32, 64), generator(seed, pool, index))
    assert torch.equal(pooled.image[index], torch.from_numpy(image))
    assert torch.equal(pooled.label[index], torch.from_numpy(label))


def test_the_order_in_which_images_are_drawn_does_not_matter() -> None:
    forwards = [render(ARCADE, SIZE, generator(0, Pool.SOURCE, i))[0] for i in range(4)]
    backwards = [render(ARCADE, SIZE, generator(0, Pool.SOURCE, i))[0] for i in reversed(range(4))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_pools_and_scene_seeds_have_scenes_of_their_own() -> None:
    seen = set()
    for seed in (0, 1):
        for pool in Pool:
            for label in draw_pool(TARGET, (32, 64), 20, seed, pool).label:
                seen.add(label.numpy().tobytes())
    assert len(seen) == 2 * len(Pool) * 20


def test_the_target_does_not_depend_on_the_source() -> None:
    """Both sources are scored on the same target images, so that a table can hold them side by side."""
    arcade = ToyCityDomains(SMALL, CPU)
    diorama = ToyCityDomains(replace(SMALL, source=SourceStyle.DIORAMA), CPU)
    for a, b in zip(arcade.validation(), diorama.validation(), strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.label, b.label)
    streams = Streams(0)
    assert torch.equal(arcade.target(streams, 3, 4).image, diorama.target(streams, 3, 4).image)
    assert not torch.equal(arcade.source(streams, 3, 4).image, diorama.source(streams, 3, 4).image)


# -- the benchmark stays what it is ------------------------------------------------------------------------------------


def test_pixels_are_those_of_the_published_benchmark() -> None:
    """Numbers of different releases, Pythons and machines are comparable only where the images are bitwise the same.

    A change of this checksum is a new benchmark: say so in the changelog.
    """
    assert scenes_digest() == DIGEST


@pytest.mark.skipif(platform.machine() != "x86_64", reason="turns off vector instructions of x86-64")
def test_pixels_do_not_depend_on_the_kind_of_cpu() -> None:
    """On an older CPU exponentials and sines have other last bits, in numpy and the C library; no pixel shows it."""
    older = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"]),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-FMA4",
    }
    command = [sys.executable, "-W", "ignore", "-m", "tests.trainables.data.toy_city_digest"]
    done = subprocess.run(command, env=os.environ | older, capture_output=True, text=True, check=True, cwd=ROOT)
    arithmetic, scenes = done.stdout.split()
    if arithmetic == arithmetic_digest():
        pytest.skip("turning off this CPU's vector instructions changes no last bit, so there is nothing to compare")
    assert scenes == DIGEST


# -- what scenes hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (32, 64), (64, 128), (65, 97)])
@pytest.mark.parametrize("style", [ARCADE, DIORAMA, TARGET, OVERCAST], ids=["arcade", "diorama", "target", "overcast"])
def test_images_and_labels_are_bytes_of_the_size_asked_for(style: Style, size: tuple[int, int]) -> None:
    for index in range(5):
        image, label = render(style, size, generator(1, Pool.SOURCE, index))
        assert (image.shape, image.dtype) == ((3, *size), np.uint8)
        assert (label.shape, label.dtype) == (size, np.uint8)
        assert label.max() < len(ToyClass)
        assert image.std() > 5  # a picture, not one grey


def test_names_of_the_classes_are_in_the_order_of_their_ids() -> None:
    assert tuple(item.name.lower() for item in ToyClass) == TOY_CITY_CLASSES
    assert [int(item) for item in ToyClass] == list(range(12))


@pytest.mark.parametrize(("style", "pool"), [(ARCADE, Pool.SOURCE), (TARGET, Pool.TARGET), (TARGET, Pool.VALIDATION)])
def test_every_class_fills_a_share_that_a_small_network_can_learn(style: Style, pool: Pool) -> None:
    """Every class has at least 1 % of the pixels and stands in a third of the images; none has more than a third."""
    found = labels(style, pool)
    for item in ToyClass:
        assert 0.01 < (found == item).mean() < 0.34, item
        assert (found == item).any(axis=(1, 2)).mean() > 1 / 3, item


def test_diorama_lacks_two_classes_and_names_the_mean_over_the_other_ten() -> None:
    absent = {ToyClass.TERRAIN, ToyClass.TRUCK}
    assert absent_classes(DIORAMA) == absent
    assert set(np.unique(labels(DIORAMA, Pool.SOURCE)).tolist()) == {int(item) for item in ToyClass} - absent
    config = ToyCity(
        source=SourceStyle.DIORAMA, image_size=(32, 64), source_images=2, target_images=2, validation_images=2
    )
    expected = tuple(index for index in range(12) if index not in (7, 11))
    assert dict(ToyCityDomains(config, CPU).means) == {"miou10": expected}
    assert dict(ToyCityDomains(SMALL, CPU).means) == {}


def test_things_are_wide_enough_to_be_seen() -> None:
    """Poles and signs stand on at least two pixels a row: thinner ones stay at IoU 0 for every network of this size."""
    found = labels(ARCADE, Pool.SOURCE)
    for item in (ToyClass.POLE, ToyClass.SIGN):
        mask = np.pad(found == item, ((0, 0), (0, 0), (1, 1)))
        alone = mask[:, :, 1:-1] & ~mask[:, :, :-2] & ~mask[:, :, 2:]
        assert alone.sum() < 0.15 * mask.sum()  # what is left is partly hidden, or at the border


# -- the gap between the domains ---------------------------------------------------------------------------------------


def test_a_shift_of_0_is_the_source_and_every_number_moves_in_proportion() -> None:
    assert target_style(0.0) == ARCADE
    assert target_style(1.0) == OVERCAST
    half = between(ARCADE, OVERCAST, 0.5)
    assert half.imaging.noise == (ARCADE.imaging.noise + OVERCAST.imaging.noise) / 2
    assert half.materials.road.colour == tuple(
        (a + b) / 2 for a, b in zip(ARCADE.materials.road.colour, OVERCAST.materials.road.colour, strict=True)
    )


def test_the_target_is_greyer_hazier_and_noisier_than_the_source_and_has_as_much_of_each_class() -> None:
    """The gap is one of appearance: a colour classifier of the source fails on the target, not the layout."""
    source, target = (draw_pool(s, SIZE, 60, 0, p) for s, p in ((ARCADE, Pool.SOURCE), (TARGET, Pool.TARGET)))
    assert _saturation(target.image) < 0.7 * _saturation(source.image)
    sky = int(ToyClass.SKY)
    assert _roughness(target.image, target.label == sky) > 1.2 * _roughness(source.image, source.label == sky)
    shares = [torch.bincount(pool.label.flatten(), minlength=12) / pool.label.numel() for pool in (source, target)]
    ratio = shares[1] / shares[0]
    assert float(ratio.min()) > 0.5
    assert float(ratio.max()) < 2


def test_colours_of_the_source_label_the_target_much_worse_than_the_source() -> None:
    """Nearest mean colour, the crudest network: right on the source far more often than on the target."""
    source, held_out = draw_pool(ARCADE, SIZE, 60, 0, Pool.SOURCE), draw_pool(ARCADE, SIZE, 20, 0, Pool.VALIDATION)
    target = draw_pool(TARGET, SIZE, 20, 0, Pool.VALIDATION)
    pixels, label = _pixels(source.image), source.label.flatten().long()
    means = torch.stack([pixels[label == index].mean(0) for index in range(12)])

    def mean_recall(image: torch.Tensor, truth: torch.Tensor) -> float:
        nearest = torch.cdist(_pixels(image), means).argmin(dim=1)
        wanted = truth.flatten().long()
        return float(torch.stack([(nearest[wanted == index] == index).float().mean() for index in range(12)]).mean())

    assert mean_recall(held_out.image, held_out.label) > 1.4 * mean_recall(target.image, target.label)


def _pixels(image: torch.Tensor) -> torch.Tensor:
    return image.float().permute(0, 2, 3, 1).reshape(-1, 3)


def _saturation(image: torch.Tensor) -> float:
    pixels = image.float()
    return float((pixels.amax(1) - pixels.amin(1)).mean())


def _roughness(image: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean difference of horizontal neighbours within a mask."""
    both = mask[:, :, 1:] & mask[:, :, :-1]
    grey = image.float().mean(1)
    return float((grey[:, :, 1:] - grey[:, :, :-1]).abs()[both].mean())


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    domains = ToyCityDomains(SMALL, CPU)
    first = [domains.source(Streams(7), step, 3) for step in (0, 1, 2)]
    again = [domains.source(Streams(7), step, 3) for step in (2, 1, 0)]
    for a, b in zip(first, reversed(again), strict=True):
        assert torch.equal(a.image, b.image)
        assert a.label is not None
        assert b.label is not None
        assert torch.equal(a.label, b.label)
    assert not torch.equal(first[0].image, first[1].image)


def test_labels_are_mirrored_with_their_images_and_hidden_from_the_step_on_the_target() -> None:
    domains = ToyCityDomains(SMALL, CPU)
    streams = Streams(0)
    kinds = set()
    for step in range(12):
        batch = domains.labelled_target(streams, step, 2)
        assert domains.target(streams, step, 2).label is None
        assert torch.equal(domains.target(streams, step, 2).image, batch.image)
        assert batch.label is not None
        for image, label in zip(batch.image, batch.label, strict=True):
            kinds.add(_mirrored(domains, image, label))
    assert kinds == {True, False}


def _mirrored(domains: ToyCityDomains, image: torch.Tensor, label: torch.Tensor) -> bool:
    """Whether a pair is an image of the target pool mirrored, its label with it; fails where it is neither."""
    pool = draw_pool(TARGET, SMALL.image_size, SMALL.target_images, SMALL.scene_seed, Pool.TARGET)
    scale, mean = torch.tensor(domains.std).view(3, 1, 1), torch.tensor(domains.mean).view(3, 1, 1)
    pixels = (image * scale + mean).round().to(torch.uint8)
    for stored, truth in zip(pool.image, pool.label, strict=True):
        for flip in (False, True):
            if torch.equal(pixels, stored.flip(-1) if flip else stored):
                assert torch.equal(label, (truth.flip(-1) if flip else truth).long())
                return flip
    raise AssertionError("the image is not one of the pool")


def test_images_are_normalised_by_the_constants_that_the_domains_name() -> None:
    domains = ToyCityDomains(SMALL, CPU)
    example = next(domains.validation())
    raw = draw_pool(TARGET, (32, 64), SMALL.validation_images, 0, Pool.VALIDATION).image[0].float()
    expected = (raw - torch.tensor(domains.mean).view(3, 1, 1)) / torch.tensor(domains.std).view(3, 1, 1)
    assert torch.allclose(example.image[0], expected, atol=1e-6)
    assert example.label.dtype == torch.int64


@pytest.mark.parametrize("sampling", [None, RareClassSampling(min_pixels=3)])
def test_held_out_source_images_are_never_drawn(sampling: RareClassSampling | None) -> None:
    """Neither in training nor in the warm start; and every other image that can be drawn is, sooner or later."""
    config = replace(SMALL, source_images=20)
    domains = ToyCityDomains(config, CPU, sampling, holdout=SourceHoldout(share=0.2))
    held_out = {_either_way(example.image[0]) for example in domains.held_out()}
    assert len(held_out) == 4
    streams, drawn = Streams(0), set()
    for step in range(40):
        for batch in (domains.source(streams, step, 8), domains.warm_start(streams, step, 8)):
            drawn |= {_either_way(image) for image in batch.image}
    everything = {_either_way(image) for image in ToyCityDomains(config, CPU).source(streams, 0, 400).image}
    assert len(everything) == 20
    assert drawn == everything - held_out
    assert list(ToyCityDomains(config, CPU).held_out()) == []


def _either_way(image: torch.Tensor) -> bytes:
    """An image as bytes, the same for its mirror image."""
    return min(image.numpy().tobytes(), image.flip(-1).numpy().tobytes())


def test_source_images_of_a_class_show_it_and_are_not_held_out() -> None:
    """Equal for equal streams; a class that the second source lacks is an empty batch."""
    config = replace(SMALL, source=SourceStyle.DIORAMA, source_images=12)
    domains = ToyCityDomains(config, CPU, holdout=SourceHoldout(share=0.5))
    held_out = [example.image for example in domains.held_out()]
    for step in range(8):
        batch = domains.source_of_class(Streams(0), "paste", step, 10, 2)
        assert batch.label is not None
        assert (batch.label == 10).flatten(1).any(1).all()
        again = ToyCityDomains(config, CPU, holdout=SourceHoldout(share=0.5)).source_of_class(
            Streams(0), "paste", step, 10, 2
        )
        assert torch.equal(batch.image, again.image)
        for image in batch.image:
            assert not any(torch.equal(image, each[0]) or torch.equal(image.flip(-1), each[0]) for each in held_out)
    most = max(int((label == 10).sum()) for label in domains._source.label)
    wide = domains.source_of_class(Streams(0), "paste", 0, 10, 20, more_than=most - 1)
    assert wide.label is not None
    assert set((wide.label == 10).flatten(1).sum(1).tolist()) == {most}
    assert len(domains.source_of_class(Streams(0), "paste", 0, 10, 20, more_than=most).image) == 0
    truck = domains.source_of_class(Streams(0), "paste", 0, 11, 2)
    assert truck.image.shape == (0, 3, *config.image_size)
    with pytest.raises(ValueError, match=r"^source_of_class needs a class_id from 0 to 11, got -1\.$"):
        domains.source_of_class(Streams(0), "paste", 0, -1, 2)


def test_whole_target_images_are_those_of_the_pool_and_depend_on_the_stream_alone() -> None:
    """Never mirrored; another purpose or step draws others."""
    config = ToyCity(image_size=(32, 64), source_images=2, target_images=6, validation_images=2)
    domains = ToyCityDomains(config, CPU)
    pool = domains._normalised(domains._target.image)
    images = domains.target_images(Streams(0), "pairs", 3, 4)
    assert [tuple(image.shape) for image in images] == [(1, 3, 32, 64)] * 4
    assert all(any(torch.equal(image[0], one) for one in pool) for image in images)
    again = ToyCityDomains(config, CPU).target_images(Streams(0), "pairs", 3, 4)
    assert all(map(torch.equal, images, again))
    for other in (domains.target_images(Streams(0), "pairs", 4, 4), domains.target_images(Streams(0), "x", 3, 4)):
        assert not all(map(torch.equal, images, other))
