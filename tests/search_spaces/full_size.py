"""One row of Table 1 at its published architecture and crops, batch 1 + 1, in a process of its own.

python -m tests.search_spaces.full_size DACS_MFM                                one row
python -m tests.search_spaces.full_size --out tests/benchmarks/results          all rows, and a table of them
python -m tests.search_spaces.full_size --out FOLDER DAFORMER PIPA              a table of these
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from search_spaces.table1 import STUDIES, Method
from tests.benchmarks.step import Run
from trainables.config import QuadMix
from trainables.evaluation import predict
from trainables.inference.model import parameter_count
from trainables.running.environment import machine, peak_memory_mib, set_numerics
from trainables.training import self_training_step

ROOT = Path(__file__).resolve().parents[2]
MARK = "full size: "


def main(name: str) -> None:
    """Take a step and label an image of the evaluation's size; print times, losses and the peak memory as JSON."""
    table = STUDIES["paper"].tables[0]
    config = replace(table.axis.make(Method[name]), batch_size=1)
    set_numerics(torch.get_num_threads(), config.execution.precision)
    run = Run(config, torch.device("cpu"))
    if isinstance(run.settings.mixer, QuadMix):
        run.step()  # which the next one remembers
    started, worked = time.perf_counter(), time.process_time()
    losses = self_training_step(run.state, run.settings, run.source, run.target)
    values = {key: float(value) for key, value in losses.items()}
    assert all(math.isfinite(value) for value in values.values()), values
    trained, processor_s = time.perf_counter(), time.process_time() - worked
    rows, columns = config.data.evaluation_size
    image = torch.randn(1, 3, rows, columns).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = predict(run.state.student.eval(), image, config.evaluation)
    assert logits.shape == (1, 19, rows, columns)
    assert bool(torch.isfinite(logits).all())
    labelled = time.perf_counter()
    told = {
        "row": Method[name].value,
        "step_s": trained - started,
        "processor_s": processor_s,
        "image_s": labelled - trained,
        "peak_gb": peak_memory_mib(torch.device("cpu")) * 2**20 / 1e9,
        "parameters": parameter_count(run.state.student),
        "task_parameters": sum(p.numel() for p in run.state.tasks.parameters() if p.requires_grad),
        "crop": [*run.source.image.shape[-2:]],
        "image": [rows, columns],
        "machine": machine(torch.device("cpu"), config),
        "losses": values,
    }
    print(MARK + json.dumps(told))


def measured(name: str) -> dict[str, Any]:
    """A row, in a process of its own.

    Raises:
        RuntimeError: The process failed.
    """
    argv = [sys.executable, "-m", "tests.search_spaces.full_size", name]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise RuntimeError(f"{name}: exit status {done.returncode}\n{done.stderr}")
    found: dict[str, Any] = json.loads(lines[0])
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of all rows."""
    where = rows[0]["machine"]
    lines = [
        "# Every row of Table 1 at its published architecture",
        "",
        "One training step with batch 1 + 1 at the published crops, and one image of the evaluation's size labelled, "
        f"on random data, each row in a process of its own. {where['device_name']}; torch {where['torch']}, "
        f"{where['threads']} thread(s), {where['precision']}, eager, channels_last. The first step pays for "
        "allocations. Peak memory is that of the whole process, optimiser moments and the evaluation included.",
        "",
        "| row | student's parameters | its tasks' | crop | step, s | of a processor, s | image | labelled in, s "
        "| peak, GB |",
        "|---|---:|---:|---|---:|---:|---|---:|---:|",
    ]
    lines += [
        f"| {row['row']} | {row['parameters']:,} | {row['task_parameters']:,} | {_size(row['crop'])} | "
        f"{row['step_s']:.0f} | {row['processor_s']:.1f} | {_size(row['image'])} | {row['image_s']:.0f} | "
        f"{row['peak_gb']:.1f} |"
        for row in rows
    ]
    lines += ["", "Losses of the step:", ""]
    for row in rows:
        losses = ", ".join(f"{name.removeprefix('loss/')} {value:.4f}" for name, value in row["losses"].items())
        lines.append(f"* {row['row']}: {losses}")
    return "\n".join(lines) + "\n"


def _size(size: list[int]) -> str:
    return "x".join(map(str, size))


def write(folder: Path, names: Sequence[str]) -> None:
    """Measure rows and write their table, after each row."""
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows.append(measured(name))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        (folder / "full_size.md").write_text(table(rows))


if __name__ == "__main__":
    if sys.argv[1] == "--out":
        write(Path(sys.argv[2]), sys.argv[3:] or [method.name for method in Method])
    else:
        main(sys.argv[1])
