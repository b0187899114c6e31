"""A model by itself: a folder with `model.safetensors` (the plain segmentor's weights) and `config.json`.

No Rebuilder, no teacher, no optimiser: the same parameters and the same cost as a baseline's student.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables import tensor_file
from trainables.atomic import replacing
from trainables.description import Description
from trainables.models.segmentor import Segmentor

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
EXPORT = "export"  # the digest of a description, in both files


@dataclass(frozen=True)
class Model:
    """A segmentor in eval mode, and how to use it."""

    segmentor: Segmentor
    description: Description

    def normalised(self, pixels: Tensor) -> Tensor:
        """Images as the network takes them.

        Args:
            pixels: RGB [B, H, W, 3], uint8.

        Returns:
            [B, 3, H, W], in the weights' dtype, on their device.
        """
        like = next(self.segmentor.parameters())
        mean, std = (like.new_tensor(values) for values in (self.description.mean, self.description.std))
        image = ((pixels.to(like.device).to(like.dtype) - mean) / std).permute(0, 3, 1, 2)
        return image.contiguous(memory_format=memory_format(self.description))


def memory_format(description: Description) -> torch.memory_format:
    """Of weights and images."""
    return torch.channels_last if description.channels_last else torch.contiguous_format


def build_model(description: Description, weights: Mapping[str, Tensor], origin: str) -> Model:
    """The segmentor of a description with given weights.

    Args:
        description: Architecture and use.
        weights: The state dict, whole and nothing else.
        origin: Where the weights come from, for the error.

    Raises:
        ValueError: The weights are those of another architecture.
    """
    own = _state_without_memory(description)
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    wrong += [name for name in weights if name not in own]
    if wrong:
        raise ValueError(
            f"{origin} holds weights of another architecture than the {type(description.network).__name__} that its "
            f"description names: {len(wrong)} tensors do not fit (first: {wrong[0]}); give the file that belongs to it."
        )
    segmentor = description.network.build(len(description.classes))
    segmentor.to(next(tensor.dtype for tensor in weights.values() if tensor.is_floating_point()))
    segmentor.load_state_dict(dict(weights))
    return Model(segmentor.to(memory_format=memory_format(description)).eval(), description)


def _state_without_memory(description: Description) -> dict[str, Tensor]:
    """Names and shapes of the tensors that a description asks for: weights of another size must not fill the memory.

    A network of one's own may compute with values while it is built, a schedule of drop path say, which the meta device
    has not; it is built as it is.
    """
    try:
        with torch.device("meta"):
            return description.network.build(len(description.classes)).state_dict()
    except Exception:  # whatever it does with values that are not there
        return description.network.build(len(description.classes)).state_dict()


def save_model(model: Model, folder: Path) -> None:
    """Write a model; each file is the old one or the new one, never half of each.

    Both have the digest of the description, so that one of two files which an interrupted export left behind is not
    taken for the other's.

    Raises:
        OSError: The folder cannot be written.
    """
    tensor_file.save(folder / WEIGHTS, dict(model.segmentor.state_dict()), _numbers(model.description))
    with replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(model.description.to_json() | _digest(model.description), indent=1) + "\n")


def is_saved(model: Model, folder: Path) -> bool:
    """Whether a folder has the weights of this very model, with this description."""
    return tensor_file.holds(folder / WEIGHTS, dict(model.segmentor.state_dict()), _numbers(model.description))


def _numbers(description: Description) -> dict[str, Any]:
    return {"step": description.step, **_digest(description)}


def _digest(description: Description) -> dict[str, str]:
    return {EXPORT: hashlib.sha256(json.dumps(description.to_json()).encode()).hexdigest()}


def load_model(folder: Path) -> Model:
    """Read a model that `save_model` wrote.

    Raises:
        ValueError: There is none, it is truncated, or weights and description do not belong together.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} must be a model's folder with {WEIGHTS} and {CONFIG}, but is none; make one with "
            "python -m trainables.export RUN OUT."
        )
    try:
        content = json.loads((folder / CONFIG).read_text())
        description = Description.from_json(content)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} must be JSON, but is not ({error}); export the model again.") from error
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    try:
        weights, numbers = tensor_file.load(folder / WEIGHTS)
    except tensor_file.UnusableFile as error:
        raise ValueError(f"{error}; export the model again.") from error
    if numbers.get(EXPORT) != content.get(EXPORT):  # neither has it where earlier code wrote both
        raise ValueError(
            f"{folder} has {WEIGHTS} and {CONFIG} of two exports, of which one was interrupted; export the model again."
        )
    return build_model(description, weights, str(folder / WEIGHTS))


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """What a network cannot run on, or has no memory for, is one sentence.

    Raises:
        ValueError: It cannot; names the model's folder.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{folder} cannot be used as its {CONFIG} says ({reason}); see that size, slide and network are those of "
            "the export, or give smaller images."
        ) from error


def parameter_count(segmentor: Segmentor) -> int:
    """How many parameters a segmentor has."""
    return sum(parameter.numel() for parameter in segmentor.parameters())
