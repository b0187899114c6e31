"""All that only a GPU can show, in one command for a machine that is there for a short while.

python -m tests.benchmarks.gpu_checks --out FOLDER [--minutes 10] [--only NAME ...]
python -m tests.benchmarks.gpu_checks --out FOLDER --dry       the same commands, small and on a CPU

Checks run in the order of their worth, each in a process of its own. What one prints goes to FOLDER/NAME.md as it goes;
with a last line of its exit code it is done, and not run again by the next call, so that several short visits add up. A
check that is cut off keeps what it has printed, and tables of steps their rows.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEP = "-m tests.benchmarks.step --out {out}"
PAPER, TOY = "--scale paper", "--scale smoke --cpu --steps 1 --recipe dacs+mfm"
ENDED = "\nexit code "
LEAST_S = 15.0  # with less time left no check is begun


@dataclass(frozen=True)
class Check:
    """A command of Python.

    Args:
        name: Of its file.
        command: On a GPU.
        dry: The same on a CPU, in seconds.
        minutes: It is cut off after these.
    """

    name: str
    command: str
    dry: str
    minutes: float


BOTH = "dacs dacs+mfm daformer daformer+mfm"
WITH_MFM = "dacs+mfm daformer+mfm hrda+mfm"
CHECKS = (
    Check("tests", "-m pytest -m gpu -q -x", "-m pytest -m gpu -q tests/trainables/running/test_gpu.py", 4),
    Check("step-bf16-graphs", f"{STEP} {PAPER} --precision bf16 --cuda-graphs --steps 5", f"{STEP} {TOY}", 3),
    Check(
        "step-tf32-graphs",
        f"{STEP} {PAPER} --precision tf32 --cuda-graphs --steps 5",
        f"{STEP} {TOY} --precision tf32",
        3,
    ),
    Check(
        "share",
        f"-m tests.benchmarks.trial_share {PAPER} --precision bf16 --cuda-graphs --recipe {WITH_MFM}",
        f"-m tests.benchmarks.trial_share {TOY} --images 2",
        2,
    ),
    Check(
        "kernels",
        f"-m tests.benchmarks.kernels {PAPER} --precision bf16 --steps 5 --recipe {WITH_MFM}",
        f"-m tests.benchmarks.kernels {TOY}",
        2,
    ),
    Check(
        "packing",
        "-m tests.benchmarks.packing --scale mini --cuda-graphs --recipe dacs+mfm",
        f"-m tests.benchmarks.packing {TOY} --seconds 1",
        4,
    ),
    Check(
        "table2-mini",
        "-m mfm_tune.run table2 --profile mini --gpus-per-trial 0.5 --no-tracking --storage {out}/runs",
        "-m mfm_tune.run table2 --profile smoke --only 2c --seeds 0 --no-tracking --inline --storage {out}/runs",
        6,
    ),
    Check("step-bf16-eager", f"{STEP} {PAPER} --precision bf16 --steps 5", f"{STEP} {TOY} --precision bf16", 3),
    Check("step-tf32-eager", f"{STEP} {PAPER} --precision tf32 --steps 5", f"{STEP} {TOY}", 3),
    Check(
        "step-bf16-compiled",
        f"{STEP} {PAPER} --precision bf16 --compile --cuda-graphs --steps 5 --recipe {BOTH}",
        f"{STEP} {TOY}",
        10,
    ),
)


def is_done(path: Path) -> bool:
    """Whether a check ran to its end."""
    return path.exists() and ENDED in path.read_text(encoding="utf-8")


def run(check: Check, path: Path, limit_s: float, *, dry: bool) -> str:
    """Run a check, and how it ended, in a word."""
    words = shlex.split((check.dry if dry else check.command).format(out=path.parent))
    with path.open("w", encoding="utf-8") as file:
        file.write(f"python {shlex.join(words)}\n\n")
        file.flush()
        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return f"cut off after {limit_s:.0f} s"
        file.seek(0, 2)
        file.write(f"{ENDED}{done.returncode}\n")
    return "ok" if done.returncode == 0 else f"exit code {done.returncode}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left and fits; 1 where a check failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu_checks", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where results go, and are looked for"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="all checks together (10)")
    parser.add_argument(
        "--only", nargs="+", choices=[check.name for check in CHECKS], metavar="NAME", help="these alone"
    )
    parser.add_argument("--dry", action="store_true", help="small, on a CPU: whether the commands run")
    given = parser.parse_args(argv)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    deadline, failed = time.monotonic() + 60 * given.minutes, False
    for check in CHECKS:
        path = out / f"{check.name}.md"
        if (given.only and check.name not in given.only) or is_done(path):
            continue
        left = deadline - time.monotonic()
        if left < LEAST_S:
            print(f"{check.name}: no time left; give the same command again", flush=True)
            break
        started = time.monotonic()
        ended = run(check, path, min(left, 60 * check.minutes), dry=given.dry)
        failed |= ended.startswith("exit")
        print(f"{check.name}: {ended}, {time.monotonic() - started:.0f} s, {path}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
