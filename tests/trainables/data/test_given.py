"""What `--data` names is looked at before anything is trained, by a plan too, and with the standard library alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mfm_tune import run
from mfm_tune.planning.loading import load_search_space
from tests.trainables.data import native_files as native
from trainables.config import ImageNetWeights
from trainables.data.__main__ import main
from trainables.data.domains import GivenPaths
from trainables.data.given import check_given
from trainables.recipes import PAPER, dacs

ROOT = Path(__file__).resolve().parents[3]
TABLE2 = ROOT / "search_spaces" / "table2.py"
STATE = {"weight": torch.zeros(300)}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Stores and weights of Table 2 by name; the smallest that there are."""
    folder = tmp_path_factory.mktemp("given")
    native.gta(folder / "gta", "00001", native.image(), native.all_ids(35))
    for split in ("train", "val"):
        native.cityscapes(folder / "cityscapes", split, "ulm_000000_000001", native.image(), native.all_ids(34))
    for name in ("gta", "cityscapes"):
        assert main(["prepare", name, "--root", str(folder / name), "--out", str(folder / f"{name}-store")]) == 0
    torch.save(STATE, folder / "weights.pth")
    return {
        "gta": str(folder / "gta-store"),
        "cityscapes": str(folder / "cityscapes-store"),
        "resnet101-v1c": str(folder / "weights.pth"),
    }


def planned(data: dict[str, str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of a plan of Table 2 at the paper's scale."""
    options = [f"{name}={path}" for name, path in data.items()]
    code = run.main([str(TABLE2), "--profile", "paper", "--plan", "--storage", "/nowhere", "--data", *options])
    return code, capsys.readouterr().err


def test_a_store_of_another_data_set_is_refused_by_a_plan(
    given: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exchanged stores are one sentence with exit code 2; the right ones, and some of them, are planned."""
    assert planned(given, capsys) == (0, "")
    assert planned({"gta": given["gta"]}, capsys) == (0, "")
    code, told = planned(given | {"gta": given["cityscapes"]}, capsys)
    assert code == 2
    assert told == f"--data gta={given['cityscapes']} must be a store of gta, but is one of cityscapes.\n"


def test_a_folder_that_is_no_store_is_refused_by_a_plan(
    given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Native files, say, and a store that lost a file, or its labelled split."""
    native_files = str(Path(given["gta"]).parent / "gta")
    code, told = planned(given | {"gta": native_files}, capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith(
        f"--data gta={native_files} must be a store made by `python -m trainables.data prepare`, but"
    )
    root, store = Path(given["gta"]).parent / "cityscapes", str(tmp_path / "store")
    assert main(["prepare", "cityscapes", "--root", str(root), "--out", store, "--splits", "train"]) == 0
    capsys.readouterr()
    code, told = planned(given | {"cityscapes": store}, capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert "must hold a labelled split to be scored on" in told
    next(Path(store).glob("*.index.arrow")).unlink()
    code, told = planned(given | {"cityscapes": store}, capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert "is missing from its store" in told


def test_a_plan_that_looks_at_its_data_imports_nothing_else(given: dict[str, str]) -> None:
    """Neither torch nor ray, NumPy or Arrow."""
    code = (
        "import sys\n"
        "from mfm_tune import run\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "assert run.main(sys.argv[1:]) == 0\n"
        "loaded = {name.split('.')[0] for name in sys.modules} - before - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in loaded if not name.startswith('_')), file=sys.stderr)\n"
    )
    options = [f"{name}={path}" for name, path in given.items()]
    command = [str(TABLE2), "--profile", "paper", "--plan", "--storage", "/nowhere", "--data", *options]
    ran = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "['search_spaces', 'trainables']"


def test_a_folder_without_photographs_is_refused(given: dict[str, str], tmp_path: Path) -> None:
    """So is a store of something else; a folder with images in each place is not."""
    config = load_search_space(ROOT / "search_spaces" / "camvid.py").declared["smoke"].references["DACS"]
    with pytest.raises(ValueError, match=r"has no images in source/images; give the folder of the photographs"):
        check_given([config], {"realpair": str(tmp_path)})
    with pytest.raises(ValueError, match=r"must be a store of realpair, but is one of gta\."):
        check_given([config], {"realpair": given["gta"]})
    for place in ("source", "target/train", "target/val"):
        native.write(tmp_path / place / "images" / "a.png", native.png(native.image()))
    check_given([config], {"realpair": str(tmp_path)})


def legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


SOUND: dict[str, Callable[[Path], object]] = {
    "weights.safetensors": lambda path: save_file(STATE, path),
    "weights.pth": lambda path: torch.save(STATE, path),
    "weights.bin": legacy,
}


@pytest.mark.parametrize("name", SOUND)
def test_a_file_of_weights_is_told_from_one_that_is_none(name: str, tmp_path: Path) -> None:
    """By its bytes: cut off, text, zeros, empty and folders are refused."""
    path, config = tmp_path / name, dacs(PAPER)
    assert config.initial is ImageNetWeights.RESNET101_V1C
    data = {"resnet101-v1c": str(path)}
    SOUND[name](path)
    check_given([config], data)
    content = path.read_bytes()
    cut = [] if name.endswith(".bin") else [content[:-1], content[: len(content) // 2]]  # that format has no end
    for other in (*cut, b"", b"hello", bytes(1000), b"\xff" * 1000, b"[" * 100000):
        path.write_bytes(other)
        with pytest.raises(ValueError, match=r"--data resnet101-v1c=.* must be a file of weights, but is cut off or"):
            check_given([config], data)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"must be a file of weights, but is no file"):
        check_given([config], data)


def test_a_pair_of_ones_own_that_lacks_its_path_is_one_sentence() -> None:
    """The pair asks for what it needs, and need not look whether that is there."""
    paths = GivenPaths({"tram": "store"})
    assert paths["tram"] == "store"
    assert paths.get("metro") is None
    with pytest.raises(ValueError, match=r"needs the data set 'metro'.*add --data metro=PATH\.$"):
        paths["metro"]
