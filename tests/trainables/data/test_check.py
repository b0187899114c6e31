"""What is wrong with native files is told all at once, in one table, and refused with status 2."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data import native_files as native
from trainables.data.__main__ import main
from trainables.data.datasets import dataset_names, find_dataset
from trainables.data.packing.check import check
from trainables.data.readers import Fault, Problem, Reader
from trainables.data.splits import Split


def silent(part: str, done: int, total: int, broken: int) -> None:
    """No progress line."""


def problems_of(reader: Reader, root: Path, *splits: Split) -> list[Problem]:
    return list(check(reader, root, splits or (Split.TRAIN,), 2, silent).problems)


def broken_gta(root: Path) -> None:
    """Two sound pairs, five files without a label, and one of each other fault."""
    ids = native.all_ids(35)
    names = ["sound", "fine", "truncated", "no_image", "short_label", "size", "unknown", "lonely", *"abcd"]
    for seed, name in enumerate(names):
        native.gta(root, name, native.image(seed=seed), ids)
    for name in ("lonely", *"abcd"):
        (root / "labels" / f"{name}.png").unlink()
    (root / "images" / "no_image.png").unlink()
    image, label = root / "images" / "truncated.png", root / "labels" / "short_label.png"
    image.write_bytes(image.read_bytes()[:300])
    label.write_bytes(label.read_bytes()[:-40])
    native.gta(root, "size", native.image(height=7), ids)
    native.gta(root, "unknown", native.image(), np.where(ids == 3, 77, ids).astype(np.uint8))


def test_every_fault_of_a_data_set_is_found_in_one_go(tmp_path: Path) -> None:
    broken_gta(tmp_path)
    found = {(problem.fault, problem.path) for problem in problems_of(find_dataset("gta"), tmp_path)}
    without_label = {(Fault.IMAGE_WITHOUT_LABEL, f"images/{name}.png") for name in ("lonely", *"abcd")}
    assert found == without_label | {
        (Fault.UNREADABLE_IMAGE, "images/truncated.png"),
        (Fault.UNREADABLE_LABEL, "labels/short_label.png"),
        (Fault.SIZES_DIFFER, "labels/size.png"),
        (Fault.UNKNOWN_IDS, "labels/unknown.png"),
        (Fault.LABEL_WITHOUT_IMAGE, "labels/no_image.png"),
    }


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_grey_levels_without_a_defined_range_are_a_fault(kind: type, tmp_path: Path) -> None:
    """A number in a file of 32 bits can be anything; such images were black and white."""
    native.gta(tmp_path, "sound", native.image(), native.all_ids(35))
    native.gta(tmp_path, "wide", native.image(), native.all_ids(35))
    image = tmp_path / "images" / "wide.png"
    Image.fromarray(native.image()[..., 0].astype(kind)).save(image, "TIFF")
    (problem,) = problems_of(find_dataset("gta"), tmp_path)
    assert (problem.fault, problem.path) == (Fault.UNREADABLE_IMAGE, "images/wide.png")
    assert "range is not defined, so convert it to 8 or 16 bits" in problem.detail


def test_a_label_of_another_split_is_told_from_a_missing_one(tmp_path: Path) -> None:
    ids = native.all_ids(34)
    native.cityscapes(tmp_path, "train", "ulm_1_1", native.image(), ids)
    native.cityscapes(tmp_path, "train", "ulm_1_2", native.image(), ids)
    native.cityscapes(tmp_path, "val", "bonn_1_3", native.image(), ids)
    label = tmp_path / "gtFine" / "train" / "ulm" / "ulm_1_2_gtFine_labelIds.png"
    native.write(tmp_path / "gtFine" / "val" / "ulm" / label.name, label.read_bytes())
    label.unlink()
    (problem,) = problems_of(find_dataset("cityscapes"), tmp_path)
    assert (problem.fault, problem.detail) == (Fault.WRONG_SPLIT, "its label lies in gtFine/val")


def test_an_empty_folder_is_a_fault(tmp_path: Path) -> None:
    assert Counter(
        problem.fault for problem in problems_of(find_dataset("cityscapes"), tmp_path, Split.TRAIN, Split.VAL)
    ) == {Fault.EMPTY_FOLDER: 2}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "eight bits", "no png"])
def test_a_damaged_synthia_label_is_a_fault_and_takes_nothing_down(tmp_path: Path, damage: str) -> None:
    ids = native.all_ids(23)
    native.synthia(tmp_path, "0", native.image(), ids)
    path = tmp_path / "GT" / "LABELS" / "0.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    damaged = {"truncated": path.read_bytes()[:-30], "flipped": bytes(data), "no png": b"GIF89a"}
    path.write_bytes(damaged.get(damage, native.png(native.image())))
    (problem,) = problems_of(find_dataset("synthia"), tmp_path)
    assert problem.fault is Fault.UNREADABLE_LABEL


def test_the_command_prints_one_table_with_counts_and_examples_and_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_gta(tmp_path)
    assert main(["check", "gta", "--root", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    row = next(line for line in lines if line.startswith("image without label"))
    assert row.split()[3] == "5"
    assert lines[lines.index(row) + 3].strip() == "... and 2 more"
    assert lines[-1].startswith("10 files are broken")


def test_a_sound_data_set_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native.gta(tmp_path, "a", native.image(), native.all_ids(35))
    assert main(["check", "gta", "--root", str(tmp_path)]) == 0
    assert "every file of train is there and can be read" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "prepare"])
@pytest.mark.parametrize("dataset", dataset_names())
def test_a_folder_without_images_is_told_what_must_lie_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, command: str
) -> None:
    """No option leaves a split out that has nothing else."""
    out = ["--out", str(tmp_path / "out")] if command == "prepare" else []
    assert main([command, dataset, "--root", str(tmp_path), *out]) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.endswith(f"; give the folder of {find_dataset(dataset).layout.rstrip('.')}.")
    assert "--skip-broken" not in sentence
    assert ": no images of the split " in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "gta", "--root", "ROOT/none", "--out", "o"], "--root must be the folder"),
        (["prepare", "kitti", "--root", "ROOT", "--out", "o"], "invalid choice: 'kitti'"),
        (["prepare", "gta", "--root", "ROOT", "--out", "o", "--splits", "val"], "--splits must be of train for gta"),
        (["prepare", "gta", "--root", "ROOT", "--out", "o", "--size", "720"], "must be ROWSxCOLUMNS"),
        (["prepare", "gta", "--root", "ROOT", "--out", "o", "--quality", "101"], "an integer from 1 to 100"),
        (["prepare", "folder", "--root", "ROOT", "--out", "o"], "--label-map must be given with folder"),
        (["check", "folder"], "--label-map must be given with folder, got none of them; they name one's own folders"),
        (["check", "gta", "--root", "ROOT", "--label-map", "m"], "--label-map must be given with folder"),
        (
            ["prepare", "gta", "--root", "ROOT", "--out", "ROOT"],
            "--out must be new, or a store, but ROOT has no store.json;",
        ),
        (
            ["prepare", "gta", "--root", "ROOT", "--out", "ROOT/file"],
            "--out must be a folder, got the file 'ROOT/file'; see",
        ),
        (["prepare", "gta", "--root", "ROOT", "--out", "o", "--quality", "50"], "be given with --codec jpeg, got it"),
        (["info", "ROOT"], "must be a store made by `python -m trainables.data prepare`"),
        (["verify", "ROOT/none"], "must be a store made by"),
        ([], "the following arguments are required"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "file").touch()
    assert main([argument.replace("ROOT", str(tmp_path)) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert words.replace("ROOT", str(tmp_path)) in said
    assert said.count("\n") == 1
