"""The page on trained models runs as it stands, on a trial of seconds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainables.trained import finished_trial, tiny
from trainables import evaluate, export, predict
from trainables.recipes import SMOKE, dacs

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "trained-models.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "trainables.export": export.main,
    "trainables.predict": predict.main,
    "trainables.evaluate": evaluate.main,
}


def block(name: str) -> str:
    """The block under the comment that names it."""
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"the page has no block for '{name}'"
    return found[1]


def test_the_four_commands_and_the_five_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, from a trial's folder to class names, and to a program without this package."""
    monkeypatch.chdir(tmp_path)
    finished_trial(tmp_path / "runs/trials/0123456789ab/s0-01234567", tiny(dacs(SMOKE))).close()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (48, 96, 3), dtype=np.uint8)).save("street.png")
    for line in block("trained models").splitlines():
        python, option, command, *words = shlex.split(line)
        assert (python, option) == ("python", "-m")
        assert COMMANDS[command](words) == 0, f"{line}: {capsys.readouterr().err}"
    assert "mIoU" in capsys.readouterr().out
    assert sorted(path.name for path in Path("predictions").iterdir()) == ["street_labels.png", "street_overlay.png"]
    names: dict[str, Any] = {}
    exec(block("trained model"), names)
    assert names["logits"].shape == (1, 12, 48, 96)
    exec(block("exported program"), names)
    assert names["logits"].shape == (1, 12, 32, 64)
