"""One encoder of timm through everything that a trial does with it: a training step, evaluation, export, reload."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from trainables.config import (
    AdamW,
    DAFormerHead,
    DeepLabV2Head,
    DeepLabV3PlusHead,
    SegFormerHead,
    Segmenter,
    SummingHead,
    Timm,
    ToyCity,
)
from trainables.description import Description
from trainables.experiment.kinds import HeadSettings
from trainables.inference.model import Model, load_model, save_model
from trainables.models.segmenter import EncoderDecoder
from trainables.models.segmentor import Encoder, Segmentor
from trainables.optimization import build_optimizer, parameter_groups

CLASSES = ("road", "tree", "car")
SIZES = ((64, 128), (97, 131))
HEADS: dict[str, HeadSettings] = {
    "DeepLab-V2": DeepLabV2Head(rates=(1, 2)),
    "DeepLab-V3+": DeepLabV3PlusHead(channels=8, fine_channels=4, rates=(1, 2)),
    "DAFormer": DAFormerHead(embed_dim=8, channels=8, rates=(1, 2)),
    "SegFormer": SegFormerHead(embed_dim=8),
    "summing": SummingHead(channels=8),
}


def under(encoder: Encoder, head: HeadSettings) -> Segmentor:
    """A built encoder under a head at random weights."""
    made = head.build(encoder.channels, encoder.strides, len(CLASSES))
    return EncoderDecoder(encoder, made, len(CLASSES))


def random_batch(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two images, the fewest that BatchNorm over one position trains on, and their labels."""
    return torch.randn(2, 3, *size), torch.randint(len(CLASSES), (2, *size))


def train_step(segmentor: Segmentor, size: tuple[int, int]) -> None:
    """Forward, backward, and a step of the optimiser.

    Raises:
        AssertionError: A parameter that learns has no finite gradient, or a stage another size than announced.
    """
    image, label = random_batch(size)
    optimizer = build_optimizer(parameter_groups(segmentor.train(), [], AdamW()), AdamW())
    encoded = segmentor.encode(image)
    assert [tuple(stage.shape[-2:]) for stage in encoded.pyramids[0]] == [
        segmentor.stage_size(stage, size) for stage in range(len(segmentor.strides))
    ]
    loss = segmentor.loss(segmentor.decode(encoded), label).total()
    loss.backward()
    gradients = [parameter.grad for parameter in segmentor.parameters() if parameter.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def evaluate(segmentor: Segmentor, size: tuple[int, int]) -> Tensor:
    """Finite logits of one image at its size."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits = segmentor.eval().predict(torch.randn(1, 3, *size))
    assert logits.shape == (1, len(CLASSES), *size)
    assert bool(logits.isfinite().all())
    return logits


def reload(settings: Timm, head: HeadSettings, segmentor: Segmentor, folder: Path) -> Segmentor:
    """The network after it was exported and read again, with nothing but the folder."""
    network = Segmenter(encoder=settings, head=head)
    description = Description(
        network=network, classes=CLASSES, mean=network.mean, std=network.std, size=SIZES[0], slide=None,
        channels_last=False, data=ToyCity(),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_model(Model(segmentor, description), folder)
    return load_model(folder).segmentor


def walk(settings: Timm, name: str, size: tuple[int, int], folder: Path) -> None:
    """Everything, under one head at one size."""
    torch.manual_seed(0)
    segmentor = under(settings.build(), HEADS[name])
    train_step(segmentor, size)
    assert torch.equal(evaluate(reload(settings, HEADS[name], segmentor, folder), size), evaluate(segmentor, size))
