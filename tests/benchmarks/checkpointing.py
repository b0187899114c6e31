"""What activation checkpointing saves and costs: a full-size step of DAFormer + MFM, with and without.

python -m tests.benchmarks.checkpointing                        512 x 512, batch 2 + 2: minutes on a CPU, 7 GB
python -m tests.benchmarks.checkpointing --size 256x256 --batch 1

Each of the two is measured in a process of its own on one thread: processor time of the second step, which other work
does not move, and the peak memory of the process. Beside it, without arithmetic, the largest sum of living
tensors, as `tests.benchmarks.memory` counts them for a GPU's attention.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import torch

from tests.benchmarks.memory import GIB, fused_attention, step_memory
from tests.benchmarks.step import Run
from trainables.config import Execution, Experiment, Network
from trainables.models.checkpointing import checkpoint_blocks
from trainables.models.segmentor import Segmentor
from trainables.recipes import PAPER, daformer, mfm
from trainables.running.environment import machine, peak_memory_mib, set_numerics

CPU = torch.device("cpu")
FULL = ((512, 512), 2)  # the paper's crop, and images of each domain
MIB = 2**10  # in a GiB


@dataclass(frozen=True)
class Measured:
    """One of the two: seconds of a step, MiB of the process at its peak, GiB of living tensors at theirs."""

    seconds: float
    process_gib: float
    tensors_gib: float


def config_of(size: tuple[int, int], batch: int, *, checkpointing: bool) -> Experiment:
    """DAFormer + MFM at the paper's architecture."""
    config = daformer(PAPER, mfm(PAPER))
    data = replace(config.data, crop_size=size)  # type: ignore[call-arg]
    return replace(config, data=data, batch_size=batch, execution=Execution(checkpointing=checkpointing))


def own_step(config: Experiment) -> tuple[float, float]:
    """Processor seconds of the second step in this process, and its peak in MiB."""
    set_numerics(1, config.execution.precision)
    run = Run(config, CPU)
    run.step()
    started = time.process_time()
    run.step()
    return time.process_time() - started, peak_memory_mib(CPU)


def living_tensors(config: Experiment) -> float:
    """GiB of living tensors at their peak on the meta device, where nothing is computed."""

    plain = type(config.network).build

    def build(network: Network, num_classes: int) -> Segmentor:
        segmentor = plain(network, num_classes)
        if config.execution.checkpointing:
            checkpoint_blocks(segmentor.encoder)
        return segmentor

    with fused_attention(), mock.patch.object(type(config.network), "build", build):
        return step_memory(config).peak / GIB


def measure(given: argparse.Namespace, *, checkpointing: bool) -> Measured:
    """One of the two, in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.checkpointing", "--own", str(int(checkpointing)), *given.argv]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    seconds, peak_mib = json.loads(told.splitlines()[-1])
    tensors = living_tensors(config_of(*FULL, checkpointing=checkpointing))
    return Measured(seconds, peak_mib / MIB, tensors)


def table(plain: Measured, saving: Measured, given: argparse.Namespace) -> str:
    """Markdown: both, and the ratio."""
    where = machine(CPU, config_of(given.size, given.batch, checkpointing=True))
    rows, columns = given.size
    lines = [
        "# Activation checkpointing: a step of DAFormer + MFM",
        "",
        f"{where['device_name']}; torch {where['torch']}, one thread, fp32; MiT-B5, {rows}x{columns}, batch "
        f"{given.batch} + {given.batch}.",
        f"`python -m tests.benchmarks.checkpointing --size {rows}x{columns} --batch {given.batch}`: processor time of",
        "the second step; peak memory of a process of its own, weights and moments included; the largest sum of living",
        "tensors of a full-size step, in float32 with a GPU's attention, worked out on the meta device. Losses and",
        "gradients are the same to the last bit (`tests/trainables/models/test_checkpointing.py`).",
        "",
        "| | without | with | ratio |",
        "|---|---:|---:|---:|",
    ]
    for name, one, other in (
        ("seconds a step", plain.seconds, saving.seconds),
        ("peak of the process, GiB", plain.process_gib, saving.process_gib),
        ("peak of living tensors at 512x512, 2 + 2, GiB", plain.tensors_gib, saving.tensors_gib),
    ):
        lines.append(f"| {name} | {one:.2f} | {other:.2f} | {other / one:.2f} |")
    return "\n".join(lines) + "\n"


def size(text: str) -> tuple[int, int]:
    """`512x512` as (rows, columns)."""
    rows, columns = map(int, text.split("x"))
    return rows, columns


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.checkpointing", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--size", type=size, default=(512, 512), metavar="HxW", help="training crop")
    parser.add_argument("--batch", type=int, default=2, metavar="N", help="source images, and as many of the target")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the table there")
    parser.add_argument("--own", type=int, choices=(0, 1), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    given.argv = ["--size", "x".join(map(str, given.size)), "--batch", str(given.batch)]
    if given.own is not None:
        print(json.dumps(own_step(config_of(given.size, given.batch, checkpointing=bool(given.own)))))
        return 0
    text = table(measure(given, checkpointing=False), measure(given, checkpointing=True), given)
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "checkpointing.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
