"""Dropout2d on target features: whole channels are zeroed before the decoder (Tompson et al. 2015).

One of the regularisers that the paper's discussion of Table 2(c) sets beside masking. It masks like MFM, but channels
instead of places, and rebuilds nothing.
"""

from __future__ import annotations

from itertools import count

from torch import Tensor

from trainables.config import FeatureDropout
from trainables.step_data import StepView
from trainables.tasks.target_pass import edited_target_loss
from trainables.tasks.task import AuxiliaryTask


class FeatureDropoutTask(AuxiliaryTask):
    """weight * cross-entropy of the target's pseudo-labels, predicted from features with dropped channels.

    Args:
        config: Weight and probability.
    """

    name = "feature_dropout"

    def __init__(self, config: FeatureDropout) -> None:
        super().__init__()
        self.probability = config.probability

    def loss(self, view: StepView) -> Tensor:
        """Of the target batch; each stage, and each of HRDA's two views, has channels of its own dropped."""
        items = count()

        def drop(stage: Tensor) -> Tensor:
            score = view.streams.uniform("feature drop", view.step, tuple(stage.shape[:2]), item=next(items))
            return drop_channels(stage, score.to(stage.device, non_blocking=True), self.probability)

        return edited_target_loss(view, drop)


def drop_channels(stage: Tensor, score: Tensor, probability: float) -> Tensor:
    """Zero the channels whose score lies below the probability and divide the others by 1 - probability.

    Args:
        stage: [B, C, h, w].
        score: Uniform numbers in [0, 1), [B, C].
        probability: Share of dropped channels, in [0, 1).
    """
    keep = (score >= probability).to(stage.dtype) / (1 - probability)
    return stage * keep[..., None, None]
