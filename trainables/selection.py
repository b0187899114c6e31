"""Label-free criteria: how good is a model, said by its predictions on the target alone, without a label?

Tuning on labelled target data is not allowed in unsupervised domain adaptation. These criteria are computed in the pass
that scores the model: nothing is predicted twice, sums stay on the device, memory does not grow with the images. All
pixels of the target's evaluation images count, labelled or not. Entropies are in nats.

    criterion/entropy                    mean entropy of a pixel's class probabilities, as the network sees the image:
                                         sure predictions have little
    criterion/information_maximisation   entropy of the mean probabilities minus the mean entropy: sure predictions that
                                         use all classes have much (the mutual information of pixel and class)
    criterion/snd                        soft neighbourhood density (Saito et al. 2021): pixels of one image, unit
                                         vectors of their class probabilities; the entropy of the softmax over a pixel's
                                         similarities to the others, a mean over pixels, then over images: dense
                                         clusters have much
    criterion/agreement                  share of pixels with one class in student and teacher; only where there is a
                                         teacher
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.config import SelectionCriteria
from trainables.data.scored import AGREEMENT, ENTROPY, INFORMATION_MAXIMISATION, SOFT_NEIGHBOURHOOD_DENSITY
from trainables.randomness import Streams

SEED = 0  # of the pixels that are compared: the same ones for every model


class TargetCriteria:
    """The criteria of one evaluation, summed image by image.

    Args:
        settings: Of soft neighbourhood density.
        num_classes: K of the network.
        device: Of the predictions.
    """

    def __init__(self, settings: SelectionCriteria, num_classes: int, device: torch.device) -> None:
        self._settings = settings
        self._streams = Streams(SEED)
        self._device = device
        self._entropy = torch.zeros((), dtype=torch.float64, device=device)
        self._probability = torch.zeros(num_classes, dtype=torch.float64, device=device)
        self._density = torch.zeros((), dtype=torch.float64, device=device)
        self._agreeing = torch.zeros((), dtype=torch.int64, device=device)
        self._images = self._pixels = self._compared = 0

    def add(self, logits: Tensor, predictions: Sequence[Tensor]) -> None:
        """Count a batch of images.

        Args:
            logits: The student's, [B, K, H, W].
            predictions: Scored classes of the student and, where there is one, of the teacher: each [B, h, w].
        """
        log_p = logits.float().log_softmax(dim=1)
        p = log_p.exp()
        # An image's plane is summed in float32, which takes half the time, and planes in float64.
        self._entropy -= (p * log_p).sum(dim=(2, 3)).double().sum()
        self._probability += p.sum(dim=(2, 3)).double().sum(dim=0)
        self._pixels += p.shape[0] * p.shape[2] * p.shape[3]
        self._density += soft_neighbourhood_density(self._drawn(p), self._settings.temperature).sum()
        self._images += p.shape[0]
        if len(predictions) > 1:
            self._agreeing += (predictions[0] == predictions[1]).sum()
            self._compared += predictions[0].numel()

    def read(self) -> dict[str, float]:
        """The criteria by name; one that is no finite number is left out."""
        entropy = float(self._entropy) / max(self._pixels, 1)
        mean = self._probability / max(self._pixels, 1)
        criteria = {
            ENTROPY: entropy,
            INFORMATION_MAXIMISATION: float(-torch.xlogy(mean, mean).sum()) - entropy,
            SOFT_NEIGHBOURHOOD_DENSITY: float(self._density) / max(self._images, 1),
        }
        if self._compared:
            criteria[AGREEMENT] = int(self._agreeing) / self._compared
        return {name: value for name, value in criteria.items() if math.isfinite(value)}

    def _drawn(self, p: Tensor) -> Tensor:
        """Probabilities of the drawn pixels of each image: [B, K, H, W] -> [B, N, K]."""
        flat = p.flatten(2)
        pixels, count = flat.shape[2], min(self._settings.pixels, flat.shape[2])
        drawn = [
            torch.from_numpy(
                self._streams.numpy("neighbourhood", 0, self._images + image).choice(pixels, count, replace=False)
            )
            for image in range(flat.shape[0])
        ]
        index = torch.stack(drawn).to(self._device).unsqueeze(1).expand(-1, flat.shape[1], -1)
        return flat.gather(2, index).transpose(1, 2)


def soft_neighbourhood_density(probabilities: Tensor, temperature: float) -> Tensor:
    """Mean entropy of each image's pixels over their neighbours, in nats (Saito et al. 2021, Eq. 1 to 3).

    Args:
        probabilities: Class probabilities of N pixels of each image, [B, N, K].
        temperature: That divides the similarities.

    Returns:
        [B], float64; between 0 and log(N - 1).
    """
    unit = torch.nn.functional.normalize(probabilities.double(), dim=2)
    similarity = unit @ unit.transpose(1, 2) / temperature
    itself = torch.eye(similarity.shape[1], dtype=torch.bool, device=similarity.device)
    log_p = similarity.masked_fill(itself, -math.inf).log_softmax(dim=2)
    entropy = -(log_p.exp() * log_p.masked_fill(itself, 0.0)).sum(dim=2)
    return entropy.mean(dim=1)
