"""Every draw comes from (seed, purpose, step): counter-based streams, no generator state.

A `Streams` object answers "what does this purpose draw at this step?". The same question always has the same answer,
in any order, alone or not, so a resumed trial continues bitwise and adding a term never moves another term's draws.
Tests put recorded draws in through the same methods (`Recorded`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum

import numpy as np
import torch
from torch import Tensor


class Purpose(Enum):
    """What a draw is for. Each has its own stream."""

    INIT = "init"
    REBUILDER_INIT = "rebuilder init"
    TASK_INIT = "task init"
    WARM_START = "warm start"
    SOURCE = "source"  # which source images
    TARGET = "target"  # which target images
    SOURCE_CROP = "source crop"  # crop and flip
    TARGET_CROP = "target crop"
    MIX_CLASSES = "mix classes"
    JITTER_GATE = "jitter gate"
    JITTER_BRIGHTNESS = "jitter brightness"
    JITTER_CONTRAST = "jitter contrast"
    JITTER_SATURATION = "jitter saturation"
    JITTER_HUE = "jitter hue"
    JITTER_ORDER = "jitter order"
    BLUR_GATE = "blur gate"
    BLUR_SIGMA = "blur sigma"
    MASKED_JITTER_GATE = "masked jitter gate"
    MASKED_JITTER_BRIGHTNESS = "masked jitter brightness"
    MASKED_JITTER_CONTRAST = "masked jitter contrast"
    MASKED_JITTER_SATURATION = "masked jitter saturation"
    MASKED_JITTER_HUE = "masked jitter hue"
    MASKED_JITTER_ORDER = "masked jitter order"
    MASKED_BLUR_GATE = "masked blur gate"
    MASKED_BLUR_SIGMA = "masked blur sigma"
    TARGET_JITTER_GATE = "target jitter gate"
    TARGET_JITTER_BRIGHTNESS = "target jitter brightness"
    TARGET_JITTER_CONTRAST = "target jitter contrast"
    TARGET_JITTER_SATURATION = "target jitter saturation"
    TARGET_JITTER_HUE = "target jitter hue"
    TARGET_JITTER_ORDER = "target jitter order"
    TARGET_BLUR_GATE = "target blur gate"
    TARGET_BLUR_SIGMA = "target blur sigma"
    DISTORTION_GATE = "distortion gate"
    DISTORTION_FACTOR = "distortion factor"
    IMAGE_MASK = "image mask"  # masked image consistency
    DETAIL_SOURCE = "detail crop, source pass"  # HRDA's crop boxes
    DETAIL_MIXED = "detail crop, mixed pass"
    DETAIL_MASKED = "detail crop, masked pass"
    DETAIL_TASK = "detail crop, auxiliary target pass"
    FEATURE_MASK = "feature mask"  # MFM
    FEATURE_DROP = "feature drop"  # Dropout2d and DropBlock tasks
    IMAGE_PATCHES = "image patches"  # masked image modelling
    DROPOUT_SOURCE = "dropout, source pass"
    DROPOUT_MIXED = "dropout, mixed pass"
    DROPOUT_MASKED = "dropout, masked pass"
    DROPOUT_TASK = "dropout, auxiliary target pass"
    HOLDOUT = "holdout"  # which source images score instead of train
    NEIGHBOURHOOD = "neighbourhood"  # which pixels soft neighbourhood density compares


class Streams:
    """Draws of one trial.

    Args:
        seed: The trial's seed, a non-negative integer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _key(self, purpose: Purpose) -> int:
        digest = hashlib.sha256(f"{self.seed}/{purpose.value}".encode()).digest()
        return int.from_bytes(digest[:16], "little")

    def numpy(self, purpose: Purpose, step: int, item: int = 0) -> np.random.Generator:
        """A fresh Philox generator at this purpose, step and item (an image of the batch, say)."""
        return np.random.Generator(np.random.Philox(key=self._key(purpose), counter=[0, 0, item, step]))

    def uniform(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, item: int = 0
    ) -> Tensor:
        """Uniform numbers in [low, high), float64 on the CPU, of the given shape."""
        return torch.from_numpy(np.asarray(self.numpy(purpose, step, item).uniform(low, high, shape)))

    def permutation(self, purpose: Purpose, step: int, n: int, item: int = 0) -> Tensor:
        """A random order of 0 ... n-1, int64 on the CPU."""
        return torch.from_numpy(self.numpy(purpose, step, item).permutation(n))

    def integers(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], low: int, high: int, item: int = 0
    ) -> Tensor:
        """Integers in [low, high), int64 on the CPU."""
        return torch.from_numpy(np.asarray(self.numpy(purpose, step, item).integers(low, high, shape)))

    def choice(self, purpose: Purpose, step: int, probabilities: Tensor, item: int = 0) -> int:
        """One index drawn with the given probabilities [N] (float64)."""
        total = torch.cumsum(probabilities.double(), 0)
        point = float(self.uniform(purpose, step, (), item=item)) * float(total[-1])
        return int(torch.searchsorted(total, torch.tensor(point), right=True).clamp(max=len(total) - 1))

    def torch_seed(self, purpose: Purpose, step: int, item: int = 0) -> int:
        """A 63-bit seed for a torch generator, for draws too large for the host (dropout masks, initial weights)."""
        return int(self.numpy(purpose, step, item).integers(0, 2**63 - 1))

    def generator(self, purpose: Purpose, step: int, device: torch.device) -> torch.Generator:
        """A fresh torch generator on a device."""
        return torch.Generator(device).manual_seed(self.torch_seed(purpose, step))


class Recorded(Streams):
    """Streams that return given draws: what `uniform`, `permutation` and `integers` answer, by (purpose, step, item).

    A question without a recorded answer is answered by the seed, so that only what is given is fixed.
    """

    def __init__(self, seed: int, draws: Mapping[tuple[Purpose, int, int], Tensor]) -> None:
        super().__init__(seed)
        self._draws = draws

    def uniform(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, item: int = 0
    ) -> Tensor:
        if (purpose, step, item) in self._draws:
            return self._draws[purpose, step, item].double().reshape(shape)
        return super().uniform(purpose, step, shape, low, high, item)

    def permutation(self, purpose: Purpose, step: int, n: int, item: int = 0) -> Tensor:
        if (purpose, step, item) not in self._draws:
            return super().permutation(purpose, step, n, item)
        first = self._draws[purpose, step, item].tolist()
        return torch.tensor(first + [index for index in range(n) if index not in first])

    def integers(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], low: int, high: int, item: int = 0
    ) -> Tensor:
        if (purpose, step, item) in self._draws:
            return self._draws[purpose, step, item].long().reshape(shape)
        return super().integers(purpose, step, shape, low, high, item)
