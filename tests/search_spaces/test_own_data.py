"""Two folders of one's own, from files to a report: prepared, planned, trained, exported, evaluated; and broken."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfm_tune import run
from tests.trainables.data import own_files as own
from trainables import evaluate, export, predict
from trainables.config import PackedPair
from trainables.data.__main__ import main as data_command
from trainables.data.palette import palette
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs

STUDY = '''"""Does MFM help from one of my cameras to the other?"""

from dataclasses import replace

from mfm_tune.space import Axis, Study, Table
from trainables.config import PackedPair
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs, dacs_mfm

PAIR = PackedPair(
    source="mine-a", target="mine-b",
    crop_size=(32, 64), source_size=(48, 80), target_size=(48, 80), evaluation_size=(48, 80),
)
SCALE = replace(SMOKE, data=PAIR, needs=("mine-a", "mine-b"))
METHODS = {"DACS": dacs(SCALE), "DACS + MFM": dacs_mfm(SCALE)}
axis = Axis(name="method", levels=tuple((name, None) for name in METHODS), make=METHODS.__getitem__)
table = Table(name="mine", title="Mine", axis=axis, columns=(("student/iou/kerb", "kerb"),))
STUDY = Study(name="mine", title="Mine", profile="smoke", program=Segmentation(), tables=(table,),
              references=METHODS, needs=SCALE.needs)
'''
IMAGES = 15  # a folder


def prepare(folder: Path, name: str, *options: str, store: str | None = None, labels: bool = True) -> Path:
    """The store of one of the folders, by the command that users type."""
    out = folder / (store or f"{name}-store")
    files = ["--images", str(folder / name / "images"), "--classes", str(folder / name / "classes.csv")]
    files += ["--labels", str(folder / name / "labels")] if labels else []
    assert (
        data_command(["prepare", "folder", "--name", name, *files, *options, "--out", str(out), "--workers", "1"]) == 0
    )
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mine-a` and `mine-b`, of which the last images are evaluated, with their stores, and `study.py`."""
    folder = tmp_path_factory.mktemp("own")
    for name, first in (("mine-a", 0), ("mine-b", IMAGES)):
        own.write_folder(folder / name, IMAGES, first)
        own.write_table(folder / name)
    prepare(folder, "mine-a")
    prepare(folder, "mine-b", "--validation", "0.4")
    (folder / "study.py").write_text(STUDY, encoding="utf-8")
    return folder


def command(folder: Path, *options: str, file: str = "study.py", **stores: Path) -> list[str]:
    """What a user types behind `python -m mfm_tune.run`; stores are given by their folders, `a` and `b`."""
    given = {"a": folder / "mine-a-store", "b": folder / "mine-b-store"} | stores
    data = [f"mine-{name}={path}" for name, path in given.items()]
    return [str(folder / file), "--no-tracking", "--seeds", "0", *options, "--data", *data]


