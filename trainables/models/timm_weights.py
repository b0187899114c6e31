"""Weights of timm's encoders: where they are published, and loading them so that nothing stays random unnoticed.

timm by itself loads a file for an encoder with what fits of it, be it nothing, and goes on. Here a file is loaded into
the whole architecture, with the classifier that the file has or has not: every tensor must be there, and none may be
left over. What timm does to files on the way stays its own (other names of the same tensors; a plain ViT's kernels and
positions are resampled for another patch).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import Tensor

from trainables.experiment.weights import Published

if TYPE_CHECKING:
    from trainables.models.timm_encoder import TimmEncoder

KINDS = {  # of faults, by the words that torch has for them
    "missing": r"Missing key\(s\) in state_dict: (.*)",
    "not of this network": r"Unexpected key\(s\) in state_dict: (.*)",
    "of another shape": r"size mismatch for ([^:]+):",
}


def published(name: str) -> Published:
    """Where the weights of a name are published.

    Args:
        name: Of an architecture of timm, with a tag, or without for the default one.

    Raises:
        ValueError: timm knows of none on the hub, or not as safetensors.
    """
    known = timm.models.get_pretrained_cfg(name)
    if known is None or not known.hf_hub_id:
        raise ValueError(
            f"timm knows of no weights of '{name}' on a hub; give a file by --data {name}=PATH, or choose another tag."
        )
    licence = None if known.license in (None, "unknown") else known.license
    return Published(repository=known.hf_hub_id, file=known.hf_hub_filename or "model.safetensors", licence=licence)


def load_into(encoder: TimmEncoder, name: str, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load a file's tensors into an encoder.

    Args:
        encoder: Of timm.
        name: Of its architecture.
        tensors: Under names that timm takes for this architecture; a classifier may be there or not.
        origin: Where they come from, for the error.

    Raises:
        ValueError: They are those of another architecture.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            whole = _whole_architecture(name, tensors, encoder.layout.options)
    except Exception as error:  # timm's own conversions fail in many ways on what they were not made for
        raise ValueError(
            f"{origin} is of another architecture than {name}: {_faults(error)}; give the file that belongs to the "
            "encoder, or set the encoder it was made for."
        ) from error
    state = whole.state_dict()
    encoder.model.load_state_dict({own: state[own] for own in encoder.model.state_dict()})


def _whole_architecture(name: str, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> torch.nn.Module:
    """The architecture with the file's own classifier, loaded strictly."""
    known = timm.models.get_pretrained_cfg(name)
    named = known.classifier if known is not None else None
    first = named[0] if isinstance(named, tuple | list) else named
    weight = tensors.get(f"{first}.weight")
    classes = 0 if weight is None else weight.shape[0]
    overlay = {"state_dict": dict(tensors), "num_classes": classes, "label_offset": 0}
    model: torch.nn.Module = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **options
    )
    return model


def _faults(error: Exception) -> str:
    """How many tensors are missing, left over or of another shape, and the first of each."""
    found = []
    for kind, words in KINDS.items():
        names = [
            name.strip('"') for each in re.findall(words, str(error)) for name in re.split(r",\s*", each.strip(". "))
        ]
        if names:
            found.append(f"{len(names)} tensor{'s' * (len(names) > 1)} {kind} (first: {names[0]})")
    return (
        ", ".join(found) or f"{type(error).__name__}, {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    )
