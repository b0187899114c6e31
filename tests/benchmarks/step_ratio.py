"""How much faster a step of the mini study is than in another checkout: batches drawn, both taking turns step by step.

git worktree add ../before 60eadf3
python -m tests.benchmarks.step_ratio ../before --steps 40 > tests/benchmarks/results/step_ratio.md

Each checkout runs this file's steps in a process of its own, on one thread, from random weights. A busy machine slows
both alike; the processor time of a process leaves out what it waited for others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from trainables.config import SelfTraining
from trainables.data.domains import open_domains
from trainables.randomness import Streams
from trainables.recipes import MINI, dacs, mfm
from trainables.running.environment import machine
from trainables.running.initial import assemble, in_layout, new_student
from trainables.training import self_training_step

CPU = torch.device("cpu")
RECIPES = {"DACS": dacs(MINI), "DACS + MFM": dacs(MINI, mfm(MINI))}
WARM_UP = 5


def steps(recipe: str) -> Callable[[], tuple[float, float]]:
    """Takes a step of a recipe, its batches included; returns milliseconds of the processor and of the clock."""
    config = replace(RECIPES[recipe], initial=None)
    settings, streams = config.adaptation, Streams(0)
    assert isinstance(settings, SelfTraining)
    domains = open_domains(config, {}, CPU)
    state = assemble(config, streams, new_student(config, streams, len(domains.classes), CPU), domains)

    def step() -> tuple[float, float]:
        worked, started = time.process_time(), time.perf_counter()
        source = in_layout(domains.source(streams, state.step, config.batch_size), config)
        target = in_layout(domains.target(streams, state.step, config.batch_size), config)
        self_training_step(state, settings, source, target)
        return 1000 * (time.process_time() - worked), 1000 * (time.perf_counter() - started)

    return step


def work(recipe: str) -> None:
    """Take a step for each line of the standard input."""
    torch.set_num_threads(1)
    step = steps(recipe)
    for _ in sys.stdin:
        print(json.dumps(step()), flush=True)


class Checkout:
    """A process that takes steps with the code of a checkout."""

    def __init__(self, folder: Path, recipe: str) -> None:
        argv = [sys.executable, "-c", Path(__file__).read_text(), "--work", recipe]
        self._process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self) -> tuple[float, float]:
        """Milliseconds of a step: the processor's, the clock's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        worked, elapsed = json.loads(self._process.stdout.readline())
        return worked, elapsed

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(recipe: str, before: Path, count: int) -> str:
    """A line of the table: medians of both checkouts, and their ratio."""
    pair = [Checkout(folder, recipe) for folder in (before, Path.cwd())]
    for _ in range(WARM_UP):
        for checkout in pair:
            checkout.step()
    times = [[checkout.step() for checkout in pair] for _ in range(count)]
    for checkout in pair:
        checkout.close()
    cells = []
    for clock in range(2):
        old, new = (median(each[place][clock] for each in times) for place in range(2))
        cells += [f"{old:.1f}", f"{new:.1f}", f"x {old / new:.2f}"]
    return f"| {recipe} | " + " | ".join(cells) + " |"


def revision(folder: Path) -> str:
    """The commit of a checkout."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True)
    return told.stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.step_ratio")
    parser.add_argument("before", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--steps", type=int, default=60, help="timed steps of each (60)")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.work:
        work(given.work)
        return 0
    if given.before is None or not given.before.is_dir():
        parser.error(f"before must be the folder of another checkout, got {given.before}.")
    where = machine(CPU, RECIPES["DACS"])
    print(f"# A step of the mini study: {revision(given.before)} and {revision(Path.cwd())}, taking turns\n")
    print(
        f"{where['device_name']}; torch {where['torch']}, one thread; medians of {given.steps} steps, milliseconds.\n"
    )
    print(
        "| recipe | processor before | now | ratio | clock before | now | ratio |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for recipe in RECIPES:
        print(compare(recipe, given.before, given.steps), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
