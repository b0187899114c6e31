"""Encoders of timm: a name, and what is chosen beside it. Neither timm nor torch is imported before one is built."""

from __future__ import annotations

import re
import sys
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Annotated

from mfm_tune.fields import AtLeast0, BelowOne, IntRange, Number, Rule
from trainables.experiment.kinds import EncoderSettings
from trainables.experiment.networks import Norm

if TYPE_CHECKING:
    from trainables.models.timm_encoder import TimmEncoder


class TimmName(Rule):
    """The name of an architecture of timm, with or without the tag of its weights."""

    wanted = "be an architecture of timm, with or without a tag of weights (convnext_tiny, convnext_tiny.fb_in22k)"
    _pattern = re.compile(r"[a-z0-9_]{1,80}(\.[a-z0-9_]{1,80})?")

    def fits(self, value: object) -> bool:
        """Whether the value can be such a name; whether timm has it is known where timm is."""
        return isinstance(value, str) and self._pattern.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Timm(EncoderSettings):
    """Any encoder of timm that gives features at images of any size: convolutional, hierarchical, plain ViT.

    A convolutional or hierarchical encoder gives its stages from stride 4 on. A plain ViT has one resolution: its
    pyramid is made of the outputs of `blocks` after the final norm, resampled to strides 4, 8, 16 and 32. A stage of
    an image of H x W has ceil(H / stride) rows and ceil(W / stride) columns, whatever the family rounds to.

    Args:
        name: Architecture, with or without the tag of its weights; the tag decides mean and std, too.
        output_stride: Stride at which a convolutional encoder ends, its last stages dilated; None: its own, 32.
        patch: Side of a plain ViT's patches in pixels; None: its own.
        blocks: The blocks of a plain ViT that the pyramid is made of, counted from 0: one for each of the four
            stages, or a single one for all; None: the last of each quarter.
        norm: `FROZEN` keeps statistics and affine parameters of BatchNorm as they are; `BATCH` trains them.
        drop_path: Probability at the last block, rising linearly from 0; None: the architecture's own.
        layer_decay: Factor of the learning rate from a layer to the one before it; the last one has the encoder's.
    """

    name: Annotated[str, TimmName()]
    _: KW_ONLY
    output_stride: Annotated[int, IntRange(8, 16, step=8)] | None = None
    patch: Annotated[int, IntRange(4, 64)] | None = None
    blocks: tuple[AtLeast0, ...] | None = None
    norm: Norm = Norm.BATCH
    drop_path: BelowOne | None = None
    layer_decay: Annotated[float, Number(0, 1, open_low=True)] = 1.0

    @property
    def label(self) -> str:
        """The architecture, which decides the time of a step."""
        return self.name.partition(".")[0]

    def build(self) -> TimmEncoder:
        """The encoder at random initial weights from torch's global generator.

        Raises:
            ValueError: timm does not know it, or it does not go with these settings.
        """
        from trainables.models.timm_encoder import TimmEncoder

        return TimmEncoder(self)

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of the images that the weights of this name were trained on, pixel values, RGB. Imports timm."""
        return self._normalisation()[0]

    @property
    def std(self) -> tuple[float, float, float]:
        """Of the same images. Imports timm."""
        return self._normalisation()[1]

    def _normalisation(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        from trainables.models.timm_encoder import normalisation

        return normalisation(self.name)

    def _check_together(self) -> None:
        if self.norm not in (Norm.BATCH, Norm.FROZEN):
            raise ValueError(f"Timm.norm must be Norm.BATCH or Norm.FROZEN, got {self.norm}; timm has no other norms.")
        if self.blocks is not None and len(self.blocks) not in (1, 4):
            raise ValueError(f"Timm.blocks must be one block or four, one a stage, got {self.blocks!r}.")
        if self.blocks is not None and list(self.blocks) != sorted(self.blocks):
            raise ValueError(f"Timm.blocks must go from the first to the last, got {self.blocks!r}.")
        if "timm" in sys.modules:  # planning goes without it
            from trainables.models.timm_encoder import check_name

            check_name(self.name)
