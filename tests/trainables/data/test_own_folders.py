"""Folders of one's own become a store by one command, and what is wrong with them is one sentence with its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data import native_files as native
from tests.trainables.data import own_files as own
from trainables.data.__main__ import main
from trainables.data.class_table import read_class_table
from trainables.data.packing.format import PackedSplit, Store
from trainables.data.readers import by_stem
from trainables.data.splits import Split

EXPECTED = np.array([0, 1, 2, 255], dtype=np.uint8)  # class ids of the numbers in `own.label`


def command(root: Path, *options: str) -> list[str]:
    table = str(root / "classes.csv")
    return ["--name", "mine-a", "--images", str(root / "images"), "--classes", table, "--workers", "2", *options]


def labelled(root: Path, *options: str) -> list[str]:
    return command(root, "--labels", str(root / "labels"), *options)


def names(split: PackedSplit) -> list[str]:
    return [split.name(index) for index in range(len(split))]


@pytest.mark.parametrize("coloured", [False, True])
def test_two_folders_and_a_table_become_a_store_of_ones_own_name_and_classes(
    tmp_path: Path, coloured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_folder(tmp_path, 5, coloured=coloured)
    own.write_table(tmp_path, own.COLOUR_TABLE if coloured else own.TABLE)
    assert main(["check", "folder", *labelled(tmp_path)]) == 0
    command = ["prepare", "folder", *labelled(tmp_path, "--validation", "0.4"), "--out", str(tmp_path / "store")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Classes: 0 lane, 1 kerb, 2 house." in said
    assert said.endswith(f'source or target of PackedPair as "mine-a", with --data mine-a={tmp_path / "store"}.\n')
    store = Store(tmp_path / "store")
    assert (store.manifest.dataset, store.manifest.classes, store.manifest.scored) == (
        "mine-a",
        own.CLASSES,
        Split.VAL,
    )
    training, evaluated = store.split(Split.TRAIN), store.split(Split.VAL)
    assert (names(training), names(evaluated)) == (["000", "001", "002"], ["003", "004"])
    for split, first in ((training, 0), (evaluated, 3)):
        for index in range(len(split)):
            np.testing.assert_array_equal(split.label(index), EXPECTED[own.label(first + index)])


def test_a_target_has_images_without_labels_and_is_evaluated_on_others(tmp_path: Path) -> None:
    """`*` in a pattern is what an image and its label have in common."""
    own.write_folder(tmp_path / "train", 3)
    own.write_folder(tmp_path / "val", 2, first=7)
    for number in (7, 8):
        label = tmp_path / "val" / "labels" / f"{number:03d}.png"
        label.rename(label.with_name(f"{number:03d}_mask.png"))
    own.write_table(tmp_path / "train")
    masks = ["--val-labels", str(tmp_path / "val" / "labels" / "*_mask.png")]
    evaluation = ["--val-images", str(tmp_path / "val" / "images"), *masks]
    assert main(["prepare", "folder", *command(tmp_path / "train", *evaluation), "--out", str(tmp_path / "store")]) == 0
    store = Store(tmp_path / "store")
    assert not store.manifest.splits[Split.TRAIN].labelled
    assert store.manifest.check_target(tmp_path / "store") is Split.VAL
    assert names(store.split(Split.VAL)) == ["007", "008"]


def test_folders_that_are_symbolic_links_are_read_as_all_others(tmp_path: Path) -> None:
    """Drives on another disk, say; a link to a folder above or beside ends nothing and doubles nothing."""
    own.write_folder(tmp_path, 2)
    own.write_folder(tmp_path / "disk", 3, first=5)
    own.write_table(tmp_path)
    for kind in ("images", "labels"):
        (tmp_path / kind / "more").symlink_to(tmp_path / "disk" / kind)
        (tmp_path / kind / "circle").symlink_to(tmp_path / kind)
        (tmp_path / kind / "latest").symlink_to(tmp_path / kind / "day")
        shutil.copytree(tmp_path / "disk" / kind, tmp_path / kind / "day")
    assert main(["prepare", "folder", *labelled(tmp_path), "--out", str(tmp_path / "store")]) == 0
    found = names(Store(tmp_path / "store").split(Split.TRAIN))
    assert found == ["000", "001", *(f"{place}/00{number}" for place in ("day", "more") for number in (5, 6, 7))]


def test_a_folder_that_may_not_be_read_is_left_out_with_a_word(
    unprivileged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a disk's `lost+found`; a hidden one holds no images anyway. The one that was given is an error."""
    for name in ("a", "lost+found", ".Trash-0"):
        (unprivileged / name).mkdir()
        (unprivileged / name / "1.png").touch()
    for name in ("lost+found", ".Trash-0"):
        (unprivileged / name).chmod(0)
    assert list(by_stem(unprivileged, "**/*.png")) == list(by_stem(unprivileged, "**/*.png")) == ["a/1"]
    sentence = f"Warning: {unprivileged}/lost+found may not be read; what it holds is left out.\n"
    assert capsys.readouterr().err == sentence
    with pytest.raises(PermissionError, match=r"lost\+found"):
        by_stem(unprivileged / "lost+found", "**/*.png")


