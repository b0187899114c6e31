"""How good pseudo-labels are, by class: counted at evaluations where the target's training images have labels.

Nothing is chosen by these labels. The images are the same for every seed, batch size and evaluation, and drawn as those
of a seed that no trial has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.adaptation.pseudo_label import label_logits
from trainables.data.domains import Domains
from trainables.geometry import IGNORE
from trainables.models.segmentor import Segmentor, typed
from trainables.randomness import Streams
from trainables.step_data import Batch

IMAGES = 16  # crops of the target's training images
SEED = 2**31  # trials' seeds lie below it, so that none is scored on the very crops that it trains on
PRECISION, COVERAGE = "pseudo_label/precision", "pseudo_label/coverage"


class PseudoLabelQuality:
    """Precision and coverage of a teacher's pseudo-labels on a fixed set of target crops.

    Args:
        domains: Where the crops come from; without labels of the target's training images nothing is measured.
        threshold: Of the confidence that DACS counts.
        batch_size: Crops in one pass, of the same ones whatever it is.
    """

    def __init__(self, domains: Domains, threshold: float, batch_size: int) -> None:
        self.classes, self.threshold = domains.classes, threshold
        sample = domains.labelled_sample(Streams(SEED), IMAGES)
        self.batches = [] if sample is None else _divided(sample, batch_size)

    @torch.no_grad()
    def __call__(self, teacher: Segmentor) -> dict[str, float]:
        """Metrics in percent, of all classes and of each that has a pixel; the teacher ends in eval mode.

        Coverage of a class is the share of the pixels given its label whose confidence reaches the threshold;
        precision is the share of these that have the right label, where there is one.
        """
        if not self.batches:
            return {}
        teacher.eval()
        counts = sum(self._counts(teacher, *batch) for batch in self.batches)
        assert isinstance(counts, Tensor)
        given, confident, labelled, right = torch.cat([counts, counts.sum(1, keepdim=True)], dim=1).cpu()
        names = [*(f"/{name}" for name in self.classes), ""]
        coverage, precision = 100 * confident / given, 100 * right / labelled
        metrics = {f"{COVERAGE}{name}": value for name, value in zip(names, coverage.tolist(), strict=True)}
        metrics |= {f"{PRECISION}{name}": value for name, value in zip(names, precision.tolist(), strict=True)}
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def _counts(self, teacher: Segmentor, image: Tensor, label: Tensor) -> Tensor:
        """[4, K], float64: pixels by pseudo-label; of these the confident ones; of these the labelled; the right."""
        pseudo = label_logits(teacher.predict(typed(image, teacher)), self.threshold)
        confident = pseudo.confidence >= self.threshold
        labelled = confident & (label != IGNORE)
        chosen = (torch.ones_like(confident), confident, labelled, labelled & (label == pseudo.label))
        number = len(self.classes)
        return torch.stack([torch.bincount(pseudo.label[mask], minlength=number) for mask in chosen]).double()


def _divided(batch: Batch, size: int) -> list[tuple[Tensor, Tensor]]:
    """Images and labels, at most `size` at once."""
    assert batch.label is not None
    return list(zip(batch.image.split(size), batch.label.split(size), strict=True))
