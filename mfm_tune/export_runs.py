"""The trials of a ledger as runs of another tracker: TensorBoard's event files, or offline runs of Weights & Biases.

    python -m mfm_tune.export_runs --to tensorboard [--storage DIR] [--out DIR]
    tensorboard --logdir runs/tensorboard

    python -m mfm_tune.export_runs --to wandb
    wandb sync --include-offline runs/wandb/wandb/offline-run-*

Each trial that counts is a run with its config, its metrics at each step, and the time of each report. Files alone are
written, in the storage folder unless --out names another; given again, the runs of this ledger are replaced. Exit
codes: 0, or 2 with one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mfm_tune.commands.options import Parser
from mfm_tune.console import exit_code, quiet_libraries, steady_streams
from mfm_tune.ledger.state import read_storage
from mfm_tune.tracking.run_files import runs_of, write_tensorboard, write_wandb

WRITERS = {"tensorboard": write_tensorboard, "wandb": write_wandb}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the runs. Returns the exit code."""
    parser = Parser("export_runs", "Write the trials of a ledger as runs of another tracker.")
    parser.add_argument("--to", choices=list(WRITERS), required=True, help="the tracker")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where; default: a folder of its name in the storage")

    def run() -> None:
        given = parser.parse_args(argv)
        out = given.out or given.storage / given.to
        state = read_storage(given.storage)
        with quiet_libraries():
            count = WRITERS[given.to](list(runs_of(given.storage, state)), out, state.trials.keys())
        print(f"{count} run{'' if count == 1 else 's'} in {out}")

    return exit_code(run)


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
