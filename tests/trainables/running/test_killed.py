"""A process that is killed while a method remembers something of earlier steps goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainables.running.killed import main
from tests.trainables.running.test_resume import SCALE
from tests.trainables.trained import same_arrays
from trainables import recipes, tensor_file
from trainables.config import PatchContrast
from trainables.running.trial import CHECKPOINT, FINAL

ROOT = Path(__file__).resolve().parents[3]


def process(*argv: str) -> int:
    """The exit status of a training process; negative where a signal ended it."""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "tests.trainables.running.killed", *argv]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode


@pytest.mark.slow
def test_a_kill_in_the_patch_phase_changes_no_bit(tmp_path: Path) -> None:
    """Killed between two checkpoints, with a bank of several steps; weights and bank end as if nothing had been."""
    recipe = "pipa"
    config = recipes.pipa(SCALE)
    (patch,) = (task for task in config.auxiliary if isinstance(task, PatchContrast))
    kill_at = 7
    assert round(patch.start * config.schedule.steps) + patch.bank_steps <= kill_at < config.schedule.steps
    assert process(recipe, str(tmp_path / "cut"), str(kill_at)) == -signal.SIGKILL
    saved, numbers = tensor_file.load(tmp_path / "cut" / "trial" / CHECKPOINT)
    assert numbers["step"] == 6
    (bank,) = (name for name in saved if name.endswith("bank.labels"))
    assert len(saved[bank]) == patch.bank_steps * 2 * patch.bank_cells
    assert process(recipe, str(tmp_path / "cut")) == 0
    main(recipe, str(tmp_path / "whole"), None)
    whole, cut = (tmp_path / folder / "trial" for folder in ("whole", "cut"))
    assert (whole / FINAL).read_bytes() == (cut / FINAL).read_bytes()
    assert same_arrays(tensor_file.load(whole / CHECKPOINT)[0], tensor_file.load(cut / CHECKPOINT)[0])