def test_a_pattern_of_several_parts_matches_in_all_folders(tmp_path: Path) -> None:
    for name in ("a/rgb/1.jpg", "b/c/rgb/2.jpg", "a/depth/1.jpg", "rgb/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(by_stem(tmp_path, "**/rgb/*.jpg")) == ["a/rgb/1", "b/c/rgb/2", "rgb/3"]
    assert list(by_stem(tmp_path, "**/b/**/*.jpg")) == ["b/c/rgb/2"]


def test_both_splits_may_have_their_labels_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A label of a validation image lacks no image; one of no image at all does."""
    own.write_folder(tmp_path, 5)
    own.write_table(tmp_path)
    (tmp_path / "val").mkdir()
    for number in (3, 4):
        (tmp_path / "images" / f"{number:03d}.jpg").rename(tmp_path / "val" / f"{number:03d}.jpg")
    both = labelled(tmp_path, "--val-images", str(tmp_path / "val"), "--val-labels", str(tmp_path / "labels"))
    assert main(["prepare", "folder", *both, "--out", str(tmp_path / "store")]) == 0
    store = Store(tmp_path / "store")
    assert (names(store.split(Split.TRAIN)), names(store.split(Split.VAL))) == (["000", "001", "002"], ["003", "004"])
    native.write(tmp_path / "labels" / "009.png", native.png(own.label(9)))
    assert main(["check", "folder", *both]) == 2
    assert "labels/009.png (no image of this name)" in capsys.readouterr().err


def test_classes_are_numbered_as_in_another_store_or_as_cityscapes(tmp_path: Path) -> None:
    """So that tables in another order, or with fewer classes, make stores that fit each other."""
    own.write_folder(tmp_path, 2)
    own.write_table(tmp_path)
    assert main(["prepare", "folder", *labelled(tmp_path), "--out", str(tmp_path / "first")]) == 0
    own.write_table(tmp_path, "class;id\nhouse;30\nlane;10\nlane;20\n;99\n")
    second = labelled(tmp_path, "--class-list", str(tmp_path / "first"))
    assert main(["prepare", "folder", *second, "--out", str(tmp_path / "second")]) == 0
    store = Store(tmp_path / "second")
    assert store.manifest.classes == own.CLASSES
    np.testing.assert_array_equal(store.split(Split.TRAIN).label(0), np.array([0, 0, 2, 255])[own.label(0)])
    own.write_table(tmp_path, "id,class\n10,road\n20,sidewalk\n30,building\n99,void\n")
    third = labelled(tmp_path, "--class-list", "cityscapes")
    assert main(["prepare", "folder", *third, "--out", str(tmp_path / "third")]) == 0
    assert '"classes"' not in (tmp_path / "third" / "store.json").read_text()


def test_another_table_makes_another_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels that were decoded by an earlier table are not taken for those of this one."""
    own.write_folder(tmp_path, 2)
    own.write_table(tmp_path)
    assert main(["prepare", "folder", *labelled(tmp_path), "--out", str(tmp_path / "store")]) == 0
    own.write_table(tmp_path, own.TABLE.replace("99,ignore", "99,kerb"))
    assert main(["prepare", "folder", *labelled(tmp_path), "--out", str(tmp_path / "store")]) == 2
    assert "is a store of other images or settings already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "codes"),
    [
        ("a.csv", "id,class\r\n0,road\r\n7,my car\r\n", {0: 0, 7: 1, 255: 255}),
        ("a.csv", "\ufeffname\tcolor\nroad\t#804080\ncar\t0 0 142\n", {0x804080: 0, 142: 1}),
        ("a.csv", 'class,colour\nroad,"(128, 64, 128)"\n\ncar,#00008E\n', {0x804080: 0, 142: 1}),
        ("a.json", '{"0": "road", "300": "car", "1": "road", "9": "ignore"}', {0: 0, 300: 1, 1: 0, 9: 255, 255: 255}),
    ],
)
def test_a_table_is_read_as_people_write_it(tmp_path: Path, name: str, text: str, codes: dict[int, int]) -> None:
    table = read_class_table(own.write_table(tmp_path, text, name))
    assert table.codes == codes
    assert table.classes[0] == "road"