@pytest.mark.parametrize("engine", ["--inline", pytest.param("--cpus-per-trial=1", marks=pytest.mark.slow)])
def test_two_folders_end_in_a_report_by_their_own_classes_and_a_model_that_is_evaluated(
    folder: Path, tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checked, planned, trained, reported, exported, evaluated as in training, and drawn."""
    for name in ("mine-a", "mine-b"):
        places = [f"--images={folder / name / 'images'}", f"--labels={folder / name / 'labels'}"]
        assert (
            data_command(["check", "folder", "--name", name, f"--classes={folder / name / 'classes.csv'}", *places])
            == 0
        )
    storage = ["--storage", str(tmp_path / "runs")]
    assert run.main(command(folder, *storage, "--plan")) == 0
    assert run.main(command(folder, *storage, engine)) == 0
    report = tmp_path / "runs" / "reports" / "mine-smoke"
    with open(report / "tables" / "classes.csv", newline="", encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(own.CLASSES)
    assert all(name in (report / "report.html").read_text(encoding="utf-8") for name in own.CLASSES)
    shutil.rmtree(report)
    capsys.readouterr()
    without_stores = [word for word in command(folder, *storage, "--report-only") if not word.startswith("mine-")]
    assert run.main([word for word in without_stores if word != "--data"]) == 0  # on another machine, say
    assert (report / "report.html").is_file()

    trial = next((tmp_path / "runs" / "trials").glob("*/s0-*"))
    assert export.main([str(trial), str(tmp_path / "model")]) == 0
    assert json.loads((tmp_path / "model" / "config.json").read_text())["classes"] == list(own.CLASSES)
    scores = tmp_path / "scores.json"
    assert evaluate.main([str(tmp_path / "model"), f"--data=mine-b={folder / 'mine-b-store'}", f"--json={scores}"]) == 0
    numbers = json.loads(scores.read_text())
    assert list(numbers) == [*own.CLASSES, "mIoU", "accuracy"]
    with open(report / "tables" / "trials.csv", newline="", encoding="utf-8") as file:
        finals = {row["config_id"]: float(row["student/miou"]) for row in csv.DictReader(file)}
    assert numbers["mIoU"] == pytest.approx(finals[trial.parent.name], abs=0.05)
    shutil.copytree(folder / "mine-b", tmp_path / "mine-b")
    own.write_table(tmp_path / "mine-b", RENAMED)
    other = prepare(tmp_path, "mine-b", "--validation", "0.4")
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "model"), f"--data=mine-b={other}"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "must have the model's 3 classes, but has 3 and lacks kerb and has curb instead; the model was" in sentence
    assert "the model was trained on mine-a-mine-b-" in sentence
    image = folder / "mine-b" / "images" / f"{IMAGES:03d}.jpg"
    assert predict.main([str(tmp_path / "model"), str(image), "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / f"{IMAGES:03d}_labels.png") as labels:
        drawn = {tuple(colour) for colour in np.asarray(labels.convert("RGB")).reshape(-1, 3).tolist()}
    assert drawn <= {tuple(colour) for colour in palette(own.CLASSES)[:3].tolist()}


@pytest.mark.slow
def test_a_source_may_lack_a_class_that_the_target_has(folder: Path, tmp_path: Path) -> None:
    """It is in both tables, and has an IoU of the target's labels; one that no label has is left out of the mean."""
    a = other_table(folder, tmp_path, "id,class\n10,lane\n20,ignore\n30,house\n99,ignore\n21,kerb\n40,tree\n", "mine-a")
    b = other_table(folder, tmp_path, "id,class\n10,lane\n30,house\n20,kerb\n40,tree\n99,ignore\n")
    line = command(folder, "--storage", str(tmp_path / "runs"), "--inline", "--only", "mine", a=a, b=b)
    assert run.main(line) == 0
    with open(tmp_path / "runs/reports/mine-smoke/tables/trials.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            of_class = {name: row[f"student/iou/{name}"] for name in ("lane", "house", "kerb", "tree")}
            known = [float(value) for value in of_class.values() if value not in ("", "nan")]
            assert of_class["kerb"] not in ("", "nan")
            assert float(row["student/miou"]) == pytest.approx(sum(known) / len(known))


# -- broken ------------------------------------------------------------------------------------------------------------


def edited(folder: Path, tmp_path: Path, *changes: tuple[str, str]) -> list[str]:
    """The command with another study file."""
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / f"{tmp_path.name}.py"  # modules that are imported side by side have names of their own
    file.write_text(text, encoding="utf-8")
    return [str(file), *command(folder)[1:]]


def other_table(folder: Path, tmp_path: Path, table: str, name: str = "mine-b") -> Path:
    """A store of the folder's files by another table of classes."""
    shutil.copytree(folder / name, tmp_path / name)
    own.write_table(tmp_path / name, table)
    return prepare(tmp_path, name, *(["--validation", "0.4"] if name == "mine-b" else []))


def cut_off(folder: Path, tmp_path: Path, pattern: str) -> Path:
    """A copy of the source's store, one of whose files is half there."""
    store = shutil.copytree(folder / "mine-a-store", tmp_path / "mine-a-store")
    path = next(store.glob(pattern))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return store


FEWER = "id,class\n10,lane\n20,ignore\n30,house\n99,ignore\n"
RENAMED = own.TABLE.replace("kerb", "curb")
OTHER_ORDER = "id,class\n20,kerb\n10,lane\n30,house\n99,ignore\n"
NAMED = ('source="mine-a",', 'source="mine-a", classes=("lane", "house", "kerb"),')

Way = Callable[[Path, Path], list[str]]
BROKEN: dict[str, tuple[Way, str]] = {
    "a store that is not there": (lambda f, t: command(f, a=t / "nowhere"), "nowhere does not exist; give the path"),
    "the folder instead of its store": (
        lambda f, t: command(f, a=f / "mine-a"),
        "mine-a must be a store made by `python -m trainables.data prepare`, but has no store.json.",
    ),
    "stores exchanged": (
        lambda f, t: command(f, a=f / "mine-b-store", b=f / "mine-a-store"),
        "mine-b-store must be a store of mine-a, but is one of mine-b.",
    ),
    "a store that lost half of its index": (
        lambda f, t: command(f, a=cut_off(f, t, "*.index.arrow")),
        "bytes, but has",
    ),
    "a damaged manifest": (lambda f, t: command(f, a=cut_off(f, t, "store.json")), "store.json is damaged"),
    "a source without labels": (
        lambda f, t: command(f, a=prepare(f, "mine-a", store=f"{t.name}-unlabelled", labels=False)),
        "must hold labels to be a source, but its training split has none.",
    ),
    "a target that nothing is evaluated on": (
        lambda f, t: command(f, b=prepare(f, "mine-b", store=f"{t.name}-whole")),
        "must hold a labelled split to be scored on; prepare it again without --splits, or a folder of one's own with "
        "--validation SHARE or --val-images.",
    ),
    "a target that lacks a class": (
        lambda f, t: command(f, b=other_table(f, t, FEWER)),
        "mine-a-store, in their order, but lacks kerb; prepare the folder of one's own again",
    ),
    "a class of another name": (
        lambda f, t: command(f, b=other_table(f, t, RENAMED)),
        "but lacks kerb and has curb instead; prepare the folder of one's own again",
    ),
    "classes in another order": (
        lambda f, t: command(f, b=other_table(f, t, OTHER_ORDER)),
        "but class 0 is kerb where it is lane there; prepare the folder of one's own again",
    ),
    "settings that name other classes": (
        lambda f, t: edited(f, t, NAMED),
        "must have the classes of PackedPair.classes, in their order, but class 1 is kerb where it is house there;",
    ),
    "a column of a class that is none": (
        lambda f, t: edited(f, t, ("student/iou/kerb", "student/iou/kerbs")),
        "'student/iou/kerbs' is no metric that these trials report; did you mean 'student/iou/kerb'?",
    ),
    "a name that leads out of a folder": (
        lambda f, t: edited(f, t, ('source="mine-a"', 'source="../mine-a"')),
        "PackedPair.source must be 1 to 64 letters, digits",
    ),
    "a size that is none": (
        lambda f, t: edited(f, t, ("crop_size=(32, 64)", "crop_size=(8, 64)")),
        "PackedPair.crop_size must be two integers (rows, columns) of at least 32, got (8, 64).",
    ),
    "a store that is made for smaller images": (
        lambda f, t: command(f, a=prepare(f, "mine-a", "--size", "12x20", store=f"{t.name}-small")),
        "holds images made for --size 12x20, but 48x80 is needed",
    ),
}


@pytest.mark.parametrize("way", BROKEN)
def test_every_way_of_breaking_a_pair_is_one_sentence(
    folder: Path, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, a line on standard error, no traceback, and nothing trained."""
    make, sentence = BROKEN[way]
    line = make(folder, tmp_path)
    capsys.readouterr()
    assert run.main([*line, "--inline", "--storage", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert "Traceback" not in said.err + said.out
    assert not list(tmp_path.glob("runs/trials/*/*/*.safetensors"))


def test_stores_that_are_not_given_are_named_with_commands_that_make_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(folder / "study.py"), "--inline", "--storage", "/nowhere"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith(
        "needs data that is not given; add --data mine-a=PATH --data mine-b=PATH; stores are made once by"
    )
    assert said[1].startswith("    python -m trainables.data prepare folder --name mine-a --images MINE_A_IMAGES")
    assert said[2].endswith("--validation 0.2 --out MINE_B_STORE --size 48x80 --evaluation-size 48x80")


def test_a_target_that_is_seen_at_two_sizes_is_made_once_with_images_to_evaluate() -> None:
    """At native size, as HRDA's and DAFormer's are."""
    small = PackedPair(source="mine-a", target="mine-b")
    configs = [replace(dacs(SMOKE), data=pair) for pair in (small, replace(small, evaluation_size=(1024, 2048)))]
    commands = Segmentation().store_commands(configs)
    assert commands["mine-a"].endswith("--out MINE_A_STORE --size 720x1280")
    assert commands["mine-b"].endswith("--validation 0.2 --out MINE_B_STORE --size native")
