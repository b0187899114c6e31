"""How much memory a training step needs, worked out without a GPU: every tensor's bytes from its birth to its end.

python -m tests.benchmarks.memory                    Table 2(d)'s cell that ran out of memory; Table 1's methods
python -m tests.benchmarks.memory --out tests/benchmarks/results

The shipped step runs on PyTorch's meta device, where tensors have sizes and no contents, at full size in seconds. A
dispatch mode watches each storage from the operation that makes it to the moment when nothing holds it, autograd
included, and keeps the largest sum. Attention runs as the kernel that a GPU takes in float32 (memory-efficient: it
keeps its output and one number a row), or as plain matrices, which is the upper bound.

What this leaves out: workspaces of cuDNN and cuBLAS, the allocator's rounding, and the CUDA context, about a gigabyte
together.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.benchmarks.step import Domains
from trainables import training
from trainables.config import Experiment, SelfTraining
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.randomness import Streams
from trainables.recipes import PAPER, dacs, daformer, hrda, mfm, mic
from trainables.running.initial import assemble, in_layout
from trainables.step_data import Batch

META = torch.device("meta")
GIB = 2**30
CARD_GIB = 24  # the paper's cards
GRIDS = (16, 32, 64)


class Watch(TorchDispatchMode):
    """Bytes of living storages on one device, now and at most.

    Args:
        device: Kind of device; storages elsewhere are not counted.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device.type
        self.now = 0
        self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return out

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it dies."""
        if tensor.device.type != self.device:
            return
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        size = storage.nbytes()
        self._known[storage._cdata] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Scaled dot-product attention as CUDA's memory-efficient kernel, whose backward makes no matrix either."""

    def attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[0]
        return out

    with mock.patch.object(F, "scaled_dot_product_attention", attend):
        yield


@dataclass(frozen=True)
class Needed:
    """Bytes that a step of a config needs.

    Args:
        held: Weights of all networks and optimiser moments: there before and after a step.
        peak: The largest sum during a step.
        parameters: Of the student and its tasks.
    """

    held: int
    peak: int
    parameters: int


def step_memory(config: Experiment) -> Needed:
    """Bytes of the second step of a config on the meta device (its moments are there; gradients are not yet)."""
    assert isinstance(config.adaptation, SelfTraining)
    watch, streams, names = Watch(META), Streams(0), CITYSCAPES_CLASSES
    with META:
        student = config.network.build(len(names))
    domains = Domains(names, META, config.data.training_size)
    state = assemble(config, streams, student.to(META), domains)  # type: ignore[arg-type]
    state.tasks.to(META)
    trained = [p for module in (state.student, state.tasks) for p in module.parameters() if p.requires_grad]
    for module in (state.student, state.tasks, state.teacher.network if state.teacher else state.tasks):
        for tensor in (*module.parameters(), *module.buffers()):
            watch.see(tensor)
    moments = 2 * sum(p.numel() * p.element_size() for p in trained)
    held = watch.now + moments
    rows, columns = config.data.training_size
    size = (config.batch_size, rows, columns)
    source = Batch(torch.empty(size[0], 3, *size[1:], device=META), torch.empty(size, dtype=torch.long, device=META))
    target = Batch(torch.empty(size[0], 3, *size[1:], device=META))
    with (
        watch,
        mock.patch.object(state.optimizer, "step"),  # fused AdamW works in place, and not on this device
        mock.patch.object(torch, "autocast", return_value=nullcontext()),  # nor does autocast
    ):
        training.self_training_step(state, config.adaptation, in_layout(source, config), in_layout(target, config))
    return Needed(held, watch.peak + moments, sum(p.numel() for p in trained))


def cells() -> dict[str, Experiment]:
    """DACS alone, and with MFM at each printed H' = W', at the paper's sizes (DeepLab-V2 R101, 512 x 512, 2 + 2)."""
    return {"DACS": dacs(PAPER)} | {f"H' = W' = {grid}": dacs(PAPER, mfm(PAPER, grid=grid)) for grid in GRIDS}


def methods() -> dict[str, tuple[Experiment, Experiment]]:
    """Table 1's methods without and with MFM."""
    recipes = {"DACS": dacs, "DAFormer": daformer, "HRDA": hrda, "MIC": mic}
    return {name: (recipe(PAPER), recipe(PAPER, mfm(PAPER))) for name, recipe in recipes.items()}


def table_of_cells(measure: Callable[[Experiment], Needed] = step_memory) -> str:
    """Markdown: Table 2(d)."""
    lines = [
        "# Memory of Table 2(d): DACS, DeepLab-V2 R101, 512x512, batch 2 + 2, float32",
        "",
        "Worked out by `python -m tests.benchmarks.memory` on PyTorch's meta device: bytes of all living storages,",
        "from the operation that makes one to its end, at their largest in one shipped step, weights, gradients and",
        f"moments included (torch {torch.__version__}). The CUDA context, workspaces and the allocator's rounding,",
        "about 1 GiB together, come on top. Plain matrices: what the step would need if attention held its softmax.",
        "",
        "| cell | trained parameters | held between steps, GiB | peak, GiB | with plain matrices, GiB | the paper |",
        "|---|---:|---:|---:|---:|---|",
    ]
    peak = 0.0
    for name, config in cells().items():
        with fused_attention():
            fused = measure(config)
        plain, peak = measure(config), fused.peak / GIB
        printed = "OOM" if name.endswith("64") else "trains"
        lines.append(
            f"| {name} | {fused.parameters:,} | {fused.held / GIB:.2f} | {peak:.2f} | {plain.peak / GIB:.2f} | "
            f"{printed} |"
        )
    verdict = "fits" if peak + 1 < CARD_GIB else "does not fit"
    lines += [
        "",
        f"The cell that the paper prints as out of memory {verdict} a card of {CARD_GIB} GB: attention is PyTorch's",
        "scaled-dot-product attention, which holds no 4096 x 4096 matrices of 16 heads, and each term is propagated",
        "back before the next begins.",
    ]
    return "\n".join(lines) + "\n"


def table_of_methods(measure: Callable[[Experiment], Needed] = step_memory) -> str:
    """Markdown: Table 1's methods, and what MFM adds."""
    lines = [
        "# Memory of Table 1's methods at full size, batch 2 + 2, float32",
        "",
        "Crops of 512x512 for DACS and DAFormer, of 1024x1024 for HRDA and MIC; worked out in the same way.",
        "",
        "| method | peak, GiB | with MFM, GiB | MFM adds |",
        "|---|---:|---:|---:|",
    ]
    for name, (without, within) in methods().items():
        with fused_attention():
            alone, both = measure(without).peak, measure(within).peak
        lines.append(f"| {name} | {alone / GIB:.2f} | {both / GIB:.2f} | {100 * (both / alone - 1):+.1f} % |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.memory", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the table there")
    given = parser.parse_args(argv)
    text = f"{table_of_cells()}\n{table_of_methods()}"
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "memory.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
