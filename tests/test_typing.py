"""The types that a user's file is checked against: `mypy --strict`, as after installing the packages."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import block

ROOT = Path(__file__).resolve().parents[1]
ENCODER = '''"""An encoder of one's own: patches of 8 pixels, under the DeepLab-V2 head."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from mfm_tune.fields import AtLeast1
from mfm_tune.space import Axis, Study, Table
from trainables.config import DeepLabV2Head, EncoderSettings, Experiment, Segmenter
from trainables.models.segmentor import Encoder, Pyramid
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs


@dataclass(frozen=True, kw_only=True)
class Patches(EncoderSettings):
    width: AtLeast1 = 16

    def build(self) -> Encoder:
        return PatchEncoder(self)


class PatchEncoder(Encoder):
    def __init__(self, settings: Patches) -> None:
        super().__init__()
        self.channels, self.strides = (settings.width,), (8,)
        self.patches = nn.Conv2d(3, settings.width, 8, stride=8)

    def forward(self, image: Tensor) -> Pyramid:
        return (self.patches(image),)


def with_width(width: int) -> Experiment:
    network = Segmenter(encoder=Patches(width=width), head=DeepLabV2Head())
    return replace(dacs(SMOKE), network=network, initial=None)


widths = Axis(name="width", levels=((8, None), (16, None)), make=with_width)
TABLES = (Table(name="width", title="Width", axis=widths),)
STUDY = Study(name="patches", title="Patches", profile="smoke", program=Segmentation(), tables=TABLES)
'''


def checked(folder: Path) -> str:
    """What `mypy --strict` prints about a folder, with nothing of this project's own settings."""
    cache = ROOT / ".mypy_cache" / "of_users"  # of torch's types, once for all runs
    silent = ["--follow-imports", "silent"]  # faults of installed packages are not the user's: mypy leaves them out
    options = ["--strict", "--config-file", os.devnull, "--cache-dir", str(cache), *silent]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(ROOT)},
    )
    return ran.stdout + ran.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of one's own that the pages show, and one with an encoder."""
    pytest.importorskip("mypy")
    for name in ("search space", "encoder study", "search", "auxiliary task"):
        (tmp_path / f"own_{name.replace(' ', '_')}.py").write_text(block(name))
    (tmp_path / "own_encoder.py").write_text(ENCODER)
    return tmp_path


@pytest.mark.slow
def test_files_of_ones_own_are_strictly_typed(folder: Path) -> None:
    """A search space, a search, a task and an encoder; and what does not fit a field is found."""
    assert "Success: no issues found in 5 source files" in checked(folder)
    wrong = folder / "own_encoder.py"
    wrong.write_text(ENCODER.replace("Patches(width=width)", 'Patches(width="wide")').replace("dacs(SMOKE)", "dacs(1)"))
    told = checked(folder)
    assert 'Argument "width" to "Patches" has incompatible type "str"; expected "int"' in told
    assert 'Argument 1 to "dacs" has incompatible type "int"; expected "Scale"' in told


@pytest.mark.parametrize("package", ["mfm_tune", "trainables"])
def test_packages_say_that_they_are_typed(package: str) -> None:
    """Else mypy takes an installed package's types for `Any`."""
    assert (ROOT / package / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in settings["tool"]["setuptools"]["package-data"][package]