def remove(root: Path, path: str) -> None:
    (root / path).unlink()


def truncate(root: Path, path: str) -> None:
    data = (root / path).read_bytes()
    (root / path).write_bytes(data[: len(data) - 60])


def relabel(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    native.write(root / "labels" / "001.png", native.png(change(np.array(own.IDS, dtype=np.uint8)[own.label(1)])))


def mark(ids: np.ndarray) -> np.ndarray:
    ids[3, 5:9] = 77
    return ids


def as_jpeg(root: Path) -> None:
    Image.open(root / "labels" / "001.png").save(root / "labels" / "001.jpg")
    remove(root, "labels/001.png")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no label": (lambda root: remove(root, "labels/001.png"), "images/001.jpg, image without label"),
    "no image": (lambda root: remove(root, "images/001.jpg"), "labels/001.png, label without image"),
    "truncated image": (lambda root: truncate(root, "images/001.jpg"), "images/001.jpg, unreadable or truncated image"),
    "truncated label": (lambda root: truncate(root, "labels/001.png"), "labels/001.png, unreadable or truncated label"),
    "no image file": (
        lambda root: (root / "images" / "001.jpg").write_text("x"),
        "images/001.jpg, unreadable or truncated image (not an image)",
    ),
    "another size": (
        lambda root: relabel(root, lambda ids: ids[:-1]),
        "labels/001.png, image and label of different size (image 24 x 40, label 23 x 40",
    ),
    "unknown id": (
        lambda root: relabel(root, mark),
        "labels/001.png, unknown label ids (ids 77, first at row 3, column 5)",
    ),
    "label as JPEG": (as_jpeg, "labels/001.jpg, unreadable or truncated label (JPEG changes the values of labels"),
    "colours instead of ids": (
        lambda root: relabel(root, lambda ids: np.stack([ids] * 3, axis=2)),
        "labels/001.png, unreadable or truncated label (a colour image, but the table of classes lists ids",
    ),
    "two of one name": (
        lambda root: (root / "images" / "001.png").write_bytes(native.png(native.image(*own.SIZE))),
        "images/001.png, two files of one name (001.jpg is there too)",
    ),
    "other names": (
        lambda root: [path.rename(path.with_name(f"m{path.name}")) for path in sorted((root / "labels").iterdir())],
        "no label has the name of an image, 000.jpg and m000.png for example; give patterns",
    ),
    "no labels": (lambda root: [remove(root, f"labels/00{n}.png") for n in range(3)], "no image files at"),
    "no table": (
        lambda root: remove(root, "classes.csv"),
        "classes.csv must be a CSV file with the columns id,class or colour,class or class,r,g,b, but cannot be read:",
    ),
    "no header": (
        lambda root: own.write_table(root, "10,lane\n20,kerb\n"),
        "classes.csv, line 1 must name the columns",
    ),
    "no number": (
        lambda root: own.write_table(root, own.TABLE.replace("30", "3O")),
        "classes.csv, line 4: id must be an integer from 0 to 65535, got '3O'",
    ),
    "an id twice": (
        lambda root: own.write_table(root, own.TABLE.replace("30", "10")),
        "classes.csv, line 4: 10 must be listed once, but is in",
    ),
    "a cell too few": (lambda root: own.write_table(root, own.TABLE + "4\n"), "classes.csv, line 6 must have 2 cells"),
    "ids and colours": (
        lambda root: own.write_table(root, own.TABLE.replace("30", "#102030")),
        "must list ids or colours, got a colour in",
    ),
    "a name of two lines": (
        lambda root: own.write_table(root, 'id,class\n10,lane\n20,"ke\trb"\n'),
        "classes.csv, line 3: the name of a class must be one line",
    ),
    "no good id": (
        lambda root: own.write_table(root, "id,class\n3O,lane\n"),
        "classes.csv, line 2: id must be an integer from 0 to 65535, got '3O'.",
    ),
    "no good colour": (
        lambda root: own.write_table(root, "r,g,b,class\n300,0,0,lane\n"),
        "classes.csv, line 2: colour must be #rrggbb or three numbers from 0 to 255, got '300 0 0'.",
    ),
    "one class": (lambda root: own.write_table(root, "id,class\n10,lane\n"), "must name 2 to 254 classes, got 1"),
}


