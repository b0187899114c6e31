"""The paper's whole path on one machine: native files, the commands that are told, stores, trials, a row of the report.

Files are drawn at the data sets' own sizes. CI takes the path with a small network on the same stores and crops; with
MFM_TUNE_FULL_SIZE=1 it is taken with ResNet-101 and weights from a file, too.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from mfm_tune import run
from tests.search_spaces.test_table1 import FULL
from tests.trainables.data import native_files as native
from trainables.data.__main__ import main
from trainables.running.environment import peak_memory_mib

HERE = Path(__file__).resolve().parent
IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 26, 33, 0]  # of GTA and Cityscapes
SYNTHIA_IDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 17, 0]
IMAGES = 2

Trained = Callable[[str, str, list[str]], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GTA of 1052 x 1914, SYNTHIA of 760 x 1280 and Cityscapes of 1024 x 2048, a few images each."""
    root = tmp_path_factory.mktemp("paper")
    for number in range(IMAGES):
        image, ids = native.smooth(1052, 1914, number), native.blocks(1052, 1914, IDS, number, cell=97)
        native.gta(root / "gta", f"{number:05d}", image, ids)
        image, ids = native.smooth(760, 1280, number), native.blocks(760, 1280, SYNTHIA_IDS, number, cell=97)
        native.synthia(root / "synthia", f"{number:07d}", image, ids)
    for split, city, images in (("train", "ulm", IMAGES), ("val", "bonn", 1)):
        for number in range(images):
            ids = native.blocks(1024, 2048, IDS, number, cell=97)
            native.cityscapes(root / "cityscapes", split, f"{city}_0_{number}", native.smooth(1024, 2048, 9), ids)
    return root


def type_what_is_told(told: str, folder: Path) -> dict[str, str]:
    """Run the commands that the message prints, with one's own folders in the place of its capitals."""
    stores = {}
    for line in told.splitlines():
        if not line.startswith("    python -m trainables.data "):
            continue
        words = shlex.split(line)[3:]
        name = words[words.index("prepare") + 1]
        stores[name] = f"{folder / name}-store"
        paths = {f"{name.upper()}_FOLDER": str(folder / name), f"{name.upper()}_STORE": stores[name]}
        assert main([paths.get(word, word) for word in words]) == 0
    return stores


@pytest.fixture
def trained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Trained:
    """Run a cut table as a user would: once without data, then as the message says; the report's Markdown."""

    def train(table: str, profile: str, more_data: list[str]) -> str:
        command = [str(HERE / f"cut_{table}.py"), "--profile", profile, "--inline", "--no-tracking", "--seeds", "0"]
        command += ["--storage", str(tmp_path / "runs")]
        assert run.main(command) == 2
        stores = type_what_is_told(capsys.readouterr().err, folder)
        data = [f"{name}={path}" for name, path in stores.items()] + more_data
        assert run.main([*command, "--data", *data]) == 0, capsys.readouterr().err
        capsys.readouterr()
        return (tmp_path / "runs" / "reports" / f"{table}-{profile}" / "report.md").read_text(encoding="utf-8")

    return train


def score(report: str, row: str, paper: str) -> float:
    """The number that stands beside the paper's in the one row of this name, which may carry footnotes."""
    pattern = rf"^\| {re.escape(row)}(?: \\\[\d+\\\],?)* \| (\d+\.\d) [^|]*\| {re.escape(paper)} \|"
    (found,) = re.findall(pattern, report, re.MULTILINE)
    return float(found)


def assert_scored(table1: str, table2: str) -> None:
    """DACS w/ MFM on both benchmarks, MFM with 4 blocks on one."""
    scores = [
        score(table1, "DACS w/ MFM", "55.9"),
        score(table1, "DACS w/ MFM", "55.8"),
        score(table2, "4", "54.4"),
    ]
    assert all(0 < value < 100 for value in scores), scores


@pytest.mark.slow
def test_a_row_of_each_table_from_native_files_to_the_report(trained: Trained) -> None:
    assert_scored(trained("table1", "smoke", []), trained("table2", "smoke", []))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(FULL not in os.environ, reason=f"takes minutes and gigabytes of memory: set {FULL}=1")
def test_the_same_with_the_papers_network(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ResNet-101 and weights from a file, which are random here; the peak memory of the process is told."""
    torch.save(timm.create_model("resnet101c").state_dict(), tmp_path / "resnet101_v1c.pth")
    weights = [f"resnet101-v1c={tmp_path / 'resnet101_v1c.pth'}"]
    assert_scored(trained("table1", "paper", weights), trained("table2", "paper", weights))
    peak = peak_memory_mib(torch.device("cpu")) * 2**20 / 1e9
    with capsys.disabled():
        print(f"\npeak memory: {peak:.1f} GB")
