"""Published weights: names of their tensors, and reading them without unpickling code.

Names are computed from ours (`published_names`), so every map is one-to-one by construction and works both ways:

* whole checkpoints of DAFormer, HRDA and MIC (names of mmsegmentation: `backbone.`, `decode_head.`), whose EMA and
  ImageNet copies are left out;
* MiT encoders of SegFormer, with the original names or Hugging Face's (where `kv` is split into key and value);
* ResNet-v1c encoders of open-mmlab (`stem.0` ...);
* timm's own names, for any encoder.

Every tensor must be there, none may be left over, all shapes must agree; a file that fails is one sentence.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.models.encoders import MiTEncoder, ResNetEncoder
from trainables.models.segformer import SegFormerHead
from trainables.models.segmentor import Segmentor

Names = dict[str, tuple[str, ...]]  # our name -> published names, whose tensors are concatenated along dimension 0
Rules = Sequence[tuple[str, str]]  # regular expression and replacement, applied to our names in this order

STUDENT = "model."
COPIES = ("ema_model.", "imnet_model.", "mic.")  # the teacher and the frozen ImageNet network beside the student
COUNTER = "num_batches_tracked"  # BatchNorm's counter: absent from old files, and without use

RESNET_RULES: Rules = ((r"^conv1\.", "stem."), (r"^bn1\.", "stem.7."))
HEAD_RULES: Rules = (
    (r"embeddings\.(\d)\.linear\.", r"embed_layers.\1.proj."),
    (r"fusion\.", "fuse_layer."),
    (r"branches\.", "aspp_modules."),
    (r"classifier\.", "conv_seg."),
    (r"convolutions\.(\d)\.", r"aspp_modules.\1.conv."),
    (r"^attention\.", "scale_attention."),
)
SEGFORMER_RULES: Rules = (
    (r"embed_layers\.", "linear_c."),
    (r"fuse_layer\.", "linear_fuse."),
    (r"conv_seg\.", "linear_pred."),
)
HUGGING_FACE_RULES: Rules = (
    (r"^block(\d+)\.(\d+)\.attn\.(q|key|value|sr|norm)\.", r"block.\1.\2.attention.self.\3."),
    (r"attention\.self\.q\.", "attention.self.query."),
    (r"attention\.self\.norm\.", "attention.self.layer_norm."),
    (r"^block(\d+)\.(\d+)\.attn\.proj\.", r"block.\1.\2.attention.output.dense."),
    (r"^block(\d+)\.(\d+)\.norm([12])\.", r"block.\1.\2.layer_norm_\3."),
    (r"^block(\d+)\.(\d+)\.mlp\.fc([12])\.", r"block.\1.\2.mlp.dense\3."),
    (r"^block(\d+)\.(\d+)\.mlp\.dwconv\.", r"block.\1.\2.mlp.dwconv."),
    (r"^patch_embed(\d+)\.proj\.", r"patch_embeddings.\1.proj."),
    (r"^patch_embed(\d+)\.norm\.", r"patch_embeddings.\1.layer_norm."),
    (r"^norm(\d+)\.", r"layer_norm.\1."),
)


# --------------------------------------------------------------------------------------------------------------------
# Loading
# --------------------------------------------------------------------------------------------------------------------


def load_published(segmentor: Segmentor, path: Path) -> None:
    """Load a whole published checkpoint of DAFormer, HRDA or MIC, or a plain mmsegmentation one, into a segmentor.

    Raises:
        ValueError: The file is missing, unreadable, or of another architecture.
    """
    load_segmentor_tensors(segmentor, read_tensors(path), str(path))


def load_encoder(segmentor: Segmentor, path: Path) -> None:
    """Load ImageNet weights into a segmentor's encoder: SegFormer's MiT, open-mmlab's ResNet-v1c, or timm's.

    Raises:
        ValueError: The file is missing, unreadable, or of another architecture.
    """
    load_encoder_tensors(segmentor.encoder, read_tensors(path), str(path))


def load_segmentor_tensors(segmentor: Segmentor, tensors: Mapping[str, Tensor], origin: str = "the tensors") -> None:
    """Load tensors with published names into a segmentor.

    Args:
        segmentor: Any of DeepLab-V2, DAFormer, SegFormer, HRDA.
        tensors: With or without the prefix `model.` and the copies beside it.
        origin: Where they come from, for the error.

    Raises:
        ValueError: They are those of another architecture.
    """
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(COPIES)}
    if any(name.startswith(STUDENT) for name in given):
        given = {name.removeprefix(STUDENT): tensor for name, tensor in given.items()}
    names = published_names(segmentor)
    if isinstance(segmentor.decoder, SegFormerHead):  # the published head inherits a classifier that it does not use
        given = {name: tensor for name, tensor in given.items() if not name.startswith("decode_head.conv_seg.")}
    segmentor.load_state_dict(_mapped(given, names, segmentor.state_dict(), origin))


@runtime_checkable
class LoadsPublished(Protocol):
    """An encoder that knows the names of its published tensors itself."""

    def load_published(self, tensors: Mapping[str, Tensor], origin: str) -> None:
        """Load a file's tensors; a ValueError says that they are those of another architecture, or not all there."""


