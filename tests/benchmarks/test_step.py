"""The micro-benchmark of a training step runs where only the training code's own libraries are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = """
import sys
for name in ("ray", "mlflow", "mfm_tune"):
    sys.modules[name] = None  # importing it raises ImportError
from tests.benchmarks.step import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_runs_without_ray_and_mlflow(tmp_path: Path) -> None:
    """A recipe with and without MFM: a row and a column of parts each, and the table in a file."""
    argv = ["--scale", "smoke", "--steps", "1", "--recipe", "dacs", "dacs+mfm", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [written] = tmp_path.iterdir()
    text = written.read_text()
    assert text in done.stdout
    for start in (
        "| dacs | ",
        "| dacs+mfm | ",
        "| teacher | ",
        "| mixed: backward | ",
        "| mfm: decode |  | ",
        "| EMA | ",
    ):
        assert f"\n{start}" in text


def test_an_unknown_recipe_is_one_sentence() -> None:
    """Exit code 2 and the names that there are."""
    argv = [sys.executable, "-m", "tests.benchmarks.step", "--recipe", "pipa"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "--recipe must be one of dacs, daformer, hrda, mic, with or without +mfm, got 'pipa'.\n"
