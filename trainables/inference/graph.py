"""A model as a graph that runs without this package: PyTorch's exported program, or ONNX.

The graph takes pixel values and normalises them itself; sliding windows are part of it. It is written only where it
gives the network's own logits.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from trainables.inference.model import Model, memory_format
from trainables.models.sliding import slide

TOLERANCE = 1e-5  # of the largest logit: two orders of summation differ by less
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Format(Enum):
    """How a model is written."""

    SAFETENSORS = "safetensors"  # weights and description, for this package
    TORCH_EXPORT = "torch-export"
    ONNX = "onnx"


FILES = {Format.TORCH_EXPORT: "model.pt2", Format.ONNX: "model.onnx"}


class Graph(nn.Module):
    """From pixel values to logits at the model's size, whole or by half-overlapping windows, as at evaluation."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.segmentor = model.segmentor
        self.window = model.description.slide
        self.format = memory_format(model.description)
        like = next(model.segmentor.parameters())
        for name in ("mean", "std"):
            values = like.new_tensor(getattr(model.description, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """RGB pixel values [1, 3, H, W], float from 0 to 255 -> logits [1, K, H, W]."""
        normalised = (image.to(self.mean.dtype) - self.mean) / self.std
        dense = normalised.contiguous(memory_format=self.format)
        if self.window is None:
            return self.segmentor.predict(dense).float()
        rows, columns = self.window
        return slide(self.segmentor.predict, dense, self.window, (rows // 2, columns // 2)).float()


def write_graph(model: Model, kind: Format, folder: Path) -> float:
    """Write `model.pt2` or `model.onnx`, once its logits are equal to the network's.

    Args:
        model: On the CPU.
        folder: Of the model; it is there.

    Returns:
        The largest difference of a logit, as a share of the largest logit.

    Raises:
        ValueError: The network cannot be written so, the packages are missing, or the logits differ.
    """
    missing = [name for name in ONNX_PACKAGES if kind is Format.ONNX and find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--format onnx needs {', '.join(missing)}; install them by pip install onnx onnxscript onnxruntime, or "
            f"give --format {Format.TORCH_EXPORT.value}."
        )
    graph = Graph(model).eval()
    image = 255 * torch.rand((1, 3, *model.description.size), generator=torch.Generator().manual_seed(0))
    temporary = folder / f".{os.getpid()}.{FILES[kind]}"
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = graph(image)
            try:
                written = WRITERS[kind](torch.export.export(graph, (image,)), image, temporary)(image)
            except Exception as error:  # the exporters raise errors of many kinds for what they cannot take
                raise ValueError(_refusal(model, kind, error)) from error
        difference = float((written - own).abs().max() / own.abs().max().clamp(min=1.0))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"The {kind.value} of this {_network(model)} has other logits than the network (by {difference:.1e} of "
                f"the largest, {TOLERANCE:.0e} are allowed), so it was not written; use the model without --format."
            )
        os.replace(temporary, folder / FILES[kind])
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _write_program(program: ExportedProgram, image: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write an exported program, and give what is read back."""
    torch.export.save(program, path)
    loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return loaded


def _write_onnx(program: ExportedProgram, image: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write ONNX, and give ONNX Runtime's run of it."""
    import onnxruntime

    made = torch.onnx.export(
        program, (image,), dynamo=True, verbose=False, input_names=["image"], output_names=["logits"]
    )
    assert made is not None
    made.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"image": pixels.numpy()})[0])


WRITERS = {Format.TORCH_EXPORT: _write_program, Format.ONNX: _write_onnx}


def _network(model: Model) -> str:
    return type(model.description.network).__name__


def _refusal(model: Model, kind: Format, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
    return (
        f"A {_network(model)} cannot be written as {kind.value} ({type(error).__name__}: {reason}); use the model "
        "without --format, which Python reads."
    )
