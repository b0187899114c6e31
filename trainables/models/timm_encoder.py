"""Any architecture of timm as an encoder: a pyramid whose stages have ceil(H / stride) rows, whatever timm gives.

What families do differently is found out once for each setting, by passes over PyTorch's meta device, which cost no
arithmetic: channels, strides, whether odd sizes are rounded down (ConvNeXt) or refused (Swin, ViT), which are then
padded and cut. All go through timm's `forward_intermediates`, whose maps are [B, C, H, W] for every family; the
feature lists of `features_only` are not (Swin, MambaOut: channels last).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from trainables.experiment.encoders import Norm, Timm
from trainables.experiment.heads import FINEST
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, size_of
from trainables.models.frozen_norms import BATCH_NORMS
from trainables.models.segmentor import Encoder, Pyramid, interpolation, laid_out
from trainables.models.timm_weights import load_into

PLAIN_STRIDES = (4, 8, 16, 32)
# What makes an architecture take images of any size, in the order of trial; the others take theirs alone.
ANY_SIZE: tuple[Mapping[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
WHITE = 255.0


@dataclass(frozen=True, slots=True)
class Layout:
    """What an architecture gives at images of any size.

    Args:
        options: For timm's `create_model`.
        indices: The maps to take, as `forward_intermediates` counts them.
        channels, strides: Of the stages that the encoder gives.
        multiple: Images are padded to this many rows and columns, or a multiple.
        patch: Stride of a plain ViT's maps; None for the others.
        normalised: Whether a plain ViT has a final norm that its blocks' outputs go through.
        names: All tensors of a published file of the architecture, its classifier's included.
    """

    options: Mapping[str, Any]
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int
    patch: int | None = None
    normalised: bool = True
    names: frozenset[str] = frozenset()


class TimmEncoder(Encoder):
    """An encoder of timm, without its classifier and without blocks that no stage is made of.

    Args:
        settings: Name and choices.

    Attributes:
        model: timm's own module with timm's names, as published files have them.
        channels, strides: C_i and stride of each stage, fine to coarse.
        unread: Tensors of a published file of the architecture that this encoder has no use for.

    Raises:
        ValueError: timm does not know the name, or the architecture does not go with the settings.
    """

    model: Any  # timm's interfaces have no types

    def __init__(self, settings: Timm) -> None:
        super().__init__()
        self.name = settings.name
        self.layout = layout = layout_of(settings)
        self.channels, self.strides = layout.channels, layout.strides
        self.layer_decay = settings.layer_decay
        self.model = timm.create_model(settings.name, pretrained=False, num_classes=0, **layout.options)
        plain = layout.patch is not None
        kept = self.model.prune_intermediate_layers(list(layout.indices), prune_norm=not (plain and layout.normalised))
        self.indices = tuple(kept)
        self.norms: nn.ModuleList | None = None
        if plain and not layout.normalised:  # EVA-02's final norm belongs to its classifier
            self.norms = nn.ModuleList(nn.LayerNorm(layout.channels[0]) for _ in layout.indices)
        self.unread = layout.names - set(self.model.state_dict())
        if settings.norm is Norm.FROZEN:
            if not any(isinstance(layer, BATCH_NORMS) for layer in self.model.modules()):
                raise ValueError(f"Timm.norm has no effect on {settings.name}, which has no BatchNorm; leave it out.")
            self.freeze()

    def forward(self, image: Tensor) -> Pyramid:
        """[B, 3, H, W] -> [B, C_i, ceil(H / s_i), ceil(W / s_i)], s_i of `strides`."""
        rows, columns = size_of(image)
        padded = F.pad(image, (0, -columns % self.layout.multiple, 0, -rows % self.layout.multiple))
        maps = self.model.forward_intermediates(
            padded,
            indices=list(self.indices),
            norm=self.layout.patch is not None and self.layout.normalised,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        sizes = [(-(-rows // stride), -(-columns // stride)) for stride in self.strides]
        stages = self._resampled(maps, sizes) if self.layout.patch is not None else maps
        return tuple(
            laid_out(stage[..., : size[0], : size[1]], image) for stage, size in zip(stages, sizes, strict=True)
        )

    def _resampled(self, maps: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """A plain ViT's maps on the grids of the stages; one map serves all."""
        if self.norms is not None:
            maps = [
                norm(part.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, part in zip(self.norms, maps, strict=True)
            ]
        maps = maps if len(maps) > 1 else maps * len(sizes)
        assert self.layout.patch is not None
        return [
            resample(part, stride / self.layout.patch, size)
            for part, stride, size in zip(maps, self.strides, sizes, strict=True)
        ]

    def load_published(self, tensors: Mapping[str, Tensor], origin: str) -> None:
        """Load a file's tensors, with or without a classifier.

        Raises:
            ValueError: They are those of another architecture.
        """
        load_into(self, self.name, tensors, origin)

    def trained_parameters(self) -> Iterator[tuple[nn.Parameter, float, bool]]:
        """Every parameter that learns, its share of the encoder's learning rate, and whether weights decay on it.

        timm's groups carry the share as `lr_scale`, which torch's optimisers do not read. Vectors (scales, shifts,
        biases) and what the architecture lists (tokens, positions, tables of biases) do not decay.
        """
        listed: set[str] = getattr(self.model, "no_weight_decay", set)()
        groups = param_groups_layer_decay(
            self.model, weight_decay=1.0, no_weight_decay_list=listed, layer_decay=self.layer_decay
        )
        for group in groups:
            for parameter in group["params"]:
                yield parameter, group["lr_scale"], group["weight_decay"] > 0
        for parameter in [] if self.norms is None else self.norms.parameters():
            yield parameter, 1.0, False


def resample(part: Tensor, ratio: float, size: tuple[int, int]) -> Tensor:
    """Bilinear samples of [B, C, h, w] at (rows, columns) cells that are `ratio` cells of the map apart.

    Cells begin at the upper left corner of both grids, so that a map of a padded image keeps its place. The order of
    additions of its gradient is fixed.
    """
    if ratio == 1 and tuple(part.shape[-2:]) == size:
        return part
    with torch.autocast(part.device.type, enabled=False):
        whole = part.float() if part.dtype in (torch.bfloat16, torch.float16) else part
        rows = interpolation(part.shape[-2], size[0], whole.dtype, whole.device, ratio)
        columns = interpolation(part.shape[-1], size[1], whole.dtype, whole.device, ratio)
        return (rows @ (whole.contiguous() @ columns.T)).to(part.dtype)


# --------------------------------------------------------------------------------------------------------------------
# What an architecture is like
# --------------------------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """See that timm has an architecture, and weights under its tag.

    Raises:
        ValueError: It has not; close names are given.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(name):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        remedy = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() has all names."
        raise ValueError(f"Timm.name must be an architecture of timm {timm.__version__}, got {name!r}; {remedy}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        known = ", ".join(sorted(tags, key=lambda each: -difflib.SequenceMatcher(None, tag, each).ratio())[:3])
        raise ValueError(
            f"Timm.name must carry a tag of {architecture}'s weights, got {name!r}; "
            f"{f'close ones are {known}' if known else 'timm knows none'}."
        )


def normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation of the images that the weights of a name were trained on, pixel values, RGB.

    Raises:
        ValueError: timm does not know the name.
    """
    check_name(name)
    published = timm.models.get_pretrained_cfg(name)
    if published is None:  # an architecture without weights
        return IMAGENET_MEAN, IMAGENET_STD
    return _pixel_values(published.mean), _pixel_values(published.std)


def _pixel_values(shares: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (round(WHITE * share, 6) for share in shares)
    return red, green, blue


@lru_cache(maxsize=32)
def layout_of(settings: Timm) -> Layout:
    """What the architecture gives under these settings.

    Raises:
        ValueError: timm does not know it, it does not go with the settings, or it takes images of one size alone.
    """
    check_name(settings.name)
    chosen = _chosen(settings)
    model, options, maps, multiple = _accepting_any_size(settings.name, chosen)
    _check_drop_path(settings, model)
    strides = [_stride(settings.name, part, _probe(multiple)) for part in maps]
    names = frozenset(model.state_dict())
    if len(maps) > 1 and len(set(strides)) == 1:
        return replace(_plain(settings, model, maps, options), names=names)
    if settings.blocks is not None or settings.patch is not None:
        field = "blocks" if settings.blocks is not None else "patch"
        raise ValueError(f"Timm.{field} is a choice for plain ViTs; {settings.name} has stages of its own.")
    indices = tuple(index for index, stride in enumerate(strides) if stride >= FINEST)
    return Layout(
        options=options,
        indices=indices,
        channels=tuple(maps[index].shape[1] for index in indices),
        strides=tuple(strides[index] for index in indices),
        multiple=1 if _rounds_up(model, strides, multiple) else multiple,
        names=names,
    )


def _plain(settings: Timm, model: nn.Module, maps: list[Tensor], options: Mapping[str, Any]) -> Layout:
    depth, width = len(maps), maps[0].shape[1]
    blocks = settings.blocks or tuple(sorted({max(depth * part // 4 - 1, 0) for part in (1, 2, 3, 4)}))
    blocks = blocks if len(blocks) in (1, 4) else blocks[-1:]
    if blocks[-1] >= depth:
        raise ValueError(
            f"Timm.blocks must be from 0 to {depth - 1} for {settings.name}, which has {depth} blocks, got {blocks!r}."
        )
    patch = _probe(_coarsest(model))[0] // maps[0].shape[-2]
    return Layout(
        options=options,
        indices=blocks,
        channels=(width,) * len(PLAIN_STRIDES),
        strides=PLAIN_STRIDES,
        multiple=patch,
        patch=patch,
        normalised=not isinstance(getattr(model, "norm", nn.Identity()), nn.Identity),
    )


def _chosen(settings: Timm) -> dict[str, Any]:
    """Arguments of timm's `create_model` for what the settings choose."""
    given = {
        "output_stride": settings.output_stride,
        "patch_size": settings.patch,
        "drop_path_rate": settings.drop_path,
    }
    return {name: value for name, value in given.items() if value is not None}


FIELDS = {"output_stride": "output_stride", "patch_size": "patch", "drop_path_rate": "drop_path"}


def _accepting_any_size(name: str, chosen: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Any], list[Tensor], int]:
    """The architecture without contents, the options under which it takes any size, its maps, its coarsest stride."""
    for option in chosen:
        _check_option(name, option, chosen)
    fault = ""
    for sizes in ANY_SIZE:
        options = {**chosen, **sizes}
        try:
            with torch.device("meta"):
                model = timm.create_model(name, pretrained=False, **options)
            multiple = _coarsest(model)
            return model, options, _maps(model, _probe(multiple)), multiple
        except TypeError as error:  # the architecture has no such option
            fault = fault or str(error)
        except Exception as error:  # whatever an architecture does with a size that is not its own
            fault = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(
        f"Timm({name!r}) gives no features at images of any size ({fault.rstrip('.')}), and crops and windows have "
        "several; choose a convolutional, hierarchical or plain ViT architecture that does."
    )


def _check_option(name: str, option: str, chosen: Mapping[str, Any]) -> None:
    try:
        with torch.device("meta"):
            timm.create_model(name, pretrained=False, **{option: chosen[option]})
    except TypeError:
        raise ValueError(
            f"Timm.{FIELDS[option]} is no choice for {name}, which has no {option}; leave it out."
        ) from None


def _check_drop_path(settings: Timm, model: nn.Module) -> None:
    dropping = [module for module in model.modules() if isinstance(module, DropPath) and module.drop_prob > 0]
    if settings.drop_path and not dropping:
        raise ValueError(f"Timm.drop_path has no effect on {settings.name}, which has no drop path; leave it out.")


def _stride(name: str, part: Tensor, size: tuple[int, int]) -> int:
    """The stride of a map of an image of this size.

    Raises:
        ValueError: It is no whole number, or another one in rows than in columns.
    """
    stride = size[0] // part.shape[-2]
    if (part.shape[-2] * stride, part.shape[-1] * stride) != size:
        rows, columns = size_of(part)
        raise ValueError(
            f"Timm({name!r}) makes {rows} x {columns} cells of an image of {size[0]} x {size[1]}, and heads need whole "
            "strides; choose another architecture."
        )
    return stride


def _coarsest(model: Any) -> int:
    """The coarsest stride of an architecture by timm's own account: images of its multiples have no odd stage."""
    return max(int(entry["reduction"]) for entry in model.feature_info)


def _probe(multiple: int) -> tuple[int, int]:
    """(rows, columns) of an image that divides without remainder, large enough for every architecture, not square."""
    rows = multiple * -(-128 // multiple)
    return rows, 2 * rows


def _maps(model: Any, size: tuple[int, int]) -> list[Tensor]:
    """All maps of a pass over PyTorch's meta device."""
    with torch.no_grad():
        image = torch.empty(1, 3, *size, device="meta")
        maps: list[Tensor] = model.eval().forward_intermediates(image, output_fmt="NCHW", intermediates_only=True)
    return maps


def _rounds_up(model: nn.Module, strides: list[int], multiple: int) -> bool:
    """Whether every stage of an odd image has ceil(H / stride) rows and ceil(W / stride) columns by itself."""
    odd = (3 * multiple + 1, 4 * multiple + 3)
    try:
        maps = _maps(model, odd)
    except Exception:  # whatever an architecture does with a size that it does not take
        return False
    return all(
        size_of(part) == (-(-odd[0] // stride), -(-odd[1] // stride))
        for part, stride in zip(maps, strides, strict=True)
    )
