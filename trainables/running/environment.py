"""What surrounds a trial: numerics that move the last bits, memory, the processor."""

from __future__ import annotations

import contextlib
import platform
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainables.config import Experiment, Precision
from trainables.cuda_graphs import GraphedModule

OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
TF32_CAPABILITY = (8, 0)  # of the first GPUs that have TF32 (Ampere)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory of a GPU or of the machine did not suffice, be it torch's or CUDA's own."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    )


def set_numerics(threads: int, precision: Precision) -> None:
    """Set what is global and moves the last bits: thread count, arithmetic, cuDNN's choice of algorithms.

    Left to itself, torch takes float32 numbers as TF32 in a GPU's convolutions and not in its matrix products. Here it
    is both or neither; `machine` records what was in force.
    """
    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(threads)
    tf32 = precision in (Precision.TF32, Precision.BFLOAT16)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: what this trial kept reserved on a GPU, of the whole process so far on a CPU.

    Reserved, because replayed CUDA graphs use memory that counts as allocated only while they are recorded.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    return _peak_of_process_mib()


def _peak_of_process_mib() -> float:
    """Since this program began: what `getrusage` tells begins with the peak of the process that started it."""
    status = Path("/proc/self/status")
    own = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    if own is not None:
        return int(own[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def machine(device: torch.device, config: Experiment, graphed: Sequence[GraphedModule] = ()) -> dict[str, Any]:
    """What can move the last bits of a result; on a GPU also which operations take float32 numbers as TF32, and whether
    encoders' passes are replayed graphs."""
    gpu = device.type == "cuda"
    common = {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if gpu else _processor(),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "precision": config.execution.precision.value,
    }
    if not gpu:
        return common
    replayed = bool(graphed) and all(module.eager is None for module in graphed)
    return common | {"tf32": _tf32(device), "passes": "replayed" if replayed else "eager"}


def _tf32(device: torch.device) -> str:
    """Which operations of a GPU take float32 numbers as TF32, by the settings in force: `convolutions`, `nothing`."""
    if torch.cuda.get_device_capability(device) < TF32_CAPABILITY:
        return "nothing"
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch puts it there at run time
    settings = {"convolutions": convolutions, "matrix products": torch.backends.cuda.matmul}
    return " and ".join(name for name, each in settings.items() if each.fp32_precision == "tf32") or "nothing"


def _processor() -> str:
    """The CPU's model name and its vector instructions in torch's words."""
    model = platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"