@pytest.mark.parametrize("way", BROKEN)
def test_every_way_of_breaking_a_folder_is_one_sentence_with_its_place(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_folder(tmp_path, 3)
    own.write_table(tmp_path)
    damage, sentence = BROKEN[way]
    damage(tmp_path)
    assert main(["check", "folder", *labelled(tmp_path)]) == 2
    *progress, said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("train") for line in progress)
    assert sentence in said
    assert said.endswith(".")


def test_a_class_without_pixels_and_one_with_hardly_any_are_named_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warnings: the files are sound, and a class may well be rare."""
    own.write_folder(tmp_path, 1)
    ids = np.full((200, 200), 10, dtype=np.uint8)
    ids[:100] = 20
    ids[0, :2] = 30
    native.write(tmp_path / "labels" / "big.png", native.png(ids))
    native.write(tmp_path / "images" / "big.png", native.png(native.image(200, 200)))
    remove(tmp_path, "images/000.jpg")
    remove(tmp_path, "labels/000.png")
    own.write_table(tmp_path, own.TABLE.replace("99,ignore", "99,tram"))
    assert main(["check", "folder", *labelled(tmp_path)]) == 0
    empty, rare = (line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning"))
    assert f"No pixel of train is tram ({tmp_path}/classes.csv, line 5)" in empty
    assert f"Only 0.005 % of the labelled pixels of train are house ({tmp_path}/classes.csv, line 4)" in rare
    assert main(["prepare", "folder", *labelled(tmp_path), "--out", str(tmp_path / "store")]) == 0
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning")]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images", "ROOT/images", "--classes", "ROOT/classes.csv"], "--name must be given with folder"),
        (["--name", "a", "--classes", "ROOT/classes.csv"], "--images must be given with folder"),
        (["--name", "a", "--images", "ROOT/images"], "--classes must be given with folder"),
        (["ALL", "--name", "My City"], "--name must be 1 to 64 letters, digits,"),
        (["ALL", "--images", "ROOT/nowhere"], "--images must be a folder, or a pattern such as"),
        (["ALL", "--images", "ROOT/*/a.png"], "a pattern with one * in the name of the files"),
        (["ALL", "--validation", "0.2"], "--validation must be given with --labels"),
        (["ALL", "--labels", "ROOT/labels", "--validation", "20"], "must be a share above 0 and below 1"),
        (["ALL", "--val-images", "ROOT/images"], "--val-images and --val-labels must be given together"),
        (["ALL", "--root", "ROOT"], "--root must not be given with --images"),
        (["ALL", "--class-list", "cityscapes"], "line 2: 'lane' must be one of --class-list: road,"),
        (["ALL", "--class-list", "."], "--class-list . must be a store made by"),
        (["ALL", "--label-map", "ROOT/map.json"], "--name must be given with folder alone, got it with --label-map"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_folder(tmp_path, 2)
    own.write_table(tmp_path)
    given = [option.replace("ROOT", str(tmp_path)) for option in options if option != "ALL"]
    assert main(["check", "folder", *(command(tmp_path) if "ALL" in options else []), *given]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
