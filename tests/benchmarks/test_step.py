"""The micro-benchmark of a training step runs where only the training code's own libraries are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import step

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = """
import sys
for name in ("ray", "mlflow"):
    sys.modules[name] = None  # importing it raises ImportError
from tests.benchmarks.step import main
code = main(sys.argv[1:])
platform = {name for name in sys.modules if name.split(".")[0] == "mfm_tune"}
assert platform == {"mfm_tune", "mfm_tune.fields", "mfm_tune.identity"}, platform
sys.exit(code)
"""


@pytest.mark.slow
def test_it_runs_without_ray_and_mlflow() -> None:
    """A whole recipe with MFM, in the process that measures memory."""
    argv = [sys.executable, "-c", BLOCKED, "--scale", "smoke", "--memory-of", "dacs+mfm"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"peak_mib"' in done.stdout


def test_a_recipe_is_measured_with_and_without_mfm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row and a column of parts each; the table is printed and written."""
    monkeypatch.setattr(step, "peak_of", lambda name, given: 110.0 if name.endswith("mfm") else 100.0)
    argv = ["--scale", "smoke", "--steps", "1", "--cpu", "--recipe", "dacs", "dacs+mfm", "--out", str(tmp_path)]
    assert step.main(argv) == 0
    [written] = tmp_path.iterdir()
    text = written.read_text()
    assert text in capsys.readouterr().out
    assert text.count("\n| dacs | ") == 1
    for start in ("| dacs+mfm | ", "| teacher | ", "| mixed: backward | ", "| mfm: decode |  | ", "| EMA | "):
        assert f"\n{start}" in text
    assert "| +10 % |" in text


def test_pipas_terms_are_measured_in_steps_that_have_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixel contrast on the source pass, patch contrast in passes of its own."""
    monkeypatch.setattr(step, "peak_of", lambda name, given: 100.0)
    names = ["daformer", "daformer+pixel", "daformer+patch"]
    assert step.main(["--scale", "smoke", "--steps", "1", "--cpu", "--recipe", *names]) == 0
    text = capsys.readouterr().out
    assert "| daformer+pixel | " in text
    assert "\n| patch_contrast: backward |  |  | " in text


def test_quadmix_is_measured_in_steps_with_both_views(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same recipe with ClassMix, which it is a ratio of."""
    monkeypatch.setattr(step, "peak_of", lambda name, given: 100.0)
    given = step.parse(["--scale", "smoke", "--cpu"])
    run = step.Run(step.config_of("mic+quadmix", given), torch.device("cpu"))
    for _ in range(step.WARM_UP):
        run.step()
    assert run.state.last is not None
    assert len(run.state.last.mixed) == 2
    assert step.main(["--scale", "smoke", "--steps", "1", "--cpu", "--recipe", "mic", "mic+quadmix"]) == 0
    assert "| mic+quadmix | " in capsys.readouterr().out


def test_an_unknown_recipe_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the names that there are."""
    assert step.main(["--recipe", "pipa"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("--recipe must be one of dacs, daformer, hrda, mic, with or without one of +mfm, +pixel, ")
    assert told.endswith(", got 'pipa'.\n")
