"""Label maps, overlays and scores of an exported model, by the command lines."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainables.data import own_files as own
from tests.trainables.models.tiny import TINY_DAFORMER, built
from tests.trainables.trained import finished_trial
from trainables import evaluate, export, predict
from trainables.config import SmallDeepLab
from trainables.data.__main__ import main as data_main
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.data.palette import COLOURS
from trainables.description import Description
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.inference.model import CONFIG, EXPORT, WEIGHTS, Model, load_model, save_model
from trainables.running.trial import Trial

Run = tuple[Trial, Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished trial of HRDA with MFM and its exported model."""
    folder = tmp_path_factory.mktemp("predict")
    trial = finished_trial(folder / "trial")
    assert export.main([str(trial.folder), str(folder / "model")]) == 0
    return trial, folder / "model"


def test_the_label_map_is_what_the_student_says(run: Run, tmp_path: Path) -> None:
    """ToyCity's validation image as a PNG file: the labels are the argmax of the student's logits on it."""
    trial, model = run
    example = next(trial.domains.validation())
    student = load_model(model).segmentor
    expected = student.predict(example.image.contiguous(memory_format=torch.channels_last)).argmax(dim=1)[0]
    photograph = trial.folder / "pictures" / "image-0.png"
    assert predict.main([str(model), str(photograph), "--out", str(tmp_path)]) == 0
    label_map = Image.open(tmp_path / "image-0_labels.png")
    assert label_map.mode == "P"
    assert np.array_equal(np.asarray(label_map), expected.numpy())


def test_label_maps_and_overlays_have_the_cityscapes_colours(run: Run, tmp_path: Path) -> None:
    """Of folders as of files; an overlay of strength 1 is the colours alone, of strength 0 the image."""
    trial, model = run
    folder = tmp_path / "photographs"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (37, 91, 3), dtype=np.uint8)  # fitted, and resized back
    Image.fromarray(pixels).save(folder / "odd.png")
    for strength in ("0", "1"):
        more = ["--out", str(tmp_path / strength), "--strength", strength, "--size", "32x64"]
        assert predict.main([str(model), str(folder), *more]) == 0
    labels = Image.open(tmp_path / "1" / "odd_labels.png")
    names = np.array([COLOURS[name] for name in trial.domains.classes], dtype=np.uint8)
    colours = names[np.asarray(labels)]
    assert np.array_equal(np.asarray(labels.convert("RGB")), colours)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "1" / "odd_overlay.png")), colours)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "0" / "odd_overlay.png")), pixels)


def test_a_long_and_thin_image_is_labelled() -> None:
    """The network sees a row of it."""
    network = SmallDeepLab()
    description = Description(
        network=network, classes=CITYSCAPES_CLASSES, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(32, 64)
    )
    thin = np.zeros((1, 5000, 3), dtype=np.uint8)
    assert predict.label_image(Model(built(network), description), thin).shape == (1, 5000)


