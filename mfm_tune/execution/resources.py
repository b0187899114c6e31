"""Which CPU cores and GPUs this machine has, and how many trials they hold."""

from __future__ import annotations

import os
from pathlib import Path


def local_gpus() -> int:
    """How many NVIDIA GPUs this machine shows to this process, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    return gpu_devices()


def gpu_devices() -> int:
    """How many NVIDIA GPUs the operating system has, whether this process may use them or not."""
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])


def local_slots(cpus_per_trial: int, gpus_per_trial: float) -> int:
    """How many trials run at once on this machine, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, fitting(cores, local_gpus(), cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial))


def fitting(cpus: float, gpus: float, *, cpus_per_trial: int, gpus_per_trial: float) -> int:
    """How many trials run at once on one machine. A fraction of a GPU never lies on two; shares are counted in
    ten-thousandths, as Ray does, so that ten tenths are a whole."""
    by_cpu = int(cpus // cpus_per_trial)
    share = round(gpus_per_trial * 10_000)
    if share == 0:
        return by_cpu
    by_gpu = int(gpus) * (10_000 // share) if share <= 10_000 else int(gpus * 10_000) // share
    return min(by_cpu, by_gpu)


def take_share(cpus: int, gpus: float) -> None:
    """Give this process as many threads, and GPUs or none, as a worker of a trial has."""
    os.environ["OMP_NUM_THREADS"] = str(cpus)
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
