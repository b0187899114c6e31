"""QuadMix: both domains under templates of the step before, and under rare patches of the source.

    view 0: the source, under classes of the last source label, of the last pseudo-label, and under patches
    view 1: the target, under the same

Zhang et al., "Unified Domain Adaptive Semantic Segmentation" (TPAMI 2025), and the released code for images.
B batch, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainables.adaptation.augmentation import normalisation
from trainables.adaptation.classmix import classmix, shows_one_of
from trainables.adaptation.mixer import Mixer, MixView
from trainables.config import Exclusion, IgnoredArea, PatchColour, PatchWeight, QuadMix, RarePatches
from trainables.geometry import IDS, IGNORE
from trainables.models.segmentor import laid_out
from trainables.randomness import Streams
from trainables.step_data import Batch, Mixed, first_step

SHARE = 0.5  # of each view in L_uda
MEMORY = ("source_image", "source_label", "target_image", "pseudo_label", "confidence", "weight")


@dataclass(frozen=True, slots=True)
class Remembered:
    """Source and target of the step before, by place in the batch, before any colour augmentation.

    Args:
        source_image, target_image: [B, 3, H, W].
        source_label, pseudo_label: [B, H, W], int64.
        confidence, weight: Of the pseudo-labels, [B, H, W].
    """

    source_image: Tensor
    source_label: Tensor
    target_image: Tensor
    pseudo_label: Tensor
    confidence: Tensor
    weight: Tensor


class QuadMixer(Mixer):
    """ClassMix until its share of the run is over, then two views a step; it remembers the step before.

    Args:
        settings: Switches and numbers.
    """

    source_image: Tensor | None
    source_label: Tensor | None
    target_image: Tensor | None
    pseudo_label: Tensor | None
    confidence: Tensor | None
    weight: Tensor | None

    def __init__(self, settings: QuadMix) -> None:
        super().__init__()
        self.settings = settings
        for name in MEMORY:
            self.register_buffer(name, None)

    def check_classes(self, num_classes: int) -> None:
        """Refuse rare classes that are none of the data's."""
        rare = self.settings.rare
        if rare is not None and max(rare.classes) >= num_classes:
            raise ValueError(
                f"RarePatches.classes must be among the data's classes, 0 to {num_classes - 1}, got {rare.classes!r}; "
                "give the ids of its rare ones, or QuadMix(rare=None)."
            )

    def mix(self, view: MixView) -> tuple[Mixed, ...]:
        """One batch as ClassMix makes it, or both views.

        A run that begins with QuadMix has no step before its first one, which is ClassMix's then.
        """
        first = first_step(self.settings.start, view.total_steps)
        before = self._recalled() if view.step >= first else None
        if view.step + 1 >= first:
            self._remember(view)
        if before is None:
            return (classmix(view.source, view.target, view.pseudo, view.streams, view.step),)
        return quadmix(view, before, self.settings)

    def _recalled(self) -> Remembered | None:
        """The step before; None where there is none."""
        held = {name: getattr(self, name) for name in MEMORY}
        if held["source_label"] is None:
            return None
        labels = {name: held[name].long() for name in ("source_label", "pseudo_label")}
        return Remembered(**(held | labels))

    def _remember(self, view: MixView) -> None:
        """Keep this step, labels as bytes."""
        self.source_image, self.source_label = view.source.image, view.source.ground_truth.byte()
        self.target_image, self.pseudo_label = view.target.image, view.pseudo.label.byte()
        self.confidence, self.weight = view.pseudo.confidence, view.pseudo.weight


def quadmix(view: MixView, before: Remembered, settings: QuadMix) -> tuple[Mixed, ...]:
    """Both views at half weight, their colours not yet augmented; neither waits for the device.

    Args:
        view: This step.
        before: The step before.
        settings: Switches and numbers.
    """
    source_mask, target_mask = templates(before, settings, view.streams, view.step)
    source = of_source(view.source, like=before.weight)
    target = of_target(view.target.image, view.pseudo.label, view.pseudo.weight, view.pseudo.confidence)
    old_source = of_source(Batch(before.source_image, before.source_label), like=before.weight)
    old_target = of_target(before.target_image, before.pseudo_label, before.weight, before.confidence)
    views = []
    for index, ground in enumerate((source, target)):
        mixed = over(target_mask, old_target, over(source_mask, old_source, ground))
        if settings.rare is not None:
            mixed = under_patches(mixed, index, view, settings.rare)
        views.append(replace(mixed, image=laid_out(mixed.image, view.target.image), share=SHARE))
    return tuple(views)


