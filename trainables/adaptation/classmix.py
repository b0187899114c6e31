"""ClassMix: paste half of the source classes of a batch onto target images (DACS)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.adaptation.mixer import Mixer, MixView
from trainables.models.segmentor import laid_out
from trainables.randomness import Streams
from trainables.step_data import Batch, Mixed, PseudoLabel

IDS = 256  # label values are bytes; 255 (ignored) takes part like a class, as in the reference implementation


class ClassMixer(Mixer):
    """One batch of mixed images a step; it remembers nothing."""

    def mix(self, given: MixView) -> tuple[Mixed, ...]:
        """See `classmix`."""
        return (classmix(given.source, given.target, given.pseudo, given.streams, given.step),)


def chosen_classes(label: Tensor, keys: Tensor) -> Tensor:
    """Which classes each image pastes.

    Of the n classes present in the whole batch, each image takes the ceil(n / 2) with the smallest random keys. All of
    it stays on the device: no count is read back to the host.

    Args:
        label: Source labels of the batch [B, H, W].
        keys: Random numbers [B, 256] in [0, 1).

    Returns:
        [B, 256], bool.
    """
    present = torch.zeros(IDS, device=label.device, dtype=torch.bool)
    present.index_fill_(0, label.flatten(), True)
    count = (present.sum() + 1) // 2
    rank = keys.masked_fill(~present, torch.inf).argsort(dim=1).argsort(dim=1)
    return rank < count


def classmix(source: Batch, target: Batch, pseudo: PseudoLabel, streams: Streams, step: int) -> Mixed:
    """Source pixels of the chosen classes over the target; they weigh 1, the others what the pseudo-label weighs."""
    if source.label is None:
        raise ValueError("Batch.label of the source must be given, got None; ClassMix pastes labelled source pixels.")
    batch = len(source.image)
    keys = streams.uniform("mix classes", step, (batch, IDS)).to(source.label.device, non_blocking=True)
    chosen = chosen_classes(source.label, keys)
    pasted = chosen.gather(1, source.label.flatten(1)).view_as(source.label)
    return Mixed(
        image=laid_out(torch.where(pasted.unsqueeze(1), source.image, target.image), target.image),
        label=torch.where(pasted, source.label, pseudo.label),
        weight=pseudo.weight.masked_fill(pasted, 1.0),
        pasted=pasted.unsqueeze(1),
    )
