"""ClassMix: paste half of the source classes of a batch onto target images (DACS)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.adaptation.mixer import Mixer, MixView, paste
from trainables.geometry import IDS as IDS
from trainables.randomness import Streams
from trainables.step_data import Batch, Mixed, PseudoLabel


class ClassMixer(Mixer):
    """One batch of mixed images a step; it remembers nothing."""

    def mix(self, view: MixView) -> tuple[Mixed, ...]:
        """See `classmix`."""
        return (classmix(view.source, view.target, view.pseudo, view.streams, view.step),)


def chosen_classes(label: Tensor, keys: Tensor) -> Tensor:
    """Which classes each image pastes.

    Of the n classes present in the whole batch, each image takes the ceil(n / 2) with the smallest random keys; 255
    (ignored) takes part like a class, as in the reference implementation. All of it stays on the device: no count is
    read back to the host.

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
    label = source.ground_truth
    keys = streams.uniform("mix classes", step, (len(label), IDS)).to(label.device, non_blocking=True)
    return paste(source, target, pseudo, shows_one_of(chosen_classes(label, keys), label))


def shows_one_of(chosen: Tensor, label: Tensor) -> Tensor:
    """Which pixels [B, H, W] of labels [B, H, W] are of an image's chosen classes [B, 256]."""
    return chosen.gather(1, label.flatten(1)).view_as(label)