def templates(before: Remembered, settings: QuadMix, streams: Streams, step: int) -> tuple[Tensor, Tensor]:
    """Where the remembered source and the remembered target are pasted, [B, H, W], bool, the same in both views.

    Each image draws its own classes: of those of its source label, and then of those of its pseudo-label but for the
    barred ones; of few classes all are taken, of none nothing is pasted.
    """
    shape = (len(before.source_label), IDS)
    source_keys, target_keys = (
        streams.uniform(f"quadmix {domain} classes", step, shape).to(before.source_label.device, non_blocking=True)
        for domain in ("source", "target")
    )
    there = shown(before.source_label)
    if settings.ignored is IgnoredArea.SKIP:
        there[:, IGNORE] = False
    of_source_label = drawn(there, settings.source_classes, source_keys)
    left = shown(before.pseudo_label) & ~barred(there, of_source_label, settings.exclude)
    of_pseudo_label = drawn(left, settings.target_classes, target_keys)
    sure = before.confidence >= settings.confidence
    return shows_one_of(of_source_label, before.source_label), shows_one_of(of_pseudo_label, before.pseudo_label) & sure


def shown(label: Tensor) -> Tensor:
    """Which ids each image of a label [B, H, W] shows, [B, 256], bool."""
    there = torch.zeros(len(label), IDS, device=label.device, dtype=torch.bool)
    return there.scatter_(1, label.flatten(1), value=True)


def drawn(there: Tensor, number: int, keys: Tensor) -> Tensor:
    """Those ids of each image, as many as `number` or all, that have the smallest random keys; all are [B, 256]."""
    rank = keys.masked_fill(~there, torch.inf).argsort(dim=1).argsort(dim=1)
    return (rank < number) & there


def barred(there: Tensor, chosen: Tensor, rule: Exclusion) -> Tensor:
    """Which ids the target template may not take.

    Args:
        there: Ids of the source label, [B, 256], bool.
        chosen: Those of them in the source template.
        rule: Switch.

    Returns:
        [B, 256], bool.
    """
    match rule:
        case Exclusion.IDS:
            return chosen
        case Exclusion.POSITIONS:
            beside = torch.full_like(there, IDS, dtype=torch.long)  # a column more, for what is not chosen
            position = torch.where(chosen, there.cumsum(dim=1) - 1, beside)
            numbers = torch.zeros(len(there), IDS + 1, device=there.device, dtype=torch.bool)
            return numbers.scatter_(1, position, value=True)[:, :IDS]
        case Exclusion.NONE:
            return torch.zeros_like(chosen)


def of_source(batch: Batch, like: Tensor) -> Mixed:
    """Labelled source images: each pixel is certain and weighs 1, in the type of `like` [B, H, W]."""
    label = batch.ground_truth
    one = torch.ones_like(label, dtype=like.dtype)
    return Mixed(batch.image, label, one, torch.ones_like(label, dtype=torch.bool).unsqueeze(1), confidence=one)


def of_target(image: Tensor, label: Tensor, weight: Tensor, confidence: Tensor) -> Mixed:
    """Target images with pseudo-labels."""
    pasted = torch.zeros_like(label, dtype=torch.bool).unsqueeze(1)
    return Mixed(image, label, weight, pasted, confidence=confidence)


def over(mask: Tensor, above: Mixed, below: Mixed) -> Mixed:
    """One over the other where the mask [B, H, W] is 1."""
    assert above.confidence is not None
    assert below.confidence is not None
    wide = mask.unsqueeze(1)
    return Mixed(
        image=torch.where(wide, above.image, below.image),
        label=torch.where(mask, above.label, below.label),
        weight=torch.where(mask, above.weight, below.weight),
        pasted=torch.where(wide, above.pasted, below.pasted),
        confidence=torch.where(mask, above.confidence, below.confidence),
    )


def under_patches(mixed: Mixed, index: int, view: MixView, rare: RarePatches) -> Mixed:
    """A view under the pixels of rare classes, in the order in which the classes were drawn.

    Each image of each view has a source image of its own for each class; a class that too few source images show is
    left out.

    Args:
        mixed: The view so far.
        index: Of the view, 0 or 1.
        view: This step.
        rare: Classes and switches.
    """
    for place, class_id in enumerate(rare_classes(view, rare)):
        purpose = f"quadmix patch {place} of view {index}"
        patch = view.source_of_class(purpose, class_id, len(mixed.image), more_than=rare.more_than)
        if len(patch.image) < len(mixed.image):
            continue
        if rare.colour is PatchColour.RELEASED:
            patch = replace(patch, image=released_colour(patch.image, view.mean, view.std))
        above = of_source(patch, like=mixed.weight)
        if rare.weight is PatchWeight.GROUND:
            above = replace(above, weight=mixed.weight)
        mixed = over(patch.ground_truth == class_id, above, mixed)
    return mixed


def rare_classes(view: MixView, rare: RarePatches) -> Iterator[int]:
    """Classes of a step in pasting order, drawn without replacement; all of a list that is shorter than `number`."""
    order = view.streams.permutation("quadmix rare classes", view.step, len(rare.classes))
    return (rare.classes[place] for place in order[: rare.number].tolist())


def released_colour(image: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Normalised images [B, 3, H, W] as the released code has its patches: (BGR - mean of RGB) / 255."""
    centre, spread = normalisation(image, mean, std)
    pixels = (image * spread + centre).round()
    return (pixels.flip(1) - centre) / 255
