"""What a config is trained and scored on, as a plan can tell it for the ledger and for trackers."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.trainables.data import native_files as native
from tests.trainables.data.test_pairs import Village
from trainables.config import Experiment, RealPhotographs, ToyCity
from trainables.data.__main__ import main
from trainables.data.splits import PLACES, Split
from trainables.program import Segmentation
from trainables.recipes import PAPER, SMOKE, dacs, oracle, source_only

SOURCE, TARGET, EVALUATION = "training source", "training target", "evaluation"


def told(config: Experiment, **data: object) -> dict[str, tuple[object, ...]]:
    """Use -> name, number of images, size, number of classes."""
    given = {name: str(path) for name, path in data.items()}
    sets = Segmentation().with_data(given).data_sets(config)
    return {each["use"]: (each["name"], *map(each["facts"].get, ("images", "size", "classes"))) for each in sets}


def digests(config: Experiment, **data: object) -> list[str]:
    """Of all its sets."""
    given = {name: str(path) for name, path in data.items()}
    return [each["digest"] for each in Segmentation().with_data(given).data_sets(config)]


def test_pools_of_the_embedded_benchmark_have_digests_that_follow_its_settings() -> None:
    """Three sets of images, no two of them the same; other scenes are other images."""
    config = dacs(SMOKE)
    assert told(config) == {
        SOURCE: ("toy-city-arcade", 32, "32 x 64", 12),
        TARGET: ("toy-city-target", 32, "32 x 64", 12),
        EVALUATION: ("toy-city-target", 16, "32 x 64", 12),
    }
    assert isinstance(config.data, ToyCity)
    other = digests(replace(config, data=replace(config.data, scene_seed=1)))
    assert digests(config) == digests(config)
    assert len({*digests(config), *other}) == 6


@pytest.mark.parametrize(
    ("config", "uses"),
    [
        (dacs(SMOKE), {SOURCE, TARGET, EVALUATION}),
        (source_only(SMOKE), {SOURCE, EVALUATION}),
        (source_only(SMOKE, adapt_statistics=2), {SOURCE, TARGET, EVALUATION}),  # of its target batches
        (oracle(SMOKE), {SOURCE, TARGET, EVALUATION}),  # which begins with training on the source
        (replace(oracle(SMOKE), initial=None), {TARGET, EVALUATION}),
    ],
)
def test_a_config_names_what_it_uses_and_no_more(config: Experiment, uses: set[str]) -> None:
    assert set(told(config)) == uses


def test_stores_are_named_by_split_with_digests_of_their_content(tmp_path: Path) -> None:
    """A store is the same data wherever it lies; one that is not given is not made up."""
    native.gta(tmp_path / "gta", "00001", native.image(), native.all_ids(35))
    for split in ("train", "val"):
        native.cityscapes(tmp_path / "cityscapes", split, "ulm_000000_000001", native.image(), native.all_ids(34))
    given = {name: tmp_path / f"{name}-store" for name in ("gta", "cityscapes")}
    for name, store in given.items():
        assert main(["prepare", name, "--root", str(tmp_path / name), "--out", str(store)]) == 0
    config = dacs(PAPER)
    assert told(config) == {}
    assert told(config, **given) == {
        SOURCE: ("gta", 1, "720 x 1280", 19),
        TARGET: ("cityscapes", 1, "512 x 1024", 19),
        EVALUATION: ("cityscapes", 1, "512 x 1024", 19),
    }
    assert len(set(digests(config, **given))) == 3
    moved = shutil.copytree(given["gta"], tmp_path / "moved")
    assert digests(config, **given) == digests(config, **given | {"gta": moved})


def test_a_folder_of_photographs_is_told_by_its_files(tmp_path: Path) -> None:
    """A file more, or a larger one, is other data."""
    config = replace(dacs(SMOKE), data=RealPhotographs())
    for place in PLACES.values():
        path = tmp_path / place / "images" / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(path)
    assert told(config, realpair=tmp_path)[SOURCE] == ("realpair", 1, "native", None)
    before = digests(config, realpair=tmp_path)
    further = tmp_path / "source/images/b.png"
    Image.new("RGB", (64, 48)).save(further)
    os.utime(further.parent, ns=(1, 1))  # a clock too coarse to tell two writes apart must not matter here
    after = digests(config, realpair=tmp_path)
    (further.parent / "gone.png").symlink_to(tmp_path / "gone.png")
    assert digests(config, realpair=tmp_path) == after  # a plan is no place to stumble over that
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True]


def test_a_file_whose_name_is_no_text_is_a_file_of_its_part(tmp_path: Path) -> None:
    images = tmp_path / PLACES[Split.SOURCE] / "images"
    images.mkdir(parents=True)
    try:
        (images / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("this disk has names of text alone")
    config = replace(dacs(SMOKE), data=RealPhotographs())
    assert told(config, realpair=tmp_path)[SOURCE] == ("realpair", 1, "native", None)


def test_a_pair_of_ones_own_is_told_by_its_settings() -> None:
    """Without a word of its author's."""
    config = replace(dacs(SMOKE), data=Village())
    assert told(config) == {"training and evaluation": ("village", None, "32 x 64", None)}
    assert digests(config) != digests(replace(config, data=Village(images=5)))
