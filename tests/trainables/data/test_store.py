"""A store gives back what decoding and resizing gives, and refuses to be read when a byte of it is wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.trainables.data import native_files as native
from trainables.data.__main__ import main
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.datasets import find_dataset
from trainables.data.packing.format import BAND, PackedSplit, Store, verify
from trainables.data.packing.inspect import contact_sheet, describe
from trainables.data.packing.manifest import Codec, StoreError
from trainables.data.packing.pack import prepare
from trainables.data.packing.plan import Job, make_plan
from trainables.data.packing.resize import fit_size, nearest, resize_image, resize_label
from trainables.data.splits import Split
from trainables.geometry import Box

NATIVE = (105, 191)  # a tenth of GTA's 1052 x 1914
BOX = (72, 128)
SIZE = (70, 128)
IMAGES = 3


def silent(part: str, done: int, total: int, broken: int) -> None:
    """No progress line."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Native GTA files, and stores of them: fitted into a box, at native size, and as JPEG."""
    folder = tmp_path_factory.mktemp("stores")
    for number in range(IMAGES):
        ids = native.blocks(*NATIVE, [0, 7, 8, 11, 21, 26, 34], number, cell=9)
        native.gta(folder / "gta", f"{number:05d}", native.smooth(*NATIVE, number), ids)
    for name, box, codec in (("fitted", BOX, Codec.RAW), ("native", None, Codec.RAW), ("jpeg", BOX, Codec.JPEG)):
        job = Job(
            reader=find_dataset("gta"),
            root=folder / "gta",
            out=folder / name,
            splits=(Split.TRAIN,),
            box=box,
            evaluation_box=None,
            codec=codec,
            workers=2,
            shard_images=2,
        )
        prepare(job, make_plan(job, silent), silent)
    return folder


