"""Reading the recorded cases of the published reference implementation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

RECORDED = Path(__file__).resolve().parents[1] / "golden"  # cases that are part of the repository
Arrays = Mapping[str, np.ndarray]


def read(path: Path) -> Arrays:
    """All arrays of one case file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor of its own."""
    return torch.from_numpy(np.array(array))


def packed(arrays: Arrays, name: str) -> dict[str, Tensor]:
    """A packed group of weights, by the reference's names, float32; integers are tensors too."""
    layout: dict[str, Any] = json.loads(str(arrays[f"{name}.layout"]))
    vector, at, state = arrays[name], 0, {}
    for key, shape in layout["tensors"]:
        count = int(np.prod(shape))
        state[key] = tensor(vector[at : at + count].reshape(shape))
        at += count
    for key, value in layout.get("integers", {}).items():
        state[key] = torch.tensor(value)
    assert at == len(vector)
    return state
