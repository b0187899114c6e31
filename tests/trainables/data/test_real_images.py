"""The pair with real images: what is read from its folder or its store, what a batch is, its scores, what is refused.

The folder is drawn here, byte by byte: labels are written as plain arrays of trainIds, not through the reader's tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from trainables.config import Margins, RareClassSampling, RealPhotographs, SourceHoldout
from trainables.data.__main__ import main
from trainables.data.classes import CAMVID_CLASSES
from trainables.data.domains import Opening
from trainables.data.images import read_folder
from trainables.data.stored_pair import StoredDomains
from trainables.randomness import Streams
from trainables.step_data import Batch

CPU = torch.device("cpu")
CONFIG = RealPhotographs(crop_size=(32, 48), evaluation_size=(48, 64))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two CARLA images of 96 x 128 and six AirSim ones of 36 x 64, three target images, two to score."""
    for index in range(2):
        write_pair(tmp_path, "source", f"carla_{index}", (96, 128), index)
    for index in range(6):
        write_pair(tmp_path, "source", f"airsim_{index}", (36, 64), 10 + index)
    (tmp_path / "source/carla.txt").write_text("carla_0\ncarla_1\n")
    (tmp_path / "source/airsim.txt").write_text("".join(f"airsim_{index}\n" for index in range(6)))
    (tmp_path / "source/all.txt").write_text("carla_0\n")
    for index in range(3):
        write_image(tmp_path / f"target/train/images/frame_{index}.jpg", (96, 128), 100 + index)
    for index in range(2):
        write_pair(tmp_path, "target/val", f"frame_{index}", (96, 128), 200 + index)
    return tmp_path


def write_pair(root: Path, place: str, name: str, size: tuple[int, int], grey: int) -> None:
    """An image of one grey level, and a label with a road in the lower half and sky above."""
    write_image(root / place / "images" / f"{name}.jpg", size, grey)
    label = np.full(size, 10, dtype=np.uint8)
    label[size[0] // 2 :] = 0
    label[-1] = 255
    write_label(root / place / "labels" / f"{name}.png", label)


def write_image(path: Path, size: tuple[int, int], grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), grey, dtype=np.uint8)).save(path, quality=95)


