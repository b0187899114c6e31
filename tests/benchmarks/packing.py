"""How many trials a GPU carries at once: steps a second of 1, 2 and 3 processes side by side, all together.

python -m tests.benchmarks.packing --scale mini --cuda-graphs
python -m tests.benchmarks.packing --scale smoke --cpu --seconds 2

The options are those of `tests.benchmarks.step`, and --seconds. Each process has 1/n of the GPU's memory, as a trial of
Ray Tune has with `--gpus-per-trial`. Under NVIDIA's MPS, started before, kernels of several processes run at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

import torch

from tests.benchmarks.step import PRECISIONS, WARM_UP, Run, add_options, config_of
from trainables.running.environment import set_numerics
from trainables.tune import limit_memory

MOST = 3  # processes
READY_S = 30.0  # until all have started, taken their first steps and wait


def steps_a_second(name: str, given: argparse.Namespace) -> float:
    """Of this process, from a common start on."""
    device = torch.device("cuda" if torch.cuda.is_available() and not given.cpu else "cpu")
    set_numerics(given.threads, PRECISIONS[given.precision])
    limit_memory(1 / given.beside)
    run = Run(config_of(name, given), device)
    for _ in range(WARM_UP):
        run.step()
    time.sleep(max(0.0, given.start - time.time()))
    first = run.state.step
    started, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < given.seconds:
        run.step()
        run.state.step = first  # as long as it takes, whatever the schedule's length
        steps += 1
    return steps / elapsed


def together(name: str, count: int, argv: Sequence[str]) -> float:
    """Steps a second of so many processes."""
    command = [sys.executable, "-m", "tests.benchmarks.packing", *argv, "--of", name, "--beside", str(count)]
    start = ["--start", str(time.time() + READY_S)]
    processes = [subprocess.Popen([*command, *start], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return sum(float(process.communicate()[0]) for process in processes)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or one process's figure."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.packing", description=(__doc__ or "").split("\n")[0]
    )
    add_options(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long steps are counted (10)")
    parser.add_argument("--of", help=argparse.SUPPRESS)
    parser.add_argument("--beside", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.of:
        print(steps_a_second(given.of, given))
        return 0
    print("| recipe | processes | steps/s, all together | over one |\n|---|---:|---:|---:|")
    for name in given.recipe:
        alone = None
        for count in range(1, MOST + 1):
            rate = together(name, count, words)
            alone = alone or rate
            print(f"| {name} | {count} | {rate:.1f} | x {rate / alone:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
