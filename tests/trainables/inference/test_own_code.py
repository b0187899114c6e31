"""A network of one's own, in a file that the commands do not know until it is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.user_code import load_code, run_file

ROOT = Path(__file__).resolve().parents[3]
STUDY = """from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mfm_tune.fields import AtLeast1
from mfm_tune.space import Axis, Study, Table
from trainables.config import Evaluation, EncoderSettings, HeadSettings, Schedule, Segmenter, SmallResNet
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs

if TYPE_CHECKING:
    from trainables.models.segmentor import Encoder, Head


@dataclass(frozen=True)
class TwiceAsFine(EncoderSettings):
    width: AtLeast1 = 8

    def build(self) -> Encoder:
        import torch

        assert torch.linspace(0, 1, 3)[1].item() == 0.5  # as in schedules of drop path
        return SmallResNet(widths=(self.width, 8, 8)).build()


@dataclass(frozen=True)
class Linear(HeadSettings):
    def build(self, channels: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> Head:
        from torch import nn
        from trainables.models.segmentor import Head

        class LinearHead(Head):
            def __init__(self) -> None:
                super().__init__()
                self.decoded_stages = (len(channels) - 1,)
                self.map = nn.Conv2d(channels[-1], num_classes, 1)

            def forward(self, *stages):
                return self.map(*stages)

        return LinearHead()


def make(width: int):
    config = dacs(SMOKE)
    return replace(
        config,
        network=Segmenter(encoder=TwiceAsFine(width), head=Linear()),
        initial=None,
        schedule=Schedule(steps=2, warmup_steps=0),
        evaluation=Evaluation(interval=2, batch_size=8),
    )


STUDY = Study(
    name="own",
    title="A network of one's own",
    profile="smoke",
    program=Segmentation(),
    tables=(Table(name="width", title="Width", axis=Axis(name="width", levels=((8, None), (16, None)), make=make)),),
    references={},
    seeds=(0,),
)
"""


def command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which knows nothing but what it is given."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two networks, trained, and no longer with its file, which lies elsewhere."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_study.py").write_text(STUDY)
    done = command(folder, "mfm_tune.run", "my_study.py", "--inline", "--no-tracking", "--storage", "runs")
    assert done.returncode == 0, done.stderr
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "my_study.py", folder / "elsewhere" / "my_study.py")
    return folder


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refused command."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


SENTENCE = "it was made with TwiceAsFine of my_study, which is not loaded; give its file with --code my_study.py."


@pytest.mark.slow
def test_a_model_of_ones_own_classes_is_used_with_their_file_and_refused_without(trained: Path) -> None:
    """Exported, predicted with and evaluated in processes that have the file, and in processes that have not."""
    run_folder = next(trained.glob("runs/trials/*/s0-*"))
    code = ["--code", "elsewhere/my_study.py"]
    assert refusal(command(trained, "trainables.export", str(run_folder), "model")).endswith(SENTENCE)
    done = command(trained, "trainables.export", str(run_folder), "model", *code)
    assert done.returncode == 0, done.stderr
    described = json.loads((trained / "model" / "config.json").read_text())["network"]
    assert described["encoder"]["module"] == described["head"]["module"] == "my_study"
    assert "module" not in described
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(trained / "street.png")
    for module, arguments in (
        ("trainables.predict", ["street.png", "--out", "predictions"]),
        ("trainables.evaluate", ["--data", "toy-city"]),
    ):
        assert refusal(command(trained, module, "model", *arguments)).endswith(SENTENCE)
        done = command(trained, module, "model", *arguments, *code)
        assert done.returncode == 0, done.stderr
    assert (trained / "predictions" / "street_labels.png").is_file()


@pytest.mark.slow
def test_a_ledger_is_compared_and_reported_without_the_file(trained: Path) -> None:
    """What it holds are values and names of classes; nothing is made of them."""
    configs = sorted(path.name for path in (trained / "runs" / "trials").iterdir())
    done = command(trained, "mfm_tune.diff", *configs, "--storage", "runs")
    assert done.returncode == 0, done.stderr
    assert "width" in done.stdout
    done = command(trained, "mfm_tune.sync", "--storage", "runs", "--tracking-uri", "sqlite:///mlflow.db")
    assert done.returncode == 0, done.stderr


# -- the option --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("missing.py", None, r"^--code must be a Python file, but .*missing\.py is none\.$"),
        ("broken.py", "1 +\n", r"^--code .*broken\.py, line 1: SyntaxError: invalid syntax.*\.$"),
        ("failing.py", "a = 1\na / 0\n", r"^--code .*failing\.py, line 2: ZeroDivisionError: division by zero\.$"),
        ("leaving.py", "raise SystemExit(3)\n", r"^--code .*leaving\.py, line 1: SystemExit: 3\.$"),
        ("json.py", "a = 1\n", r"^--code .*json\.py has the name of another module, 'json' \(.+\); rename the file\.$"),
        (
            "torch.py",
            "a = 1\n",
            r"^--code .*torch\.py has the name of another module, 'torch' \(.+\); rename the file\.$",
        ),
        ("two-words.py", "a = 1\n", r"^--code two-words\.py cannot be imported as 'two-words'; use letters, digits"),
        ("no_such_package", None, r"^--code must be a Python file, or the name of an installed module, got no_such_pa"),
    ],
)
def test_code_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, text: str | None, sentence: str) -> None:
    """With the line, where the file fails."""
    if text is not None:
        (tmp_path / name).write_text(text)
    given = str(tmp_path / name) if name.endswith(".py") else name
    with pytest.raises(ValueError, match=sentence):
        load_code([given])


def test_code_becomes_the_module_that_training_knew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dotted name in a package; what lies beside it can be imported; it is run once, however often it is given."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "nets_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("WIDTH = 8\n")
    (package / "wide.py").write_text("from nets_of_mine.parts import WIDTH\nprint('run')\n")
    load_code([str(package / "wide.py"), str(package / "wide.py"), "nets_of_mine.wide"])
    assert sys.modules["nets_of_mine.wide"].WIDTH == 8
    assert sys.modules["nets_of_mine"].wide is sys.modules["nets_of_mine.wide"]  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.startswith("nets_of_mine")]:
        del sys.modules[name]


def test_a_file_that_fails_leaves_no_half_module(tmp_path: Path) -> None:
    """Its classes would be found by name."""
    (tmp_path / "half.py").write_text("a = 1\na / 0\n")
    with pytest.raises(ValueError):
        run_file(tmp_path / "half.py", "half_of_mine")
    assert "half_of_mine" not in sys.modules