def original(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The image as Pillow decodes the native file, and the label by the document's table."""
    image = native.smooth(*NATIVE, number)
    ids = native.blocks(*NATIVE, [0, 7, 8, 11, 21, 26, 34], number, cell=9)
    return image, native.train_ids(ids, native.CITYSCAPES_IDS)


@st.composite
def windows(draw: st.DrawFn) -> Box:
    top, left = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
    return Box(top, left, draw(st.integers(1, SIZE[0] - top)), draw(st.integers(1, SIZE[1] - left)))


@pytest.mark.parametrize("store", ["fitted", "native"])
@settings(max_examples=60)
@given(number=st.integers(0, IMAGES - 1), window=windows())
def test_any_window_is_exactly_that_of_the_decoded_and_resized_original(
    folder: Path, store: str, number: int, window: Box
) -> None:
    split = Store(folder / store).split(Split.TRAIN)
    size = split.size(number, BOX)
    assert size == SIZE
    image, label = original(number)
    rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    cut = split.image_window(number, size, window)
    np.testing.assert_array_equal(cut, resize_image(image, size)[rows, columns])
    np.testing.assert_array_equal(split.sized_label(number, size), resize_label(label, size))


@settings(max_examples=60)
@given(
    native_size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_resizing_is_bilinear_within_one_grey_level(native_size: tuple[int, int], size: tuple[int, int]) -> None:
    """Against the formula in floating point: half-pixel centres, two neighbours an axis, edges repeated."""
    image = np.random.default_rng(0).integers(0, 256, (*native_size, 3)).astype(np.float64)

    def along(values: np.ndarray, old: int, new: int) -> np.ndarray:
        position = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
        low = np.floor(position).astype(int)
        high, share = np.minimum(low + 1, old - 1), position - low
        return values[low] * (1 - share)[:, None, None] + values[high] * share[:, None, None]

    down = along(image, native_size[0], size[0])
    expected = along(down.swapaxes(0, 1), native_size[1], size[1]).swapaxes(0, 1)
    ours = resize_image(image.astype(np.uint8), size)
    assert np.abs(ours - expected).max() <= 1.01


@given(old=st.integers(1, 3000), new=st.integers(1, 3000))
def test_the_nearest_index_is_the_floor_of_the_ratio(old: int, new: int) -> None:
    index = nearest(old, new)
    exact = np.array([place * old // new for place in range(new)])
    assert np.abs(index - exact).max() <= 1  # the ratio is a double, as in cv2
    assert index[0] == 0
    assert index[-1] < old


def test_an_image_is_enlarged_as_opencv_enlarges_it() -> None:
    """2 x 2 to 5 x 3 pixels, recorded with OpenCV 5.0: rows beyond the first and the last one are taken twice."""
    image = np.array([[[10, 50, 91], [203, 4, 77]], [[31, 250, 18], [5, 66, 129]]], np.uint8)
    recorded = [
        [[10, 50, 91], [106, 27, 84], [203, 4, 77]],
        [[12, 70, 84], [98, 40, 83], [183, 10, 82]],
        [[21, 150, 55], [62, 93, 79], [104, 35, 103]],
        [[29, 230, 25], [27, 145, 74], [25, 60, 124]],
        [[31, 250, 18], [18, 158, 73], [5, 66, 129]],
    ]
    np.testing.assert_array_equal(resize_image(image, (5, 3)), recorded)


@pytest.mark.parametrize(
    ("native", "resized", "at", "recorded"),
    [(6, 34, [17], [2]), (9, 51, [17, 34], [2, 5]), (18, 51, [17, 34], [5, 11]), (14, 18, [9], [6])],
)
def test_the_nearest_index_is_opencvs_where_the_ratio_is_whole(
    native: int, resized: int, at: list[int], recorded: list[int]
) -> None:
    """Recorded with OpenCV 5.0, which multiplies by the inverse of the scale: one less than the exact index."""
    assert nearest(native, resized)[at].tolist() == recorded


def test_native_images_and_labels_come_back_bit_by_bit(folder: Path) -> None:
    split = Store(folder / "native").split(Split.TRAIN)
    for number in range(IMAGES):
        image, label = original(number)
        np.testing.assert_array_equal(split.image(number), image)
        np.testing.assert_array_equal(split.label(number), label)
        np.testing.assert_array_equal(split.pixels[number, :19], np.bincount(label.ravel(), minlength=256)[:19])
        assert split.pixels[number, 19] == (label == 255).sum()


def test_pixels_are_counted_at_native_size_in_every_store(folder: Path) -> None:
    counts = [Store(folder / name).split(Split.TRAIN).pixels for name in ("fitted", "native", "jpeg")]
    np.testing.assert_array_equal(counts[0], counts[1])
    np.testing.assert_array_equal(counts[0], counts[2])
    assert counts[0].sum() == IMAGES * NATIVE[0] * NATIVE[1]


def test_jpeg_is_close_and_its_labels_exact(folder: Path) -> None:
    split = Store(folder / "jpeg").split(Split.TRAIN)
    for number in range(IMAGES):
        image, label = original(number)
        difference = split.image(number).astype(float) - resize_image(image, SIZE)
        assert 0 < np.sqrt((difference**2).mean()) < 3
        np.testing.assert_array_equal(split.label(number), resize_label(label, SIZE))


def test_a_validation_label_keeps_its_own_size(tmp_path: Path) -> None:
    ids = native.blocks(64, 128, [7, 8, 26, 0], 0, cell=3)
    native.cityscapes(tmp_path / "cs", "val", "bonn_0_0", native.smooth(64, 128, 0), ids)
    native.cityscapes(tmp_path / "cs", "train", "ulm_0_0", native.smooth(64, 128, 1), ids)
    command = f"prepare cityscapes --root {tmp_path}/cs --out {tmp_path}/store --size 32x64 --evaluation-size 48x96"
    assert main(command.split()) == 0
    store = Store(tmp_path / "store")
    assert store.manifest.scored is Split.VAL
    scored, training = store.split(Split.VAL), store.split(Split.TRAIN)
    assert scored.image(0).shape == (48, 96, 3)
    np.testing.assert_array_equal(scored.label(0), native.train_ids(ids, native.CITYSCAPES_IDS))
    assert (training.image(0).shape, training.label(0).shape) == ((32, 64, 3), (32, 64))


def test_a_store_made_for_another_size_is_refused_with_the_command(folder: Path) -> None:
    Store(folder / "native").split(Split.TRAIN).check_box((720, 1280))
    with pytest.raises(StoreError, match="made for --size 72x128, but 720x1280 is needed; prepare a store"):
        Store(folder / "fitted").split(Split.TRAIN).check_box((720, 1280))


def test_a_split_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"must hold the split val, but holds train; .* --splits val"):
        Store(folder / "native").split(Split.VAL)


# -- damage ------------------------------------------------------------------------------------------------------------


def copy_of(folder: Path, name: str, target: Path) -> Path:
    target.mkdir()
    for path in (folder / name).iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def use(store: Path) -> None:
    """Read all that training would."""
    split = Store(store).split(Split.TRAIN)
    for number in range(len(split)):
        split.label(number)
        split.image(number)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def assert_refused(run: Callable[[], object], words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        run()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("store", ["native", "jpeg"])
def test_a_flipped_byte_anywhere_in_a_store_is_refused(folder: Path, tmp_path: Path, store: str) -> None:
    """Every file, at 40 places each: by `verify` always, by training where the byte matters to it."""
    places = np.random.default_rng(0).uniform(size=40)
    intact = copy_of(folder, store, tmp_path / "copy")
    expected = [Store(intact).split(Split.TRAIN).image(number).copy() for number in range(IMAGES)]
    for path in sorted(intact.iterdir()):
        sound = path.read_bytes()
        for place in places:
            flip(path, int(place * len(sound)))
            assert_refused(lambda: verify(intact, silent), "is damaged|is a store of version|must have|is missing from")
            try:
                use(intact)
            except StoreError:
                pass
            else:  # padding, or a column that training does not read
                split = Store(intact).split(Split.TRAIN)
                for number, image in enumerate(expected):
                    np.testing.assert_array_equal(split.image(number), image)
            path.write_bytes(sound)


def test_a_flipped_pixel_is_refused_when_its_rows_are_touched_and_not_before(folder: Path, tmp_path: Path) -> None:
    store = copy_of(folder, "native", tmp_path / "copy")
    shard = store / "train-00000.arrow"
    start = shard.read_bytes().index(native.smooth(*NATIVE, 0).tobytes())
    flip(shard, start + (2 * BAND + 5) * NATIVE[1] * 3)
    split = Store(store).split(Split.TRAIN)
    split.image_window(0, NATIVE, Box(0, 0, 2 * BAND, 50))
    assert_refused(
        lambda: split.image_window(0, NATIVE, Box(2 * BAND - 3, 0, 4, 50)), "the image of 00000 in .* is damaged"
    )
    assert_refused(lambda: verify(store, silent), r"train-00000\.arrow is damaged")


def test_a_truncated_or_missing_file_is_refused_at_opening(folder: Path, tmp_path: Path) -> None:
    store = copy_of(folder, "native", tmp_path / "copy")
    shard = store / "train-00001.arrow"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    assert_refused(lambda: Store(store), f"must have {len(data)} bytes, but has {len(data) - 1}; prepare the store")
    shard.unlink()
    assert_refused(lambda: Store(store), r"train-00001\.arrow is missing")


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_another_version_is_refused(folder: Path, tmp_path: Path, version: object) -> None:
    store = copy_of(folder, "native", tmp_path / "copy")
    content = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(content | {"version": version}))
    assert_refused(lambda: Store(store), f"is a store of version {version!r}, and this code reads version 1")


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    assert_refused(lambda: Store(tmp_path), "must be a store made by")


def test_only_the_rows_of_a_window_are_touched(folder: Path) -> None:
    """The rest of a raw image may be unreadable: what was compared with its checksum says what was looked at."""
    split = Store(folder / "native").split(Split.TRAIN)
    split.image_window(0, NATIVE, Box(40, 3, 20, 90))
    assert touched(split) == [1]
    split.image_window(1, SIZE, Box(50, 0, 20, 128))  # of the resized image: native rows 74 to 104
    assert touched(split) == [1, 4 + 2, 4 + 3]


def touched(split: PackedSplit) -> list[int]:
    return np.flatnonzero(split._intact).tolist()


def test_the_size_of_a_fitted_image_is_the_references() -> None:
    assert fit_size((1052, 1914), (720, 1280)) == (704, 1280)
    assert fit_size((760, 1280), (760, 1280)) == (760, 1280)
    assert fit_size((1914, 1052), (720, 1280)) == (1280, 704)
    assert fit_size((1, 5000), (512, 1024)) == (1, 1024)
    assert fit_size((5000, 2), (512, 1024)) == (1024, 1)


def test_pillow_agrees_that_the_miniature_png_files_are_png(folder: Path) -> None:
    with Image.open(io.BytesIO((folder / "gta" / "images" / "00000.png").read_bytes())) as image:
        np.testing.assert_array_equal(np.asarray(image), native.smooth(*NATIVE, 0))


def test_a_store_of_other_classes_has_their_names_and_counts_and_one_of_cityscapes_names_none(tmp_path: Path) -> None:
    """20 classes: more than Cityscapes'. The manifest of a store of its 19 is what it has always been."""
    ids = native.all_ids(256)
    names = tuple(f"class-{index}" for index in range(20))
    native.gta(tmp_path / "native", "a", native.image(), ids)
    reader = replace(find_dataset("gta"), classes=names, train_ids=lambda _: np.where(ids < 20, ids, 255).astype("u1"))
    for name, each in (("own", reader), ("cityscapes", find_dataset("gta"))):
        job = Job(
            reader=each, root=tmp_path / "native", out=tmp_path / name, splits=(Split.TRAIN,), box=None,
            evaluation_box=None, skip_broken=True,
        )  # fmt: skip
        if name == "cityscapes":
            native.gta(tmp_path / "native", "a", native.image(), native.all_ids(35))
        prepare(job, make_plan(job, silent), silent)
    own, cityscapes = Store(tmp_path / "own"), Store(tmp_path / "cityscapes")
    assert json.loads((tmp_path / "own" / "store.json").read_text())["classes"] == list(names)
    assert "classes" not in json.loads((tmp_path / "cityscapes" / "store.json").read_text())
    assert (own.manifest.classes, cityscapes.manifest.classes) == (names, CITYSCAPES_CLASSES)
    assert own.split(Split.TRAIN).pixels.tolist() == [[1] * 20 + [220]]
    assert own.manifest.splits[Split.TRAIN].pixels == (*[1] * 20, 220)
    assert own.manifest.plan != cityscapes.manifest.plan
    assert "\n 19 class-19" in describe(own.manifest)
    assert contact_sheet(own).size[0] == 1280
