"""One training iteration written out: averages, pseudo-labels, mixes, masks, losses and AdamW, as plainly as can be."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.trainables.slow_parts import slow_blur, slow_jitter
from trainables.config import (
    HRDA,
    AdamW,
    AttentionSource,
    Blur,
    Experiment,
    FeatureDistance,
    MaskDraw,
    MaskedConsistency,
    MaskedView,
    Mfm,
    SelfTraining,
)
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD
from trainables.models.segmentor import Encoded, Outputs
from trainables.step_data import Batch
from trainables.tasks.mfm import MfmTask
from trainables.training import State

SIDE = 64  # of the images
MEAN, STD = (torch.tensor(values, dtype=torch.float64) for values in (IMAGENET_MEAN, IMAGENET_STD))


class SlowStep:
    """A training in the plainest form.

    Args:
        config: What is trained.
        state: The shipped state before its first step, which is copied.
    """

    def __init__(self, config: Experiment, state: State) -> None:
        assert isinstance(config.adaptation, SelfTraining)
        assert isinstance(config.optimizer, AdamW)
        self.config, self.settings, self.optimizer = config, config.adaptation, config.optimizer
        self.streams = state.streams
        self.student = copy.deepcopy(state.student).train()
        self.teacher = copy.deepcopy(state.student).train()
        self.imagenet = copy.deepcopy(state.student.encoder).eval()
        self.rebuilder = next(copy.deepcopy(task.rebuilder) for task in state.tasks if isinstance(task, MfmTask))
        assert self.rebuilder is not None
        self.trained = [*self.student.named_parameters(), *(
            (f"rebuilder.{name}", parameter) for name, parameter in self.rebuilder.named_parameters())]  # fmt: skip
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in self.trained}

    def step(self, t: int, source: Batch, target: Batch) -> dict[str, float]:
        """One iteration; returns the losses under the shipped names."""
        with torch.no_grad():
            alpha = 0.0 if t == 0 else min(1 - 1 / (t + 1), self.settings.momentum)
            for mean, now in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mean.copy_(alpha * mean + (1 - alpha) * now)
            label, weight, share = self.pseudo(target)
            mixed = self.mixed(t, source, target, label, weight)
        terms: dict[str, Tensor] = {}
        encoded, outputs = self.forward(source.image, "detail crop, source pass", t)
        self.name(terms, "source", outputs, source.label, None)
        for task in self.config.auxiliary:
            if isinstance(task, FeatureDistance):
                terms["loss/feature_distance"] = task.weight * self.distance(task, encoded, source)
        _, outputs = self.forward(mixed[0], "detail crop, mixed pass", t)
        self.name(terms, "mixed", outputs, mixed[1], mixed[2])
        for task in self.config.auxiliary:
            if isinstance(task, MaskedConsistency):
                terms["loss/masked_consistency"] = self.masked(task, t, source, target, label, weight)
            if isinstance(task, Mfm):
                terms["loss/mfm"] = task.weight * self.modelled(task, t, target, label, weight)
        total = torch.stack(list(terms.values())).sum()
        gradients = torch.autograd.grad(total, [p for _, p in self.trained], allow_unused=True)
        self.adamw(t, gradients)
        return {name: float(value.detach()) for name, value in terms.items()} | {"pseudo_label_share": share}

    # -- pseudo-labels and mixes

    def pseudo(self, target: Batch) -> tuple[Tensor, Tensor, float]:
        """Label and weight of each pixel, and q."""
        probability = torch.softmax(self.teacher.predict(target.image), dim=1)
        largest, label = probability.max(dim=1)
        share = float((largest >= self.settings.threshold).double().mean())
        weight = torch.full(label.shape, share, dtype=torch.float32)  # the reference's weight map is float32
        margins = self.settings.margins
        for image in range(len(label)):
            for row in range(SIDE):
                for column in range(SIDE):
                    if margins is not None and not (
                        margins.top <= row < SIDE - margins.bottom and margins.left <= column < SIDE - margins.right
                    ):
                        weight[image, row, column] = 0
        for image, box in enumerate(target.valid or ()):
            inside = torch.zeros(SIDE, SIDE)
            inside[box.top : box.top + box.height, box.left : box.left + box.width] = 1
            weight[image] *= inside
        return label, weight, share

    def mixed(self, t: int, source: Batch, target: Batch, label: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Image, label and weight."""
        assert source.label is not None
        image, label, weight = target.image.clone(), label.clone(), weight.clone()
        keys = self.streams.uniform("mix classes", t, (len(label), 256))
        present = source.label.unique().tolist()
        for one in range(len(label)):
            chosen = sorted(present, key=lambda c, one=one: float(keys[one, c]))[: -(-len(present) // 2)]
            for row in range(SIDE):
                for column in range(SIDE):
                    if int(source.label[one, row, column]) in chosen:
                        image[one, :, row, column] = source.image[one, :, row, column]
                        label[one, row, column] = source.label[one, row, column]
                        weight[one, row, column] = 1
        return self.augmented(t, image, "", True), label, weight

    def augmented(self, t: int, image: Tensor, prefix: str, each: bool) -> Tensor:
        """Jitter, then blur, image by image; `each` draws an order and a sigma for each image."""

        def drawn(name: str) -> str:
            return f"{prefix}{name}"

        batch, jitter, blur = len(image), self.settings.jitter, self.settings.blur
        if jitter is not None and float(self.streams.uniform(drawn("jitter gate"), t, ())) > 1 - jitter.probability:
            factors = [
                self.streams.uniform(drawn(f"jitter {name}"), t, (batch,), centre - 0.2, centre + 0.2).tolist()
                for name, centre in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0))
            ]
            out = image.clone()
            for one in range(batch):
                order = self.streams.permutation(drawn("jitter order"), t, 4, one if each else 0).tolist()
                for row in range(SIDE):
                    for column in range(SIDE):
                        pixel = ((image[one, :, row, column] * STD + MEAN) / 255).tolist()
                        mine = slow_jitter(pixel, [factor[one] for factor in factors], order)
                        out[one, :, row, column] = (torch.tensor(mine, dtype=torch.float64) * 255 - MEAN) / STD
            image = out
        if not each and blur is None:
            blur = Blur()  # the masked pass blurs whatever the config says
        if blur is not None and float(self.streams.uniform(drawn("blur gate"), t, ())) > 1 - blur.probability:
            sigmas = self.streams.uniform(drawn("blur sigma"), t, (batch if each else 1,), 0.15, 1.15).tolist()
            blurred = [
                slow_blur(one.numpy(), sigmas[index if each else 0], (SIDE, SIDE)) for index, one in enumerate(image)
            ]
            image = torch.from_numpy(np.stack(blurred))
        return image

    # -- terms

    def forward(self, image: Tensor, purpose: str, t: int) -> tuple[Encoded, Outputs]:
        box = self.student.draw_box(self.streams, purpose, t, (SIDE, SIDE))
        encoded = self.student.encode(image, box)
        return encoded, self.student.decode(encoded)

    def name(self, terms: dict[str, Tensor], name: str, outputs: Outputs, label: Any, weight: Tensor | None) -> None:
        main, detail = self.entropies(outputs, label, weight)
        terms[f"loss/{name}"] = main
        if detail is not None:
            terms[f"loss/{name} detail"] = detail

    def entropies(self, outputs: Outputs, label: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The main and, for HRDA, the detail term, with their shares."""
        weight = torch.ones(label.shape) if weight is None else weight
        main = entropy(outputs.logits, label, weight)
        network = self.config.network
        if not isinstance(network, HRDA):
            return main, None
        assert outputs.detail is not None
        assert outputs.box is not None
        box = outputs.box
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        detail = entropy(outputs.detail, label[:, rows, columns], weight[:, rows, columns])
        return (1 - network.detail_weight) * main, network.detail_weight * detail

    def distance(self, task: FeatureDistance, encoded: Encoded, source: Batch) -> Tensor:
        assert source.label is not None
        image = source.image
        if isinstance(self.config.network, HRDA):
            image = F.interpolate(image, scale_factor=0.5, mode="bilinear", align_corners=False)
        feature = encoded.pyramids[0][-1]
        reference = self.imagenet(image)[-1].detach()
        stride, norms = SIDE // feature.shape[-1], []
        for one in range(len(feature)):
            for row in range(feature.shape[-2]):
                for column in range(feature.shape[-1]):
                    cell = source.label[one, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
                    for thing in task.classes:
                        if float((cell == thing).double().mean()) >= task.min_ratio:
                            norms.append((feature[one, :, row, column] - reference[one, :, row, column]).norm())
        assert norms, "the case has no thing cell"
        return torch.stack(norms).mean()

    def masked(
        self, task: MaskedConsistency, t: int, source: Batch, target: Batch, label: Tensor, weight: Tensor
    ) -> Tensor:
        assert source.label is not None
        image = target.image
        if task.view is MaskedView.TARGET_AUGMENTED:
            image = self.augmented(t, image, "masked ", False)
        if task.view is MaskedView.SOURCE_AND_TARGET:
            image = torch.stack([source.image[0], image[0]])
            label = torch.stack([source.label[0], label[0]])
            weight = torch.stack([torch.ones(SIDE, SIDE), weight[0]])
        cells = round(SIDE / task.block)
        uniform = self.streams.uniform("image mask", t, (len(image), 1, cells, cells))
        keep = torch.zeros(len(image), 1, SIDE, SIDE, dtype=torch.float64)
        for row in range(SIDE):
            for column in range(SIDE):
                keep[..., row, column] = (
                    uniform[..., row * cells // SIDE, column * cells // SIDE] > task.ratio
                ).double()
        _, outputs = self.forward(image * keep, "detail crop, masked pass", t)
        main, detail = self.entropies(outputs, label, weight)
        return task.weight * main if detail is None else task.weight * main + detail

    def modelled(self, task: Mfm, t: int, target: Batch, label: Tensor, weight: Tensor) -> Tensor:
        """Eq. 4: encode, mask and rebuild what the decoder reads, decode, cross-entropy; HRDA's two views in turn."""
        box = self.student.draw_box(self.streams, "detail crop, auxiliary target pass", t, (SIDE, SIDE))
        encoded = self.student.encode(target.image, box)
        read, views, batch = self.student.decoded_stages, encoded.pyramids, len(target.image)
        score = self.streams.uniform("feature mask", t, (batch * len(views), 1, *task.grid))
        pyramids = []
        for number, view in enumerate(views):
            mine = score[number * batch : (number + 1) * batch]
            keep = (mine >= task.ratio).double()
            if task.draw is MaskDraw.EXACT:
                cells = task.grid[0] * task.grid[1]
                for one in range(batch):
                    order = mine[one].flatten().argsort()
                    keep[one] = 1
                    keep[one].view(-1)[order[: cells - math.floor((1 - task.ratio) * cells + 1e-9)]] = 0
            assert self.rebuilder is not None
            rebuilt = self.rebuilder(tuple(view[stage] for stage in read), keep)
            edited = list(view)
            for stage, value in zip(read, rebuilt, strict=True):
                edited[stage] = value
            pyramids.append(tuple(edited))
        attention = views[0] if task.attention is AttentionSource.ORIGINAL else None
        outputs = self.student.decode(encoded.with_pyramids(tuple(pyramids), attention))
        main, detail = self.entropies(outputs, label, weight)
        return main if detail is None else main + detail

    # -- AdamW, by its definition

    @torch.no_grad()
    def adamw(self, t: int, gradients: tuple[Tensor | None, ...]) -> None:
        schedule, settings = self.config.schedule, self.optimizer
        factor = (1 - t / schedule.steps) ** schedule.power
        if t < schedule.warmup_steps:
            factor *= 1 - (1 - t / schedule.warmup_steps) * (1 - schedule.warmup_ratio)
        first, second = settings.betas
        for (name, parameter), gradient in zip(self.trained, gradients, strict=True):
            rate, decay = self.rate_and_decay(name, parameter)
            if gradient is None:
                continue
            mean, square = self.moments[name]
            parameter.mul_(1 - factor * rate * decay)
            mean.copy_(first * mean + (1 - first) * gradient)
            square.copy_(second * square + (1 - second) * gradient**2)
            corrected = (square / (1 - second ** (t + 1))).sqrt() + 1e-8
            parameter.sub_(factor * rate * (mean / (1 - first ** (t + 1))) / corrected)

    def rate_and_decay(self, name: str, parameter: Tensor) -> tuple[float, float]:
        settings = self.optimizer
        if name.startswith("decoder."):
            return settings.head_factor * settings.learning_rate, settings.weight_decay
        if name.startswith("rebuilder."):
            own = next(task.rebuilder for task in self.config.auxiliary if isinstance(task, Mfm))
            assert own is not None
            rate = settings.learning_rate if own.learning_rate is None else own.learning_rate
            vector = sum(size > 1 for size in parameter.shape) < 2
            return rate, 0.0 if vector else 0.01
        spared = "norm" in name and not settings.decay_norms
        return settings.learning_rate, 0.0 if spared else settings.weight_decay


def entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Upsampled, -w log p of the label, over all pixels; ignored pixels are 0."""
    large = F.interpolate(logits, size=label.shape[-2:], mode="bilinear", align_corners=False)
    log_p = large - large.logsumexp(dim=1, keepdim=True)
    known = label != 255
    picked = log_p.gather(1, torch.where(known, label, 0).unsqueeze(1)).squeeze(1)
    return -(picked * weight * known).sum() / label.numel()