def write_label(path: Path, label: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(path)


def opened(root: Path, config: RealPhotographs = CONFIG) -> StoredDomains:
    read_folder.cache_clear()
    return config.open(Opening({"realpair": str(root)}, CPU))


def greys(domains: StoredDomains, batch: Batch) -> list[int]:
    """The grey level of the upper left corner of each image, which tells which image it is."""
    corner = batch.image[:, 0, 0, 0] * domains.std[0] + domains.mean[0]
    return [round(value) for value in corner.tolist()]


# -- batches -----------------------------------------------------------------------------------------------------------


def test_crops_have_the_size_asked_for_and_labels_follow_their_images(root: Path) -> None:
    domains = opened(root)
    batch = domains.source(Streams(0), 0, 4)
    assert batch.image.shape == (4, 3, 32, 48)
    assert batch.image.dtype == torch.float32
    assert batch.label is not None
    assert batch.label.shape == (4, 32, 48)
    assert set(batch.label.unique().tolist()) <= {0, 10, 255}
    for label in batch.label:  # sky above road, and a row that counts for nothing: rows are one class each
        assert all(len(row.unique()) == 1 for row in label)


def test_each_part_of_the_source_is_drawn_with_equal_chance(root: Path) -> None:
    """Two CARLA images are seen as often as six of AirSim: by the lists, not by the number of images."""
    domains = opened(root)
    streams = Streams(0)
    drawn = [grey for step in range(50) for grey in greys(domains, domains.source(streams, step, 4))]
    carla = sum(grey < 5 for grey in drawn) / len(drawn)
    assert 0.39 < carla < 0.61  # 3 standard deviations of 200 draws are 0.11
    assert len(set(drawn)) == 8


def test_without_lists_every_image_has_the_same_chance(root: Path) -> None:
    for path in root.glob("source/*.txt"):
        path.unlink()
    domains = opened(root)
    drawn = [grey for step in range(50) for grey in greys(domains, domains.source(Streams(0), step, 4))]
    assert 0.15 < sum(grey < 5 for grey in drawn) / len(drawn) < 0.35  # 2 of 8 images


def test_a_batch_is_a_function_of_seed_and_step_and_streams_do_not_touch(root: Path) -> None:
    domains = opened(root)
    first = [domains.source(Streams(3), step, 2).image for step in range(4)]
    again = [domains.source(Streams(3), step, 2).image for step in reversed(range(4))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert not torch.equal(domains.warm_start(Streams(3), 0, 8).image, domains.source(Streams(3), 0, 8).image)
    assert not torch.equal(domains.source(Streams(4), 0, 8).image, domains.source(Streams(3), 0, 8).image)


def test_target_batches_have_no_labels_and_show_training_images_only(root: Path) -> None:
    domains = opened(root)
    batches = [domains.target(Streams(0), step, 4) for step in range(10)]
    assert all(batch.label is None for batch in batches)
    assert {grey for batch in batches for grey in greys(domains, batch)} == {100, 101, 102}


def test_images_smaller_than_the_crop_are_filled_up_with_the_mean_colour_and_no_label(root: Path) -> None:
    domains = opened(root, replace(CONFIG, crop_size=(48, 80)))
    batch = domains.source(Streams(0), 0, 8)
    assert batch.label is not None
    assert batch.image.shape == (8, 3, 48, 80)
    padding = batch.label[:, :, 64:]
    assert bool((padding == 255).all())
    assert bool((batch.image[..., 64:] == 0).all())


@pytest.mark.parametrize("sampling", [None, RareClassSampling(min_pixels=10, min_crop_ratio=0.5)])
def test_held_out_source_images_are_never_drawn(root: Path, sampling: RareClassSampling | None) -> None:
    """One image of eight; the rest are drawn, and the held-out one comes whole, with labels in CamVid's classes."""
    read_folder.cache_clear()
    given = {"realpair": str(root)}
    domains = CONFIG.open(Opening(given, CPU, sampling, holdout=SourceHoldout(share=0.1)))
    (example,) = domains.held_out()
    (held_out,) = greys(domains, Batch(example.image))
    assert example.label.shape == example.image.shape[-2:]
    assert set(example.label.unique().tolist()) == {CAMVID_CLASSES.index("sky"), CAMVID_CLASSES.index("road"), 255}
    drawn = set()
    for step in range(60):
        for batch in (domains.source(Streams(0), step, 4), domains.warm_start(Streams(0), step, 4)):
            drawn |= set(greys(domains, batch))
    assert drawn == {0, 1, 10, 11, 12, 13, 14, 15} - {held_out}


def test_a_holdout_that_empties_a_part_is_refused_in_one_sentence(root: Path) -> None:
    read_folder.cache_clear()
    for path in root.glob("source/*.txt"):
        path.unlink()
    for path in (root / "source/images").iterdir():
        (root / "source" / f"{path.stem}.txt").write_text(f"{path.stem}\n")
    with pytest.raises(ValueError, match=r"^SourceHoldout\.share must leave every part of the source an image"):
        CONFIG.open(Opening({"realpair": str(root)}, CPU, holdout=SourceHoldout(share=0.1)))


def test_rare_classes_are_drawn_where_the_config_asks(root: Path) -> None:
    rare = np.full((96, 128), 11, dtype=np.uint8)
    write_label(root / "source/labels/carla_1.png", rare)
    read_folder.cache_clear()
    sampling = RareClassSampling(min_pixels=10, min_crop_ratio=0.5)
    domains = CONFIG.open(Opening({"realpair": str(root)}, CPU, sampling))
    drawn = [grey for step in range(20) for grey in greys(domains, domains.source(Streams(0), step, 4))]
    assert sum(grey == 1 for grey in drawn) > len(drawn) / 4  # one image of eight shows people


def test_a_source_crop_is_drawn_again_while_one_class_fills_three_quarters_of_it(root: Path) -> None:
    """Images are half sky, half road: many crops show little of one of them, and are let through at a share of 1."""

    def filled(config: RealPhotographs) -> float:
        """The share of crops that one class fills to three quarters."""
        domains = opened(root, config)
        batches = [domains.source(Streams(0), step, 4) for step in range(20)]
        labels = [label[label != 255] for batch in batches for label in batch.label]  # type: ignore[union-attr]
        return float(np.mean([int(label.bincount().max()) >= 0.75 * len(label) for label in labels]))

    low = replace(CONFIG, crop_size=(32, 48), evaluation_size=(64, 96))
    assert filled(low) < 0.03  # after eleven draws the last one is taken
    assert filled(replace(low, max_class_share=1.0)) > 0.3


def test_the_warm_start_is_drawn_without_rare_class_sampling(root: Path) -> None:
    """All configs of a seed share its weights, whatever they sample afterwards."""
    sampling = RareClassSampling(min_pixels=10)
    sampled = CONFIG.open(Opening({"realpair": str(root)}, CPU, sampling))
    for step in range(3):
        one, other = (domains.warm_start(Streams(0), step, 4) for domains in (sampled, opened(root)))
        assert torch.equal(one.image, other.image)


def test_pseudo_labels_inside_margins_of_the_whole_image_do_not_count(root: Path) -> None:
    read_folder.cache_clear()
    margins = Margins(bottom=96, of_size=(96, 128))
    domains = CONFIG.open(Opening({"realpair": str(root)}, CPU, margins=margins))
    valid = domains.target(Streams(0), 0, 2).valid
    assert valid is not None
    assert [box.height for box in valid] == [0, 0]
    assert opened(root).target(Streams(0), 0, 2).valid is None


def test_the_oracle_sees_the_labels_of_the_target_where_there_are_some(root: Path) -> None:
    with pytest.raises(ValueError, match="has no target/train/labels; add them, or leave the oracle out"):
        opened(root).labelled_target(Streams(0), 0, 2)
    assert opened(root).labelled_sample(Streams(0), 2) is None
    for index in range(3):
        write_label(root / f"target/train/labels/frame_{index}.png", np.full((96, 128), index, dtype=np.uint8))
    domains = opened(root)
    batch = domains.labelled_target(Streams(0), 0, 8)
    assert batch.label is not None
    assert torch.equal(batch.image, domains.target(Streams(0), 0, 8).image)
    assert greys(domains, batch) == [100 + int(label[0, 0]) for label in batch.label]


# -- a store -----------------------------------------------------------------------------------------------------------


def packed(root: Path, *options: str) -> Path:
    """The store that the command makes of the folder."""
    store = root.with_name(f"{root.name}-store")
    assert main(["prepare", "realpair", "--root", str(root), "--out", str(store), "--workers", "2", *options]) == 0
    return store


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("sampling", [None, RareClassSampling(min_pixels=10, min_crop_ratio=0.5)])
def test_a_store_gives_the_same_pixels_as_its_folder(
    root: Path, listed: bool, sampling: RareClassSampling | None
) -> None:
    """Crops of all streams, labels, parts and validation images; on pictures of noise, where any other pixel shows."""
    random = np.random.default_rng(0)
    for number, path in enumerate(sorted(root.rglob("images/*.jpg"))):
        with Image.open(path) as image:
            size = image.size[::-1]
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, quality=95)
        label = path.parents[1] / "labels" / f"{path.stem}.png"
        write_label(label, random.choice(np.array([0, 5, 11, number % 19, 255], dtype=np.uint8), size))
    if not listed:
        for path in root.glob("source/*.txt"):
            path.unlink()
    read_folder.cache_clear()
    paths = (root, packed(root))
    folder, store = (CONFIG.open(Opening({"realpair": str(path)}, CPU, sampling)) for path in paths)
    for step in range(5):
        for stream in ("source", "warm_start", "target", "labelled_target"):
            one, other = (getattr(domains, stream)(Streams(0), step, 4) for domains in (folder, store))
            assert torch.equal(one.image, other.image)
            assert (one.label is None) == (other.label is None) == (stream == "target")
            assert one.label is None or torch.equal(one.label, other.label)
    for example, stored in zip(folder.validation(), store.validation(), strict=True):
        assert torch.equal(example.image, stored.image)
        assert torch.equal(example.label, stored.label)


def test_a_store_without_labels_of_the_target_has_no_oracle(root: Path) -> None:
    with pytest.raises(ValueError, match="has no target/train/labels; add them, or leave the oracle out"):
        opened(packed(root)).labelled_target(Streams(0), 0, 2)


def test_a_store_of_resized_images_or_of_another_data_set_is_refused_in_one_sentence(root: Path) -> None:
    store = packed(root, "--size", "48x64")
    with pytest.raises(ValueError, match=r"made for --size 48x64, but native is needed; .*\.$"):
        opened(store)
    manifest = (store / "store.json").read_text().replace('"realpair"', '"gta"')
    (store / "store.json").write_text(manifest)
    with pytest.raises(ValueError, match="is damaged"):
        opened(store)


def test_an_image_of_two_parts_is_refused_by_both_commands(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "source/airsim.txt").write_text("airsim_0\ncarla_1\n")
    sentence = "names carla_1, which another list names too"
    with pytest.raises(ValueError, match=sentence):
        opened(root)
    assert main(["prepare", "realpair", "--root", str(root), "--out", str(root.with_name("no-store"))]) == 2
    assert sentence in capsys.readouterr().err


def test_a_list_may_name_an_image_with_spaces(root: Path) -> None:
    for place in ("images", "labels"):
        for path in (root / "source" / place).glob("carla_1.*"):
            path.rename(path.with_stem("carla 1"))
    (root / "source/carla.txt").write_text("carla_0\n  carla 1  \n\n")
    assert sorted(len(part) for part in read_folder(root, (48, 64)).parts) == [2, 6]


# -- recorded batches --------------------------------------------------------------------------------------------------

RECORDED = {
    "plain": "4ee4cbe8ce1da04691d09aeaeb27ad466f72c93fa3fb633518ec2e8e83b9cfb5",
    "rare classes, margins, holdout": "883044c9346191efba274397c401d028fb77fdc5390c5afcfdee073623f7a32e",
}


@pytest.mark.parametrize("case", RECORDED)
def test_batches_and_examples_are_those_that_were_recorded(tmp_path: Path, case: str) -> None:
    """Every stream and example of a folder of noise, bit for bit and in the same memory format."""
    random = np.random.default_rng(1)
    for place, count, size in (("source", 9, (60, 90)), ("target/train", 4, (90, 130)), ("target/val", 3, (90, 70))):
        for index in range(count):
            label = random.choice(np.array([0, 2, 10, 11, 255], dtype=np.uint8), (size[0] // 10, size[1] // 10))
            write_label(tmp_path / place / f"labels/{index}.png", label.repeat(10, axis=0).repeat(10, axis=1))
            image = Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
            (tmp_path / place / "images").mkdir(exist_ok=True)
            image.save(tmp_path / place / f"images/{index}.png")
    (tmp_path / "source/one.txt").write_text("0\n1\n2\n")
    (tmp_path / "source/two.txt").write_text("3\n4\n5\n6\n7\n8\n")
    settings: dict[str, Any] = {}
    if case != "plain":
        settings = {
            "sampling": RareClassSampling(min_pixels=200, min_crop_ratio=0.5),
            "margins": Margins(top=7, left=5, bottom=20, of_size=(90, 130)),
            "holdout": SourceHoldout(share=0.2),
        }
    read_folder.cache_clear()
    domains = CONFIG.open(Opening({"realpair": str(tmp_path)}, CPU, **settings))
    digest = hashlib.sha256()
    for stream in ("source", "warm_start", "target", "labelled_target"):
        for step in range(3):
            batch = getattr(domains, stream)(Streams(5), step, 3)
            digest.update(batch.image.numpy().tobytes() + repr((batch.image.stride(), batch.valid)).encode())
            digest.update(b"" if batch.label is None else batch.label.numpy().tobytes())
    for example in (*domains.validation(), *domains.held_out()):
        digest.update(example.image.numpy().tobytes() + repr(example.image.stride()).encode())
        digest.update(example.label.numpy().tobytes())
    assert digest.hexdigest() == RECORDED[case]


# -- scores ------------------------------------------------------------------------------------------------------------


def test_labels_and_predictions_are_merged_to_the_eleven_classes_of_camvid(root: Path) -> None:
    """Written out by hand: which of CamVid's classes stands for each of Cityscapes' 19."""
    expected = [3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10]
    label = np.full((96, 128), 255, dtype=np.uint8)
    label[0, :19] = np.arange(19)
    write_label(root / "target/val/labels/frame_0.png", label)
    domains = opened(root)
    example = next(domains.validation())
    assert example.image.shape == (1, 3, 48, 64)  # as the network sees it
    assert example.label.shape == (96, 128)  # labels keep their own size
    assert example.label[0, :19].tolist() == expected
    assert set(example.label[1:].unique().tolist()) == {255}
    best = torch.eye(19).view(1, 19, 19, 1)  # pixel i: class i has the best score
    assert domains.merge(best)[0, :, 0].tolist() == expected
    assert len(domains.classes) == 19
    assert domains.scored[:3] == ("sky", "building", "pole")


def test_miou8_leaves_out_the_classes_that_the_source_hardly_has(root: Path) -> None:
    domains = opened(root)
    left_out = {domains.scored[index] for index in range(11)} - {domains.scored[i] for i in domains.means["miou8"]}
    assert left_out == {"sign", "fence", "bicyclist"}


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_without_a_path_one_sentence_says_what_to_type() -> None:
    with pytest.raises(ValueError, match=r"add --data realpair=PATH, a folder with source/images.*\.$"):
        CONFIG.open(Opening({}, CPU))


@pytest.mark.parametrize("place", ["source", "target/train", "target/val"])
def test_a_folder_without_images_is_named_in_one_sentence(root: Path, place: str) -> None:
    for path in (root / place / "images").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=rf"^There are no images in .*{place}/images; give a folder with .*\.$"):
        opened(root)


def _remove_label(root: Path) -> None:
    (root / "source/labels/carla_1.png").unlink()


def _break_image(root: Path) -> None:
    path = root / "target/train/images/frame_1.jpg"
    path.write_bytes(path.read_bytes()[:60])


def _foreign_ids(root: Path) -> None:
    write_label(root / "target/val/labels/frame_1.png", np.full((96, 128), 33, dtype=np.uint8))


def _other_size(root: Path) -> None:
    write_label(root / "target/val/labels/frame_1.png", np.zeros((90, 128), dtype=np.uint8))


def _three_channels(root: Path) -> None:
    write_label(root / "source/labels/carla_0.png", np.zeros((96, 128, 3), dtype=np.uint8))


def _two_of_one_name(root: Path) -> None:
    write_image(root / "target/train/images/frame_1.png", (96, 128), 0)


def _list_names_nothing(root: Path) -> None:
    (root / "source/carla.txt").write_text("carla_0\ncarla_9\n")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (_remove_label, r"source holds .* \(1 in all, the first: .*carla_1.jpg, no label of this name\); "),
        (_break_image, "frame_1.jpg must be an image, but cannot be read"),
        (_foreign_ids, "frame_1.png must hold trainIds 0 to 18 and 255, but holds ids 33, first at row 0, column 0; "),
        (_other_size, "frame_1.png must have the size of its image, 96x128, but has 90x128; "),
        (_three_channels, "carla_0.png must be a label in one channel, but cannot be read"),
        (
            _two_of_one_name,
            r"images must have one file of a name, but has frame_1.jpg and frame_1.png; remove or rename",
        ),
        (_list_names_nothing, "carla.txt must list names of images, one a line, but names carla_9, which is not in "),
    ],
)
def test_a_broken_file_is_named_in_one_sentence(root: Path, harm: Callable[[Path], None], sentence: str) -> None:
    harm(root)
    with pytest.raises(ValueError, match=sentence) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


# -- the folder that the settings were made for ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_folder_is_read_as_its_description_says(shared: Path) -> None:
    """544 source images in two parts, 367 target images, 101 to score, whose classes fill the shares that are known."""
    folder = shared / "data" / "realpair"
    if not folder.is_dir():
        pytest.skip("needs the folder of photographs, which is not part of the repository")
    read = read_folder(folder, (144, 192))
    assert sorted(len(part) for part in read.parts) == [87, 457]
    assert (len(read.source), len(read.target), len(read.validation)) == (544, 367, 101)
    assert not read.target.labelled
    label = np.stack([read.validation.label(index) for index in range(101)])
    assert label.shape == (101, 360, 480)
    assert 100 * (label == 0).mean() == pytest.approx(28.95, abs=0.01)  # road
    assert 100 * (label == 18).mean() == pytest.approx(2.22, abs=0.01)  # bicycle
