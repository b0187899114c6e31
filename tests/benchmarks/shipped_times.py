"""The step times that come with the package, by which a plan says how long a study takes that was never run:

    python -m tests.benchmarks.shipped_times

It writes `trainables/step_times.json`, seconds a step by cost class: on a CPU those of the profiles that need no data,
as this machine measures them, with the trial's beginning, evaluations and checkpoints spread over the steps; on a GPU
those of the paper's recipes, from the tables in `results/`. What no GPU has run is estimated: the GPU's time of the
method that it adds to, times the ratio of the two on a CPU at full size (`results/full_size.md`). A class that the
file has is kept, but for `--again`, so that a new row costs a few seconds. Times are of one thread, and of the
processor's work for it: a busy machine does not count, but for what two threads of one core take from each other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch

from mfm_tune.planning.loading import load_search_space
from search_spaces import table1
from search_spaces.table1 import Method
from tests.benchmarks.step import RECIPES, RESULTS
from trainables.config import Experiment
from trainables.experiment.scales import PAPER_BF16
from trainables.program import STEP_TIMES, Segmentation
from trainables.recipes import PAPER, Scale, from_synthia, mfm
from trainables.running import probe
from trainables.running.environment import machine

SEARCH_SPACES = Path(__file__).resolve().parents[2] / "search_spaces"
MEASURED_STEPS = 3  # after as many to warm up
ROW = re.compile(rf"^\| (?P<recipe>{'|'.join(RECIPES)})(?P<mfm>\+mfm)? \| (?P<ms>[\d.]+) \|", re.MULTILINE)
H100 = "nvidia-h100-80gb-hbm3.md"
GPU = "an NVIDIA H100 with CUDA graphs, without evaluations and reading of data"
ESTIMATED = "by the ratio of a step on a CPU"
STEP = re.compile(r"^\| (?P<row>[^|]+) \|(?:[^|]+\|){4} (?P<s>[\d.]+) \|(?:[^|]+\|){3}$", re.MULTILINE)
BASES = {  # of rows of Table 1 that no GPU has run: what they add to
    **dict.fromkeys((Method.PIPA_CONTROL, Method.PIPA, Method.PIPA_MFM), Method.DAFORMER),
    **dict.fromkeys((Method.SEPICO_CONTROL, Method.SEPICO, Method.SEPICO_MFM), Method.DAFORMER),
    **dict.fromkeys((Method.QUADMIX, Method.QUADMIX_MFM), Method.MIC),
}
GPU_TABLES = {f"step-paper-fp32-graphs-{H100}": PAPER, f"step-paper-bf16-graphs-{H100}": PAPER_BF16}


def embedded_configs() -> dict[str, Experiment]:
    """One config of each cost class that trains without data and weights that must be given, by cost class."""
    found: dict[str, Experiment] = {}
    for file in sorted(SEARCH_SPACES.glob("[a-z]*.py")):
        for declared in load_search_space(file).declared.values():
            configs = () if declared.needs else declared.configs().values()
            found = {declared.program.cost_class(config): config for config in configs} | found
    return found


def seconds_a_step(config: Experiment) -> float:
    """Of a whole trial of the config on this machine, measured on a few of its steps."""
    opened = time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(probe, "STEPS", MEASURED_STEPS),
        mock.patch.object(time, "perf_counter", time.process_time),
    ):
        found = probe.probe(config, folder=folder, data={})
    if "error" in found:
        raise MemoryError(found["error"])
    all_s = time.process_time() - opened
    begin_s = max(0.0, all_s - 4 * MEASURED_STEPS * found["step_s"] / 2 - 2 * found["evaluation_s"])
    whole = begin_s + found["evaluation_s"] * found["evaluations"]
    return found["step_s"] + whole / config.schedule.steps


def gpu_seconds() -> Iterator[tuple[str, float]]:
    """Cost class and seconds a step of the paper's recipes, from GTA and from SYNTHIA."""
    for name, scale in GPU_TABLES.items():
        for row in ROW.finditer((RESULTS / name).read_text(encoding="utf-8")):
            for each in (scale, from_synthia(scale)):
                yield Segmentation().cost_class(_recipe(row, each)), float(row["ms"]) / 1000


def estimated_seconds() -> Iterator[tuple[str, float]]:
    """Cost class and seconds a step of rows of Table 1 that no GPU has run, from GTA and from SYNTHIA."""
    full_size = (RESULTS / "full_size.md").read_text(encoding="utf-8")
    steps = {row["row"]: float(row["s"]) for row in STEP.finditer(full_size)}
    known = dict(gpu_seconds())
    for scale in GPU_TABLES.values():
        for table in table1.STUDIES[scale.name].tables:
            classes = {method: Segmentation().cost_class(table.axis.make(method)) for method in Method}
            for method, base in BASES.items():
                yield classes[method], known[classes[base]] * steps[method.value] / steps[base.value]


def _recipe(row: re.Match[str], scale: Scale) -> Experiment:
    return RECIPES[row["recipe"]](scale, *([mfm(scale)] if row["mfm"] else []))


def rounded(seconds: float) -> float:
    """Three digits: more would be noise."""
    return float(f"{seconds:.3g}")


def main() -> int:
    """Measure what is missing, and write the file after each class."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shipped_times", description="Ship step times.")
    parser.add_argument("--again", action="store_true", help="measure all classes, those too that the file has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = {} if given.again else json.loads(STEP_TIMES.read_text(encoding="utf-8"))["cpu"]["seconds"]
    configs = embedded_configs()
    here = machine(torch.device("cpu"), next(iter(configs.values())))
    cpu = {name: known[name] for name in configs if name in known}
    gpu = {"machine": GPU, "seconds": {name: rounded(seconds) for name, seconds in sorted(gpu_seconds())}}
    estimated = {name: rounded(seconds) for name, seconds in sorted(estimated_seconds())}
    gpus = {"gpu": gpu, "estimated": {"machine": ESTIMATED, "seconds": estimated}}
    for name, config in configs.items():
        if name not in cpu:
            cpu[name] = rounded(seconds_a_step(config))
            print(f"{cpu[name]:8.3g} s  {name}", flush=True)
        content = {"cpu": {"machine": f"one core of an {here['device_name']}", "seconds": dict(sorted(cpu.items()))}}
        STEP_TIMES.write_text(json.dumps({**content, **gpus}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
