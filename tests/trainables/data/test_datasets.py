"""Every reader decodes its native layout as the data set's own document says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data import native_files as native
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.datasets import find_dataset
from trainables.data.datasets.synthia import read_red
from trainables.data.label_map import read_label_map
from trainables.data.labels import CAMVID_VIEW
from trainables.data.packing.check import read_sample
from trainables.data.palette import palette
from trainables.data.readers import Fault, Reader, read_colours, read_image
from trainables.data.scored import SYNTHIA_MEANS
from trainables.data.splits import Split

PIXELS = native.image()
TRAIN_IDS = np.append(np.arange(19), [255] * 221).reshape(6, 40).astype(np.uint8)


def assert_reads(reader: Reader, root: Path, split: Split, name: str, label: np.ndarray | None) -> None:
    """The split is this one sample, its image is `PIXELS`, and its label is as expected."""
    found = reader.find(root, split)
    assert found.problems == ()
    assert [sample.name for sample in found.samples] == [name]
    image, decoded = read_sample(reader, found.samples[0])
    np.testing.assert_array_equal(image, PIXELS)
    if label is None:
        assert decoded is None
    else:
        assert decoded is not None
        np.testing.assert_array_equal(decoded, label)


def test_gta_reads_palette_indices_and_leaves_converted_labels_alone(tmp_path: Path) -> None:
    ids = native.all_ids(35)
    native.gta(tmp_path, "00001", PIXELS, ids)
    native.write(tmp_path / "labels" / "00001_labelTrainIds.png", native.png(ids * 0))
    assert_reads(find_dataset("gta"), tmp_path, Split.TRAIN, "00001", native.train_ids(ids, native.CITYSCAPES_IDS))


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
@pytest.mark.parametrize("read", [read_image, read_colours])
def test_sixteen_bits_of_grey_become_eight(kind: str, read: Callable[[Path], np.ndarray], tmp_path: Path) -> None:
    """0 to 65535 is black to white, to the nearest of 256 levels."""
    levels = np.random.default_rng(0).integers(0, 2**16, (11, 23)).astype(np.uint16)
    levels[0, :2] = 0, 65535
    Image.fromarray(levels).save(tmp_path / f"a.{kind}")
    expected = np.floor(levels / 65535 * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read(tmp_path / f"a.{kind}"), np.stack([expected] * 3, axis=2))


def test_synthia_reads_the_red_channel_of_sixteen_bits(tmp_path: Path) -> None:
    ids = native.all_ids(23)
    native.synthia(tmp_path, "0000000", PIXELS, ids)
    assert_reads(find_dataset("synthia"), tmp_path, Split.TRAIN, "0000000", native.train_ids(ids, native.SYNTHIA_IDS))


def test_synthia_reads_all_sixteen_bits_through_every_filter_of_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (11, 23, 3)).astype(np.uint16)
    native.write(tmp_path / "a.png", native.png(pixels, filtered=True))
    np.testing.assert_array_equal(read_red(tmp_path / "a.png"), pixels[..., 0])


@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes_reads_label_ids(tmp_path: Path, split: str) -> None:
    ids = native.all_ids(34)
    native.cityscapes(tmp_path, split, "ulm_000000_000019", PIXELS, ids)
    name = "ulm/ulm_000000_000019"
    assert_reads(find_dataset("cityscapes"), tmp_path, Split(split), name, native.train_ids(ids, native.CITYSCAPES_IDS))


@pytest.mark.parametrize("folder", ["fog/train/GOPR0475", "train/fog/GOPR0475", "train"])
def test_acdc_reads_its_own_layout_and_the_merged_one(tmp_path: Path, folder: str) -> None:
    native.anonymised(tmp_path, folder, "GOPR0475_frame_000041", PIXELS, TRAIN_IDS)
    native.anonymised(tmp_path, folder.replace("train", "train_ref"), "GOPR0475_frame_000042", PIXELS, None)
    assert_reads(find_dataset("acdc"), tmp_path, Split.TRAIN, f"{folder}/GOPR0475_frame_000041", TRAIN_IDS)


def test_dark_zurich_reads_night_without_labels_to_train_and_with_labels_to_validate(tmp_path: Path) -> None:
    native.anonymised(tmp_path, "train/night/GOPR0351", "GOPR0351_frame_000001", PIXELS, None)
    native.anonymised(tmp_path, "train/day/GOPR0345", "GOPR0345_frame_000001", PIXELS, None)
    native.anonymised(tmp_path, "val/night/GOPR0356", "GOPR0356_frame_000324", PIXELS, TRAIN_IDS)
    native.anonymised(tmp_path, "val/day/GOPR0356_ref", "GOPR0356_frame_000324_ref", PIXELS, None)
    reader = find_dataset("dark-zurich")
    assert_reads(reader, tmp_path, Split.TRAIN, "train/night/GOPR0351/GOPR0351_frame_000001", None)
    assert_reads(reader, tmp_path, Split.VAL, "val/night/GOPR0356/GOPR0356_frame_000324", TRAIN_IDS)


@pytest.mark.parametrize("listed", [True, False])
def test_camvid_reads_eleven_classes_by_its_list_or_by_names(tmp_path: Path, listed: bool) -> None:
    ids = native.all_ids(12)
    native.camvid(tmp_path, "test", "Seq05VD_f01620", PIXELS, ids)
    if listed:
        native.write(tmp_path / "CamVid" / "test" / "not_listed.png", b"")
    else:
        (tmp_path / "CamVid" / "test.txt").unlink()
    assert_reads(
        find_dataset("camvid"), tmp_path, Split.TEST, "Seq05VD_f01620", native.train_ids(ids, native.CAMVID_IDS)
    )


def test_lyft_reads_the_red_channel_and_tells_sky_and_bonnet_by_their_place(tmp_path: Path) -> None:
    ids = np.full((6, 40), 7, dtype=np.uint8)
    ids[1, :12] = np.arange(1, 13)
    ids[0, :20] = ids[1, 20] = ids[0:2, 19] = 0  # without class, connected to the top: sky
    ids[3, 5] = 0  # without class, inside the road: ignored
    ids[3, 30:33] = 10  # a car on the road
    ids[5, 10:30] = ids[4, 20] = 10  # the own bonnet
    native.lyft(tmp_path, "train", "0", PIXELS, ids)
    expected = native.train_ids(ids, native.CARLA_IDS)
    expected[0, :20] = expected[1, 20] = expected[0:2, 19] = 10
    expected[5, 10:30] = expected[4, 20] = 255
    assert expected[3, 5] == 255
    assert expected[3, 31] == 13
    assert_reads(find_dataset("carla-lyft"), tmp_path, Split.TRAIN, "0", expected)
    assert_reads(find_dataset("carla-lyft"), tmp_path / "train", Split.TRAIN, "0", expected)


def test_carlascapes_reads_the_ids_of_carla_0_9_14(tmp_path: Path) -> None:
    ids = native.all_ids(29)
    native.carlascapes(tmp_path, "Town10HD_1", PIXELS, ids)
    assert_reads(
        find_dataset("carlascapes"), tmp_path, Split.TRAIN, "Town10HD_1", native.train_ids(ids, native.CARLA_0_9_14_IDS)
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_bdd100k_reads_train_ids_of_both_downloads(tmp_path: Path, split: str) -> None:
    native.bdd100k(tmp_path / "new", split, "0a0a0b1a-7c39d841", PIXELS, TRAIN_IDS)
    native.write(tmp_path / "old" / "seg" / "images" / split / "0a0a0b1a-7c39d841.jpg", native.png(PIXELS))
    label = tmp_path / "old" / "seg" / "labels" / split / "0a0a0b1a-7c39d841_train_id.png"
    native.write(label, native.png(TRAIN_IDS))
    for download in ("new", "old"):
        assert_reads(find_dataset("bdd100k"), tmp_path / download, Split(split), "0a0a0b1a-7c39d841", TRAIN_IDS)


@pytest.mark.parametrize("labels", ["labels", "v1.2/labels"])
@pytest.mark.parametrize(("split", "folder"), [("train", "training"), ("val", "validation")])
def test_mapillary_reads_the_66_ids_of_version_1_2(tmp_path: Path, split: str, folder: str, labels: str) -> None:
    ids = native.all_ids(66)
    native.mapillary(tmp_path, folder, "-0y0OBnl", PIXELS, ids, labels)
    expected = native.train_ids(ids, native.MAPILLARY_IDS)
    assert_reads(find_dataset("mapillary"), tmp_path, Split(split), "-0y0OBnl", expected)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_idd_reads_the_ids_of_level_3(tmp_path: Path, kind: str) -> None:
    ids = native.all_ids(27)
    ids[ids == 26] = 255
    native.idd(tmp_path, "train", "12/frame0029", PIXELS, ids, kind)
    expected = native.train_ids(ids, native.IDD_LEVEL_3_IDS)
    assert_reads(find_dataset("idd"), tmp_path, Split.TRAIN, "12/frame0029", expected)


def test_idd_with_polygons_alone_names_the_tool_that_draws_its_labels(tmp_path: Path) -> None:
    native.idd(tmp_path, "train", "12/frame0029", PIXELS, native.all_ids(26))
    (tmp_path / "gtFine" / "train" / "12" / "frame0029_gtFine_labellevel3Ids.png").unlink()
    (problem,) = find_dataset("idd").find(tmp_path, Split.TRAIN).problems
    assert (problem.fault, problem.path) == (Fault.EMPTY_FOLDER, "gtFine/train")
    assert "createLabels.py --id-type level3Ids" in problem.detail


def test_idd_lite_keeps_its_seven_classes_and_leaves_instances_alone(tmp_path: Path) -> None:
    ids = native.all_ids(8)
    ids[ids == 7] = 255
    native.idd_lite(tmp_path, "val", "135/330189", PIXELS, ids)
    reader = find_dataset("idd-lite")
    assert reader.classes == ("drivable", "non-drivable", "living", "vehicle", "roadside", "far", "sky")
    assert_reads(reader, tmp_path, Split.VAL, "135/330189", ids)


def test_camvids_day_and_dusk_are_drives_wherever_a_copy_puts_them_and_dusk_is_divided_by_time(tmp_path: Path) -> None:
    ids = native.all_ids(12)
    for split, name in (("train", "0016E5_00390"), ("val", "0006R0_f00930"), ("test", "Seq05VD_f00000")):
        native.camvid(tmp_path, split, name, PIXELS, ids)
    for split, name in (("train", "0001TP_008520"), ("test", "0001TP_008550")):
        native.camvid(tmp_path, split, name, PIXELS, ids)
    day, dusk, root = find_dataset("camvid-day"), find_dataset("camvid-dusk"), tmp_path / "CamVid"
    names = [[sample.name for sample in day.find(root, Split.TRAIN).samples]]
    names += [[sample.name for sample in dusk.find(root, split).samples] for split in (Split.TRAIN, Split.VAL)]
    assert names == [["0006R0_f00930", "0016E5_00390"], ["0001TP_008520"], ["0001TP_008550"]]
    ids[ids == 11] = 255
    assert_reads(dusk, tmp_path, Split.VAL, "0001TP_008550", ids)
    assert_reads(dusk, root, Split.VAL, "0001TP_008550", ids)


def test_camvid_and_carla_have_idd_lites_seven_classes(tmp_path: Path) -> None:
    """As the table of the pair has it; a bicyclist, who is of two of them, has none."""
    ids = native.all_ids(12)
    native.camvid(tmp_path, "val", "0016E5_07959", PIXELS, ids)
    seven = native.train_ids(ids, "0>6 1>5 2>4 3>0 4>1 5>5 6>4 7>4 8>3 9>2")
    assert_reads(find_dataset("camvid-seven"), tmp_path, Split.VAL, "0016E5_07959", seven)
    native.write(tmp_path / "source" / "images" / "a.png", native.png(PIXELS))
    native.write(tmp_path / "source" / "labels" / "a.png", native.png(TRAIN_IDS))
    merged = "0>0 1>1 9>1 2>5 8>5 3>4 4>4 5>4 6>4 7>4 10>6 11>2 12>2 13>3 14>3 15>3 16>3 17>3 18>3"
    seven = native.train_ids(TRAIN_IDS, merged)
    assert_reads(find_dataset("carla-seven"), tmp_path, Split.TRAIN, "a", seven)


def test_synscapes_reads_label_ids_at_the_native_size(tmp_path: Path) -> None:
    ids = native.all_ids(34)
    native.synscapes(tmp_path, "1", PIXELS, ids)
    assert_reads(find_dataset("synscapes"), tmp_path, Split.TRAIN, "1", native.train_ids(ids, native.CITYSCAPES_IDS))


def test_urbansyn_pairs_by_number_and_ignores_what_is_unlabelled(tmp_path: Path) -> None:
    ids = native.all_ids(20)
    native.urbansyn(tmp_path, "0001", PIXELS, ids)
    assert_reads(find_dataset("urbansyn"), tmp_path, Split.TRAIN, "0001", native.train_ids(ids, native.FIRST_19))


def label_map(folder: Path, **content: object) -> Path:
    path = folder / "map.json"
    path.write_text(json.dumps(content))
    return path


def test_a_folder_pair_reads_ids_by_its_label_map(tmp_path: Path) -> None:
    ids = native.all_ids(4)
    native.write(tmp_path / "photo" / "a_rgb.png", native.png(PIXELS))
    native.write(tmp_path / "mask" / "m_a.png", native.png(ids))
    splits = {"train": {"images": "photo/*_rgb.png", "labels": "mask/m_*.png"}}
    reader = read_label_map(label_map(tmp_path, splits=splits, train_ids={"0": 0, "1": 13, "2": 255, "3": 11}))
    assert_reads(reader, tmp_path, Split.TRAIN, "a", native.train_ids(ids, "0>0 1>13 3>11"))


def test_a_folder_pair_reads_colours_and_unlabelled_splits(tmp_path: Path) -> None:
    ids = native.all_ids(3)
    palette = np.array([[128, 64, 128], [0, 0, 142], [1, 2, 3]], dtype=np.uint8)
    native.write(tmp_path / "i" / "a.png", native.png(PIXELS))
    native.write(tmp_path / "l" / "a.png", native.png(palette[ids]))
    splits = {"val": {"images": "i/*.png", "labels": "l/*.png"}, "train": {"images": "i/*.png"}}
    content = {"name": "my-city", "splits": splits, "train_ids": {"#804080": 0, "#00008E": 13}, "others": 255}
    reader = read_label_map(label_map(tmp_path, **content))
    assert (reader.dataset, reader.splits, reader.scored) == ("my-city", (Split.TRAIN, Split.VAL), Split.VAL)
    assert_reads(reader, tmp_path, Split.VAL, "a", native.train_ids(ids, "0>0 1>13"))
    assert_reads(reader, tmp_path, Split.TRAIN, "a", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "train_ids must map ids"),
        ({"train_ids": {"0": 0, "#000000": 1}}, "must all be ids, or all be colours"),
        ({"train_ids": {"300": 0}}, "from 0 to 255 or a colour"),
        ({"train_ids": {"0": 19}}, "from 0 to 18, or 255"),
        ({"train_ids": {"0": 0}}, "splits must hold one or more of source, train, val, test"),
        ({"train_ids": {"0": 0}, "splits": {"train": {"images": "a.png"}}}, "must be a path with one *"),
        ({"train_ids": {"0": 0}, "splits": {"train": {"images": "/x/*.png"}}}, "with one *, relative to --root, got"),
        ({"train_ids": {"0": 0}, "splits": {"train": {"images": "\0*.png"}}}, "with one *, relative to --root, got"),
        ({"train_ids": {"0" * 5000: 0}}, "from 0 to 255 or a colour"),
        ({"train_ids": {"0": 0}, "splits": {"train": {"images": "*"}}, "scored": "val"}, "one of the file's splits"),
        ({"train_ids": {"0": 0}, "splits": {"train": {"images": "*"}}, "name": "My City"}, "lower-case letters"),
        ({"train_ids": {"0": 0}, "splits": {"train": {"images": "*"}}, "others": True}, "from 0 to 18, or 255"),
        ({"train_id": {}}, "train_id must be one of"),
    ],
)
def test_a_wrong_label_map_is_refused_in_one_sentence(tmp_path: Path, content: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("*", r"\*")) as caught:
        read_label_map(label_map(tmp_path, **content))
    assert "\n" not in str(caught.value)


def test_the_means_over_16_and_13_classes_are_synthias() -> None:
    names = {name: {CITYSCAPES_CLASSES[index] for index in SYNTHIA_MEANS[name]} for name in ("miou16", "miou13")}
    assert set(CITYSCAPES_CLASSES) - names["miou16"] == {"terrain", "truck", "train"}
    assert names["miou16"] - names["miou13"] == {"wall", "fence", "pole"}


def test_camvids_view_merges_what_camvid_does_not_tell_apart() -> None:
    # wall into building, light into sign, terrain into tree, large vehicles into car, all on two wheels into bicyclist
    merged = [3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10]
    assert CAMVID_VIEW.of_train_id[:19].tolist() == merged
    assert set(CAMVID_VIEW.of_train_id[19:].tolist()) == {255}


@pytest.mark.parametrize("count", [2, 19, 254])
def test_classes_of_ones_own_have_colours_of_their_own_and_none_is_black(count: int) -> None:
    """Black is what is not known; names that Cityscapes has keep their colours."""
    classes = ("road", *(f"fruit {number}" for number in range(count - 1)))
    colours = {tuple(colour) for colour in palette(classes)[:count].tolist()}
    assert len(colours) == count
    assert (128, 64, 128) in colours
    assert (0, 0, 0) not in colours
    assert not palette(classes)[count:].any()
