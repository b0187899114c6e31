"""Where a device's time goes in a training step: the kernels of any recipe by class and by time.

python -m tests.benchmarks.kernels --scale paper --precision bf16 --recipe dacs+mfm hrda+mfm
python -m tests.benchmarks.kernels --scale smoke --cpu --recipe dacs+mfm      operators of a CPU, to try it out

The options are those of `tests.benchmarks.step`. Every step is waited for; what its kernels do not take of its time,
the device waited for launches.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.step import PRECISIONS, WARM_UP, Run, config_of, parse, wait
from trainables.running.environment import machine, set_numerics

CLASSES = {
    "convolution": r"conv|dgrad|wgrad|winograd|implicit|cudnn.*(fprop|scudnn)",
    "matrix product": r"gemm|cutlass|matmul|addmm|bmm|cublas|mm$",
    "attention": r"attention|flash|fmha",
    "normalisation": r"norm|bn_|batch_norm",
    "optimiser, EMA": r"multi_tensor|foreach|adam|lerp",
    "softmax, loss": r"softmax|nll|cross_entropy",
    "copies, layouts": r"copy|memcpy|memset|transpose|nchw|nhwc|cat|contiguous|fill|zero",
    "pointwise, reductions": r"elementwise|reduce|add|mul|div|relu|gelu|pow|sum|mean|where|index|gather|scatter",
}
LONGEST = 12  # kernels shown one by one


def kind(kernel: str) -> str:
    """The class of a kernel by its name."""
    return next((name for name, words in CLASSES.items() if re.search(words, kernel, re.IGNORECASE)), "other")


def spent(run: Run, steps: int) -> tuple[Counter[str], float]:
    """Milliseconds a step by kernel, and those that a step took."""
    for _ in range(WARM_UP):
        run.step()
    gpu = run.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiled:
        started = time.perf_counter()
        for _ in range(steps):
            run.step()
        wait(run.device)
        took = 1000 * (time.perf_counter() - started) / steps
    times: Counter[str] = Counter()
    for event in profiled.key_averages():
        times[event.key] += (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1000 / steps
    return times, took


def table(name: str, times: Counter[str], took: float) -> str:
    """Classes, then the longest kernels."""
    busy = times.total()
    classes: Counter[str] = Counter()
    for kernel, each in times.items():
        classes[kind(kernel)] += each
    rows = [f"| {label} | {each:.2f} | {100 * each / busy:.0f} % |" for label, each in classes.most_common()]
    rows += [
        f"| `{kernel[:90]}` | {each:.2f} | {100 * each / busy:.0f} % |" for kernel, each in times.most_common(LONGEST)
    ]
    heading = ("| kernels | ms a step | share |", "|---|---:|---:|")
    return "\n".join([f"{name}: {took:.1f} ms a step, {busy:.1f} of them in kernels", "", *heading, *rows, ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table a recipe."""
    given = parse(argv)
    device = torch.device("cuda" if torch.cuda.is_available() and not given.cpu else "cpu")
    set_numerics(given.threads, PRECISIONS[given.precision])
    for name in given.recipe:
        config = config_of(name, given)
        print(f"{machine(device, config)['device_name']}, {given.precision}, {given.scale}\n")
        print(table(name, *spent(Run(config, device), given.steps)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
