"""Train a recipe at the smoke scale in a process of its own, which may kill itself (SIGKILL) before a step.

python -m tests.trainables.running.killed RECIPE FOLDER [STEP]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.trainables.running.test_resume import SCALE
from trainables import recipes
from trainables.running.trial import Trial


def main(recipe: str, folder: str, kill_at: int | None) -> None:
    """To the end, or to the kill; a checkpoint in the folder is gone on from."""
    config = getattr(recipes, recipe)(SCALE)
    trial = Trial(config, seed=3, folder=str(Path(folder) / "trial"), shared=folder, data={})
    take_step = trial._step

    def step(state: Any) -> Any:
        if state.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(state)

    trial._step = step  # type: ignore[method-assign]
    while trial.advance()["outcome"] is None:
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
