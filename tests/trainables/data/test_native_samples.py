"""Real files in every native layout read as their documentation says (needs ../shared/data/native)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainables.data.__main__ import main
from trainables.data.datasets import find_dataset
from trainables.data.label_map import read_label_map
from trainables.data.packing.check import check, read_sample
from trainables.data.packing.format import Store
from trainables.data.readers import Fault, Reader, read_ids, read_image
from trainables.data.splits import Split


@pytest.fixture(scope="module")
def samples(shared: Path) -> Path:
    return shared / "data" / "native"


def read_all(reader: Reader, root: Path, split: Split) -> tuple[set[tuple[int, ...]], set[int], int]:
    """Sizes, trainIds and number of the samples of a split, which has no problems."""
    found = reader.find(root, split)
    assert found.problems == ()
    sizes, ids = set(), set()
    for sample in found.samples:
        image, label = read_sample(reader, sample)
        assert label is not None
        sizes.add(image.shape[:2])
        ids |= set(np.unique(label).tolist())
    return sizes, ids, len(found.samples)


def test_cityscapes_frames(samples: Path) -> None:
    every = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 18, 255}
    assert read_all(find_dataset("cityscapes"), samples / "cityscapes", Split.TRAIN) == ({(1024, 2048)}, every, 3)


def test_cityscapes_label_ids_become_the_train_ids_that_lie_beside_them(samples: Path) -> None:
    """But for a few pixels on borders: whoever shrank this frame shrank its two label files one by one."""
    (sample,) = find_dataset("cityscapes").find(samples / "cityscapes", Split.VAL).samples
    assert sample.label is not None
    beside = read_ids(sample.label.with_name(sample.label.name.replace("labelIds", "labelTrainIds")))
    assert (find_dataset("cityscapes").train_ids(sample.label) != beside).mean() < 0.003


def test_camvid_frames(samples: Path) -> None:
    every = {0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 18, 255}
    seen = set()
    for split in find_dataset("camvid").splits:
        sizes, ids, count = read_all(find_dataset("camvid"), samples / "camvid_segnet", split)
        assert (sizes, count) == ({(360, 480)}, 4)
        seen |= ids
    assert seen == every


def test_lyft_frames(samples: Path) -> None:
    sizes, ids, count = read_all(find_dataset("carla-lyft"), samples / "lyft_carla", Split.TRAIN)
    assert (sizes, count) == ({(600, 800)}, 3)
    assert ids <= {0, 1, 2, 3, 4, 5, 7, 8, 10, 11, 13, 255}
    assert {0, 1, 2, 8, 10, 13, 255} <= ids


def test_carlascapes_frame(samples: Path) -> None:
    sizes, ids, count = read_all(find_dataset("carlascapes"), samples / "carlascapes", Split.TRAIN)
    assert (sizes, count) == ({(1024, 2048)}, 1)
    assert {0, 1, 2, 5, 8, 10, 11, 13, 17} <= ids


def test_airsim_frames_by_a_label_map_of_colours(samples: Path, tmp_path: Path) -> None:
    colours = json.loads((samples / "airsim_nh" / "colour_to_trainid.json").read_text())
    splits = {"train": {"images": "train/image/image_*.png", "labels": "train/label/segmentation_*.png"}}
    (tmp_path / "map.json").write_text(json.dumps({"splits": splits, "train_ids": colours, "others": 255}))
    reader = read_label_map(tmp_path / "map.json")
    sizes, ids, count = read_all(reader, samples / "airsim_nh", Split.TRAIN)
    assert (sizes, count) == ({(144, 256)}, 6)
    assert {0, 2, 8, 9, 10, 13} <= ids


def test_carla_colours_by_a_label_map(samples: Path, tmp_path: Path) -> None:
    colours = {"#804080": 0, "#f423e8": 1, "#464646": 2, "#999999": 5, "#6b8e23": 8, "#dcdc00": 7, "#00008e": 13}
    splits = {"train": {"images": "RGB/*.png", "labels": "Segmentation_Images/*.png"}}
    (tmp_path / "map.json").write_text(json.dumps({"splits": splits, "train_ids": colours, "others": 255}))
    sizes, ids, count = read_all(read_label_map(tmp_path / "map.json"), samples / "carla_colour", Split.TRAIN)
    assert (sizes, count) == ({(540, 960)}, 1)
    assert {0, 1, 2, 5, 8, 13} <= ids


@pytest.mark.parametrize(
    ("layout", "images", "labels"),
    [
        ("rand", "RGB/*.png", "GT/*.png"),
        ("rand_custom_labelmap", "RGB/*.png", "GT/*.png"),
        ("rand_meta_file", "RGB/*.png", "GT/*.png"),
        ("sf", "RGBLeft/*.png", "GTLeft/*.png"),
        ("al", "RGB/*.png", "SemSeg/*.png"),
    ],
)
def test_colours_of_synthias_other_layouts_by_a_label_map(
    samples: Path, tmp_path: Path, layout: str, images: str, labels: str
) -> None:
    colours = {"#000040": 10, "#008080": 2, "#800040": 11, "#00c080": 0, "#800000": 2, "#804080": 0, "#808080": 10}
    colours |= {"#98fb98": 9, "#dcdc00": 7, "#4682b4": 10, "#464646": 2, "#404000": 11, "#400080": 13, "#0080c0": 18}
    splits = {"train": {"images": images, "labels": labels}}
    (tmp_path / "map.json").write_text(json.dumps({"splits": splits, "train_ids": colours, "others": 255}))
    root = samples / "synthia_layout_dummy" / layout
    sizes, ids, count = read_all(read_label_map(tmp_path / "map.json"), root, Split.TRAIN)
    assert (sizes, count) == ({(1, 5)}, 2)
    assert {"sf": {0, 2, 7, 9, 10}, "al": {0, 10, 11, 13, 18}}.get(layout, {0, 2}) <= ids


def test_a_gta_frame_without_its_label_reads_and_is_named_as_a_fault(samples: Path) -> None:
    root = samples / "gta5_image_only"
    (problem,) = find_dataset("gta").find(root, Split.TRAIN).problems
    assert problem.fault is Fault.IMAGE_WITHOUT_LABEL
    assert read_image(root / problem.path).shape == (1052, 1914, 3)


def test_every_frame_of_idd_lite_reads_with_the_shares_of_its_classes(shared: Path) -> None:
    """1,403 + 99 images; percent of the pixels of the training labels, to a tenth."""
    reader = find_dataset("idd-lite")
    root = shared / "data" / "cities" / "idd_lite"
    checked = check(reader, root, reader.splits, 2, lambda part, done, total, broken: None)
    assert checked.problems == ()
    assert [len(reader.find(root, split).samples) for split in reader.splits] == [1403, 99]
    pixels = np.array(checked.pixels[Split.TRAIN][:-1])
    shares = 100 * pixels / pixels.sum()
    np.testing.assert_allclose(shares, [32.4, 2.2, 1.3, 8.1, 11.2, 26.0, 18.9], atol=0.06)


@pytest.mark.slow
def test_camvids_training_labels_have_the_shares_of_idd_lites_classes(shared: Path) -> None:
    """Percent of all pixels of 367 labels, to a tenth; the rest is void or bicyclist."""
    reader = find_dataset("camvid-seven")
    found = reader.find(shared / "data" / "cities" / "camvid", Split.TRAIN)
    labels = [reader.train_ids(sample.label) for sample in found.samples if sample.label is not None]
    assert (len(labels), found.problems) == (367, ())
    shares = 100 * np.bincount(np.stack(labels).ravel(), minlength=256)[:7] / np.stack(labels).size
    np.testing.assert_allclose(shares, [31.7, 4.5, 0.6, 5.9, 3.3, 33.0, 16.9], atol=0.06)


def test_camvid_by_a_table_has_the_classes_of_idd_lite(shared: Path, tmp_path: Path) -> None:
    """A pair of two real cities with seven classes, by two commands."""
    cities = shared / "data" / "cities"
    merged = ["sky", "far", "roadside", "drivable", "non-drivable", "far", *["roadside"] * 2, "vehicle", "living"]
    rows = [f"{number},{name}" for number, name in enumerate([*merged, "ignore", "void"])]
    (tmp_path / "camvid7.csv").write_text("\n".join(["id,class", *rows]))
    folder = cities / "camvid"
    small = ["--size", "96x128", "--workers", "2"]
    native = ["prepare", "idd-lite", "--root", str(cities / "idd_lite"), "--splits", "val", *small]
    assert main([*native, "--out", str(tmp_path / "idd")]) == 0
    options = ["--name", "camvid7", "--images", str(folder / "val"), "--labels", str(folder / "valannot")]
    options += ["--classes", str(tmp_path / "camvid7.csv"), "--class-list", str(tmp_path / "idd")]
    assert main(["prepare", "folder", *options, "--out", str(tmp_path / "camvid7"), *small]) == 0
    camvid = Store(tmp_path / "camvid7").manifest
    assert camvid.classes == Store(tmp_path / "idd").manifest.classes
    assert camvid.splits[Split.TRAIN].images == 101
    assert all(count > 0 for count in camvid.splits[Split.TRAIN].pixels)
