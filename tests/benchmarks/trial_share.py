"""What of a trial is no training step: evaluations and checkpoints, measured on random images.

python -m tests.benchmarks.trial_share --scale paper --precision bf16 --cuda-graphs --recipe dacs+mfm
python -m tests.benchmarks.trial_share --scale smoke --cpu --images 4

The options are those of `tests.benchmarks.step`, and --images, of which the evaluation of a whole validation set (500
images of Cityscapes) is scaled up. Training waits for the copy of a checkpoint, and not for its writing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tests.benchmarks.step import PRECISIONS, WARM_UP, Run, add_options, config_of, wait
from trainables.config import PackedPair, ToyCity
from trainables.data.classes import CITYSCAPES_CLASSES, TOY_CITY_CLASSES
from trainables.data.domains import Example
from trainables.evaluation import evaluate
from trainables.running import checkpoint
from trainables.running.environment import set_numerics
from trainables.training import autocast

VALIDATION = {PackedPair: 500, ToyCity: 100}  # images


@dataclass(frozen=True)
class RandomImages:
    """Validation images of noise."""

    scored: tuple[str, ...]
    means: Mapping[str, tuple[int, ...]]
    size: tuple[int, int]
    count: int
    device: torch.device

    def validation(self) -> Iterator[Example]:
        """The same image again and again."""
        image = torch.randn(1, 3, *self.size, device=self.device)
        label = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        return iter([Example(image, label)] * self.count)

    def merge(self, scores: Tensor) -> Tensor:
        """The class of the highest score."""
        return scores.argmax(1)


def seconds(name: str, given: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Of a step, of an evaluation of the student, of a checkpoint's copy and of its writing."""
    config = config_of(name, given)
    run = Run(config, device)
    for _ in range(WARM_UP):
        run.step()
    found = {"step": timed(device, given.steps, run.step)}
    paper = isinstance(config.data, PackedPair)
    size = config.data.evaluation_size if isinstance(config.data, PackedPair) else config.data.training_size
    classes = CITYSCAPES_CLASSES if paper else TOY_CITY_CLASSES
    images = RandomImages(classes, {}, size or (1024, 2048), given.images, device)

    def scored() -> None:
        with autocast(run.state):
            evaluate([run.state.student], images, config.evaluation, device)

    whole = VALIDATION[PackedPair if paper else ToyCity] / given.images
    found["evaluation"] = whole * timed(device, 1, scored)
    with tempfile.TemporaryDirectory() as folder:
        writer = checkpoint.Writer(Path(folder) / "new", Path(folder) / "old")
        arrays = checkpoint.arrays_of(run.state)
        found["checkpoint, copied"] = timed(device, 1, lambda: writer.begin(arrays, {}))
        found["checkpoint, written"] = timed(device, 1, writer.wait)
        writer.close()
    return found


def timed(device: torch.device, times: int, run: object) -> float:
    """Seconds of one call of several."""
    assert callable(run)
    started = time.perf_counter()
    for _ in range(times):
        run()
    wait(device)
    return (time.perf_counter() - started) / times


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.trial_share", description=(__doc__ or "").split("\n")[0]
    )
    add_options(parser)
    parser.add_argument("--images", type=int, default=25, help="images that are evaluated (25)")
    given = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() and not given.cpu else "cpu")
    set_numerics(given.threads, PRECISIONS[given.precision])
    print("| recipe | step, ms | evaluation, s | checkpoint: copied, s | written, s | share of a trial |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in given.recipe:
        found, config = seconds(name, given, device), config_of(name, given)
        training_s = config.schedule.steps * found["step"]
        evaluations = -(-config.schedule.steps // config.evaluation.interval) + 1  # the teacher's, at the end
        checkpoints = evaluations + training_s / 60 / config.evaluation.checkpoint_minutes
        beside = evaluations * found["evaluation"] + checkpoints * found["checkpoint, copied"]
        cells = (1000 * found["step"], found["evaluation"], found["checkpoint, copied"], found["checkpoint, written"])
        share = 100 * beside / (beside + training_s)
        print(f"| {name} | {' | '.join(f'{each:.2f}' for each in cells)} | {share:.1f} % |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