def load_encoder_tensors(encoder: nn.Module, tensors: Mapping[str, Tensor], origin: str = "the tensors") -> None:
    """Load tensors with published names into an encoder; a classifier beside them is left out.

    Raises:
        ValueError: They are those of another architecture.
    """
    if isinstance(encoder, LoadsPublished):
        encoder.load_published(tensors, origin)
        return
    given = {
        re.sub(r"^(segformer\.)?encoder\.", "", re.sub(r"^backbone\.", "", name)): tensor
        for name, tensor in tensors.items()
        if not re.match(r"(head|fc|classifier|decode_head)\.", name)
    }
    names = max(encoder_namings(encoder), key=lambda naming: _overlap(naming, given))
    encoder.load_state_dict(_mapped(given, names, encoder.state_dict(), origin))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file (.safetensors, or what torch.save wrote), on the CPU; no code in the file is run.

    Raises:
        ValueError: The file is missing, truncated, or holds something else.
    """
    if not path.is_file():
        what = ", which is a folder" if path.is_dir() else ""
        raise ValueError(f"There is no weights file {path}{what}; give the path of a .pth, .bin or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        if isinstance(error, pickle.UnpicklingError) or not reason:  # whose text advises to run what is in the file
            reason = type(error).__name__
        raise ValueError(
            f"{path} cannot be read as weights ({reason}): it is truncated, or holds more than "
            "tensors; fetch it again, or convert it to .safetensors."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} holds no state dict (names and tensors); give a checkpoint of a network.")
    return tensors


# --------------------------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------------------------


def published_names(segmentor: Segmentor) -> Names:
    """Our names of a segmentor's tensors, and those of the published checkpoints (mmsegmentation)."""
    encoder = encoder_namings(segmentor.encoder)[0]
    names = {f"encoder.{own}": tuple(f"backbone.{name}" for name in group) for own, group in encoder.items()}
    decoder = {own: _renamed(own, HEAD_RULES) for own in segmentor.decoder.state_dict()}
    if isinstance(segmentor.decoder, SegFormerHead):
        decoder = {own: _renamed(name, SEGFORMER_RULES) for own, name in decoder.items()}
    return names | {f"decoder.{own}": (f"decode_head.{name}",) for own, name in decoder.items()}


def encoder_namings(encoder: nn.Module) -> tuple[Names, ...]:
    """All published namings of an encoder; the first is the DAFormer family's, the last our own (timm's)."""
    own = list(encoder.state_dict())
    timm: Names = {name: (name,) for name in own}
    match encoder:
        case MiTEncoder():
            original = {name: _original_mit(name) for name in own}
            faces = {name: _hugging_face(published) for name, published in original.items()}
            return {name: (published,) for name, published in original.items()}, faces, timm
        case ResNetEncoder():
            return {name: (_renamed(name, RESNET_RULES),) for name in own}, timm
        case _:
            return (timm,)


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _original_mit(name: str) -> str:
    """SegFormer's name of a MiT tensor, which counts stages from 1."""
    name = name.replace("mlp.dwconv.", "mlp.dwconv.dwconv.")
    if not (stage := re.match(r"stages\.(\d)\.", name)):
        return name.replace("patch_embed.", "patch_embed1.")
    number, rest = int(stage[1]) + 1, name[stage.end() :]
    return re.sub(r"^(downsample|blocks|norm)\.", lambda part: f"{MIT_PARTS[part[1]]}{number}.", rest)


MIT_PARTS = {"downsample": "patch_embed", "blocks": "block", "norm": "norm"}


def _hugging_face(original: str) -> tuple[str, ...]:
    """Hugging Face's names of a MiT tensor, which count stages from 0 and split `kv` into key and value."""
    counted = re.sub(r"^(patch_embed|block|norm)(\d)", lambda part: f"{part[1]}{int(part[2]) - 1}", original)
    if ".attn.kv." in counted:
        return tuple(_renamed(counted.replace(".kv.", f".{half}."), HUGGING_FACE_RULES) for half in ("key", "value"))
    return (_renamed(counted, HUGGING_FACE_RULES),)


def _overlap(names: Names, given: Mapping[str, Tensor]) -> int:
    return sum(name in given for group in names.values() for name in group)


def _mapped(given: Mapping[str, Tensor], names: Names, state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The given tensors under our names.

    Raises:
        ValueError: One is missing, left over, or of another shape.
    """
    expected = {name: own for own, group in names.items() for name in group}
    missing = [name for name in expected if name not in given and COUNTER not in name]
    unknown = [name for name in given if name not in expected]
    mapped = {
        own: torch.cat([given[name] for name in group]) if len(group) > 1 else given[group[0]]
        for own, group in names.items()
        if all(name in given for name in group)
    }
    other = [names[own][0] for own, tensor in mapped.items() if tensor.shape != state[own].shape]
    faults = {"missing": missing, "not of this network": unknown, "of another shape": other}
    told = [f"{len(found)} {kind} (first: {found[0]})" for kind, found in faults.items() if found]
    if told:
        raise ValueError(
            f"{origin} is of another architecture than the configured network: of {len(expected)} tensors "
            f"{', '.join(told)}; give the file that belongs to the network, or set the network it was made for."
        )
    return {own: mapped.get(own, value) for own, value in state.items()}