def test_of_a_folder_the_images_are_labelled_and_never_what_was_made_of_them(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every type that own data may have, without the hidden notes of macOS; and the folder takes no label maps."""
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((37, 91), dtype=np.uint8)).save(tmp_path / "images" / "a.gif")
    (tmp_path / "images" / "._a.png").write_bytes(b"a note of macOS")
    argv = [str(run[1]), str(tmp_path / "images"), "--size", "32x64", "--out"]
    assert predict.main([*argv, str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_labels.png", "a_overlay.png"]
    capsys.readouterr()
    assert predict.main([*argv, str(tmp_path / "out" / ".." / "images")]) == 2
    assert "--out must be another folder than IMAGES, got " in capsys.readouterr().err
    assert len(list((tmp_path / "images").iterdir())) == 2


@pytest.mark.parametrize(
    "images", [np.full((1, 48, 80, 3), 0.5), np.zeros((48, 80, 3), np.uint8), np.zeros((0, 48, 80, 3), np.uint8), [[0]]]
)
def test_what_mlflow_hands_over_must_be_images_of_pixel_values(run: Run, images: Any) -> None:
    """Images in [0, 1] would be labelled as black ones, without a word."""
    with pytest.raises(ValueError, match=r"images must be an array of RGB images \[B, H, W, 3\].* got (\w+ \(|list)"):
        predict._load_pyfunc(str(run[1])).predict(images)


def test_an_image_without_a_defined_range_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Floating-point grey levels, with exit code 2; 16-bit ones are labelled."""
    _, model = run
    Image.fromarray(np.full((37, 91), 0.5, dtype=np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((37, 91), 20000, dtype=np.uint16)).save(tmp_path / "sixteen.png")
    argv = [str(model), "--out", str(tmp_path / "out"), "--size", "32x64", "--strength", "0"]
    assert predict.main([*argv, str(tmp_path / "float.tiff")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith("range is not defined, so convert it to 8 or 16 bits); leave it out.")
    assert predict.main([*argv, str(tmp_path / "sixteen.png")]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "sixteen_overlay.png")).tolist() == [[[78] * 3] * 91] * 37


def test_scores_are_those_of_the_last_evaluation_of_the_trial(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exported student on the same validation images: the same IoU for every class, to the last bit."""
    trial, model = run
    scored = trial._scores(trial._state)[0]["student"]  # type: ignore[arg-type]
    assert evaluate.main([str(model), "--data", "toy-city", "--json", str(tmp_path / "scores.json")]) == 0
    numbers = json.loads((tmp_path / "scores.json").read_text())
    for name, value in zip(trial.domains.scored, scored.iou.tolist(), strict=True):
        assert numbers[name] == (None if np.isnan(value) else value)
    assert numbers["mIoU"] == scored.mean()
    assert f"{scored.mean():6.2f}" in capsys.readouterr().out


def test_a_store_is_scored_by_hand_counted_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cityscapes' layout, packed, under a network of 19 classes; the IoU is worked out with numpy."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            image = tmp_path / "native" / "leftImg8bit" / split / "ulm" / f"ulm_000000_{name}_leftImg8bit.png"
            label = tmp_path / "native" / "gtFine" / split / "ulm" / f"ulm_000000_{name}_gtFine_labelIds.png"
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)).save(image)
            Image.fromarray(rng.choice(np.array([7, 8, 11, 0, 26], dtype=np.uint8), (64, 128))).save(label)
    store = tmp_path / "store"
    argv = ["prepare", "cityscapes", "--root", str(tmp_path / "native"), "--out", str(store)]
    assert data_main([*argv, "--size", "32x64", "--evaluation-size", "32x64"]) == 0
    description = Description(
        network=TINY_DAFORMER, classes=CITYSCAPES_CLASSES, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(32, 64)
    )
    save_model(Model(built(TINY_DAFORMER), description), tmp_path / "model")
    model = load_model(tmp_path / "model")
    out = str(tmp_path / "scores.json")
    assert evaluate.main([str(tmp_path / "model"), "--data", f"cityscapes={store}", "--json", out]) == 0
    train_id = np.full(256, 255)
    train_id[[7, 8, 11, 26]] = [0, 1, 2, 13]
    right, said, there = np.zeros(19), np.zeros(19), np.zeros(19)
    for name in ("a", "b"):
        stem = f"val/ulm/ulm_000000_{name}"
        pixels = np.asarray(Image.open(tmp_path / "native" / "leftImg8bit" / f"{stem}_leftImg8bit.png"))
        label = train_id[np.asarray(Image.open(tmp_path / "native" / "gtFine" / f"{stem}_gtFine_labelIds.png"))]
        predicted = predict.label_image(model, pixels)[label < 255].astype(int)
        label = label[label < 255]
        right += np.bincount(label[label == predicted], minlength=19)
        said += np.bincount(predicted, minlength=19)
        there += np.bincount(label, minlength=19)
    numbers = json.loads(Path(out).read_text())
    union = said + there - right
    expected = [100 * r / u if u else None for r, u in zip(right, union, strict=True)]
    assert [numbers[name] for name in CITYSCAPES_CLASSES] == pytest.approx(expected)
    assert numbers["mIoU"] == pytest.approx(np.mean([value for value in expected if value is not None]))
    assert set(numbers) > {"mIoU16", "mIoU13", "accuracy"}
    assert "100 %" in capsys.readouterr().err


def test_folders_of_ones_own_have_the_scores_of_the_store_that_is_made_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images of another size than the model's, ids and colours by a table; what the table lacks is one sentence."""
    own.write_folder(tmp_path / "ids", 3)
    own.write_folder(tmp_path / "colours", 3, coloured=True)
    tables = {
        "ids": own.write_table(tmp_path),
        "colours": own.write_table(tmp_path, own.COLOUR_TABLE, "colours.csv"),
        "other": own.write_table(tmp_path, "id,class\n10,lane\n20,moss\n", "other.csv"),
        "fewer": own.write_table(tmp_path, "id,class\n10,lane\n20,kerb\n30,\n99,ignore\n", "fewer.csv"),
    }
    description = Description(
        network=TINY_DAFORMER, classes=own.CLASSES, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(32, 64)
    )
    save_model(Model(TINY_DAFORMER.build(3), description), tmp_path / "model")
    places = [str(tmp_path / "ids" / part) for part in ("images", "labels")]
    prepare = ["prepare", "folder", "--name", "own", "--classes", str(tables["ids"]), "--out", str(tmp_path / "store")]
    prepare += ["--images", places[0], "--labels", places[1], "--val-images", places[0], "--val-labels", places[1]]
    assert data_main([*prepare, "--size", "32x64"]) == 0

    def evaluated(*options: str) -> Any:
        status = evaluate.main([str(tmp_path / "model"), *options, "--json", str(tmp_path / "scores.json")])
        told = capsys.readouterr().err.splitlines()[-1]
        return json.loads((tmp_path / "scores.json").read_text()) if status == 0 else told

    def folders(name: str, table: str | None) -> list[str]:
        given = ["--images", str(tmp_path / name / "images"), "--labels", str(tmp_path / name / "labels" / "*.png")]
        return given if table is None else [*given, "--classes", str(tables[table])]

    stored = evaluated("--data", f"own={tmp_path / 'store'}")
    assert stored.keys() == {*own.CLASSES, "mIoU", "accuracy"}
    assert evaluated(*folders("ids", "ids")) == evaluated(*folders("colours", "colours")) == stored
    assert re.search(
        r"unknown label ids: .*000\.png: ids 10, .* name its ids in --classes\.$", evaluated(*folders("ids", None))
    )
    fewer = evaluated(*folders("ids", "fewer"))
    assert fewer.keys() - stored.keys() == {"mIoU2"}  # a class that no label can have must not lower the mean
    assert fewer["mIoU2"] == pytest.approx((fewer["lane"] + fewer["kerb"]) / 2)
    assert "'moss' must be one of the model's classes: lane, kerb, house." in evaluated(*folders("ids", "other"))
    (tmp_path / "ids" / "labels" / "001.png").unlink()
    assert evaluated(*folders("ids", "ids")).endswith("but 001.jpg: no label of this name; complete the folders.")
    assert evaluated("--images", places[0]).startswith("--data, or --images and --labels must be given")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["MODEL", "missing.png", "--out", "OUT"], "IMAGES must be files or folders, got"),
        (["MODEL", "EMPTY", "--out", "OUT"], "IMAGES must be files or folders of images"),
        (["MODEL", "broken.png", "--out", "OUT"], "must be an image, but cannot be read"),
        (["MODEL", "broken.png", "broken.png", "--out", "OUT"], "must have different names, got 2 called broken"),
        (["EMPTY", "broken.png", "--out", "OUT"], "must be a model's folder"),
        (["MODEL", "broken.png", "--out", "OUT", "--strength", "2"], r"--strength must lie in \[0, 1\], got 2"),
        (["MODEL", "broken.png", "--out", "OUT", "--size", "big"], "must be ROWSxCOLUMNS such as 512x1024, got 'big'"),
        (["MODEL", "broken.png"], "--out"),
    ],
)
def test_bad_input_to_predict_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """Exit code 2, a line on standard error, no traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    places = {"MODEL": run[1], "EMPTY": tmp_path / "empty", "OUT": tmp_path / "out"}
    argv = [str(places[a]) if a in places else str(tmp_path / a) if a.endswith(".png") else a for a in arguments]
    assert predict.main(argv) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("predict: 0/")]
    assert len(told) == 1
    assert re.search(sentence, told[0])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("cityscapes=nowhere", "--data cityscapes=nowhere must be a store made by `python -m trainables.data prepare`"),
        ("imagenet=nowhere", "nowhere must be a store made by `python -m trainables.data prepare`"),
        ("cityscapes", "--data must be toy-city, or NAME=STORE"),
    ],
)
def test_bad_input_to_evaluate_is_one_sentence(
    run: Run, capsys: pytest.CaptureFixture[str], data: str, sentence: str
) -> None:
    """Exit code 2, a line on standard error, no traceback."""
    assert evaluate.main([str(run[1]), "--data", data]) == 2
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 1
    assert sentence in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--json", "/none/x.json"], "--json must be a file in a folder that can be written, got '/none/x.json'; see"),
        (["--batch-size", "0"], "--batch-size must be an integer of at least 1, got '0'; see"),
    ],
)
def test_evaluate_refuses_an_option_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], option: list[str], sentence: str
) -> None:
    """The model is not there, and not looked for."""
    assert evaluate.main(["nowhere", "--data", "toy-city", *option]) == 2
    assert capsys.readouterr().err.startswith(sentence)


def keys(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in JSON; of a list the first part."""
    yield above
    parts = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in parts:
        yield from keys(part, (*above, key))


def replaced(value: Any, where: tuple[str | int, ...], by: Any) -> Any:
    """The JSON with something else there."""
    if not where:
        return by
    changed = copy.deepcopy(value)
    place = changed
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = by
    return changed


PARTS = ("format", "network", "classes", "mean", "std", "size", "slide", "channels_last", "step", "data", EXPORT)
HOSTILE = (None, -1, 0, 1.5, "abc", "", True, [], {}, 10**9, 10**400, [10**9] * 2, [[1]], {"class": "MiT"}, np.nan)


@pytest.mark.parametrize("part", PARTS)
def test_whatever_stands_in_a_description_is_used_or_refused_in_one_sentence(
    run: Run, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every key of `config.json` with values of every type, and numbers that would fill the memory."""
    model = shutil.copytree(run[1], tmp_path / "model")
    whole = json.loads((model / CONFIG).read_text())
    assert set(whole) == set(PARTS)
    Image.fromarray(np.zeros((37, 91, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    for where in keys(whole[part], (part,)):
        for value in HOSTILE:
            (model / CONFIG).write_text(json.dumps(replaced(whole, where, value)))
            code = predict.main([str(model), str(tmp_path / "a.png"), "--out", str(tmp_path)])
            told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("predict: ")]
            assert (code, len(told)) in ((0, 0), (2, 1)), (where, value, told)
            assert len("".join(told)) < 600, (where, value)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5_000, '{"format": 1}', "\0", '{"format": 1, "network": {}}'])
def test_a_description_that_is_none_is_one_sentence(
    run: Run, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nested too deeply, too long a number, without its keys."""
    model = shutil.copytree(run[1], tmp_path / "model")
    (model / CONFIG).write_text(text)
    assert evaluate.main([str(model), "--data", "toy-city"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert str(model / CONFIG) in told


def test_data_too_large_for_the_memory_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A benchmark with images of a thousand million rows, which the model's description names."""
    model = shutil.copytree(run[1], tmp_path / "model")
    whole = json.loads((model / CONFIG).read_text())
    (model / CONFIG).write_text(json.dumps(replaced(whole, ("data", "image_size", 0), 10**9)))
    assert evaluate.main([str(model), "--data", "toy-city"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "1000000000 is more than 16384" in told


def test_a_model_with_a_bit_turned_over_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would label images, a little wrongly."""
    model = shutil.copytree(run[1], tmp_path / "model")
    content = bytearray((model / WEIGHTS).read_bytes())
    content[-100] ^= 0x40
    (model / WEIGHTS).write_bytes(content)
    assert evaluate.main([str(model), "--data", "toy-city"]) == 2
    assert "is damaged (its checksum is wrong); export the model again." in capsys.readouterr().err


def test_toy_city_needs_a_model_that_was_trained_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A published model has other classes."""
    description = Description(
        network=TINY_DAFORMER, classes=CITYSCAPES_CLASSES, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(32, 64)
    )
    save_model(Model(built(TINY_DAFORMER), description), tmp_path)
    assert evaluate.main([str(tmp_path), "--data", "toy-city"]) == 2
    assert "needs a model that was trained on it" in capsys.readouterr().err
    assert evaluate.main([str(tmp_path), "--data", f"cityscapes={tmp_path}"]) == 2
    assert "store" in capsys.readouterr().err
