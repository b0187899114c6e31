"""Complete configs as functions: one a baseline, at each scale. Imports no torch.

A `Scale` says what stands for the paper's setting at a size: the data, the network, the steps, and what is trained
where the paper prints a level (`dim`, `grid`). Only trained values enter a config's identity.

Sources: DACS as the DAFormer family re-implements it (AdamW, 40,000 steps), the paper's "Implementation details" for
MFM, and for the embedded benchmark the settings at which its gaps were measured (see README, "What the numbers show").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from trainables.config import (
    AdamW,
    DeepLabV2,
    Evaluation,
    Experiment,
    ImageNetWeights,
    Initial,
    Mfm,
    Network,
    Norm,
    Objective,
    PackedPair,
    Rebuilder,
    Schedule,
    SelfTraining,
    SmallDeepLab,
    SourceOnly,
    TargetSupervised,
    ToyCity,
    WarmStart,
)

PAPER_GRID = 64  # rows and columns of DeepLab-V2's features in the paper: 512 x 512 images at stride 8
PAPER_DIM = 512


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What stands for the paper's setting.

    Args:
        name: The profile: `smoke`, `mini` or `paper`.
        data, network, initial, optimizer, schedule, batch_size, evaluation: As in `Experiment`.
        native_grid: (rows, columns) of the network's last features, which a printed H' = W' is a fraction of.
        dim_divisor: A printed dim is divided by this.
        heads: Attention heads of the Rebuilder.
        rebuilder_learning_rate: None takes the encoder's.
    """

    name: str
    data: ToyCity | PackedPair
    network: Network
    initial: Initial
    optimizer: AdamW
    schedule: Schedule
    batch_size: int
    evaluation: Evaluation
    native_grid: tuple[int, int]
    dim_divisor: int
    heads: int
    rebuilder_learning_rate: float | None
    needs: tuple[str, ...] = ()
    comparable: tuple[str, ...] = field(default=())

    def dim(self, printed: int) -> int:
        """The width that is trained where the paper prints `printed`."""
        return printed // self.dim_divisor

    def grid(self, printed: int) -> tuple[int, int]:
        """The (rows, columns) trained where the paper prints H' = W' = `printed`: the same share of the features."""
        share = Fraction(printed, PAPER_GRID)
        rows, columns = (max(1, round(size * share)) for size in self.native_grid)
        return rows, columns


_TOY_COMPARABLE = (
    "The data is ToyCity, two procedural domains of 12 classes; no number here is a Cityscapes number.",
    "The network has 155,000 parameters and a warm start on the source in the place of ImageNet weights.",
    "Training is short and far from converged: a method that costs more a step may gain at equal steps and lose at "
    "equal time.",
    "Widths and grids are scaled: the table prints the paper's level and what was trained for it.",
)

SMOKE = Scale(
    name="smoke",
    data=ToyCity(image_size=(32, 64), source_images=32, target_images=32, validation_images=16),
    network=SmallDeepLab(widths=(8, 16, 24)),
    initial=WarmStart(steps=10, batch_size=2, warmup_steps=2),
    optimizer=AdamW(learning_rate=6e-3, head_factor=1.0),
    schedule=Schedule(steps=10, warmup_steps=2, power=0.9),
    batch_size=2,
    evaluation=Evaluation(interval=5, batch_size=16),
    native_grid=(8, 16),
    dim_divisor=16,
    heads=4,
    rebuilder_learning_rate=1e-3,
    comparable=("The smoke profile checks the plumbing in seconds; its mIoU means nothing.", *_TOY_COMPARABLE),
)

MINI = Scale(
    name="mini",
    data=ToyCity(),
    network=SmallDeepLab(),
    initial=WarmStart(),
    optimizer=AdamW(learning_rate=6e-3, head_factor=1.0),
    schedule=Schedule(steps=400, warmup_steps=30, power=0.9),
    batch_size=4,
    evaluation=Evaluation(interval=100, batch_size=25),
    native_grid=(16, 32),
    dim_divisor=8,
    heads=4,
    rebuilder_learning_rate=1e-3,
    comparable=_TOY_COMPARABLE,
)

PAPER = Scale(
    name="paper",
    data=PackedPair(),
    network=DeepLabV2(),
    initial=ImageNetWeights.RESNET101_V1C,
    optimizer=AdamW(decay_norms=True),
    schedule=Schedule(),
    batch_size=2,
    evaluation=Evaluation(interval=4000, checkpoint_interval=500),
    native_grid=(64, 64),
    dim_divisor=1,
    heads=16,
    rebuilder_learning_rate=None,
    needs=("gta", "cityscapes", "resnet101-v1c"),
)

SCALES = (SMOKE, MINI, PAPER)


def at_each_scale(study: Callable[[Scale], Any]) -> dict[str, Any]:
    """What `study` declares at each scale, by profile."""
    return {scale.name: study(scale) for scale in SCALES}


def mfm(
    scale: Scale,
    *,
    dim: int = PAPER_DIM,
    blocks: int = 2,
    grid: int = 16,
    weight: float = 1.0,
    ratio: float = 0.4,
    objective: Objective = Objective.PIXEL_CLASSIFICATION,
    rebuild: bool = True,
) -> Mfm:
    """MFM's settings as the paper prints them; `dim` and `grid` are printed levels, trained at the scale's size."""
    rebuilder = Rebuilder(
        dim=scale.dim(dim), blocks=blocks, heads=scale.heads, learning_rate=scale.rebuilder_learning_rate
    )
    return Mfm(
        weight=weight,
        ratio=ratio,
        grid=scale.grid(grid),
        rebuilder=rebuilder if rebuild else None,
        objective=objective,
    )


def dacs(scale: Scale, *auxiliary: object) -> Experiment:
    """DACS (Tranheden et al. 2021) in the DAFormer family's recipe, with auxiliary tasks."""
    return Experiment(
        data=scale.data,
        network=scale.network,
        initial=scale.initial,
        adaptation=SelfTraining(),
        auxiliary=auxiliary,
        optimizer=scale.optimizer,
        schedule=scale.schedule,
        batch_size=scale.batch_size,
        evaluation=scale.evaluation,
    )


def dacs_mfm(scale: Scale) -> Experiment:
    """The paper's default: DACS + MFM with dim 512, 2 blocks, H' = W' = 16, ratio 0.4, lambda 1."""
    return dacs(scale, mfm(scale))


def source_only(scale: Scale, adapt_statistics: int | None = None) -> Experiment:
    """Cross-entropy on the source alone, for as many steps; `adapt_statistics`: AdaBN on that many target batches."""
    return replace(dacs(scale), adaptation=SourceOnly(adapt_statistics=adapt_statistics))


def oracle(scale: Scale) -> Experiment:
    """Cross-entropy on labelled target images, the upper mark; as many images a step as DACS sees of both domains."""
    return replace(dacs(scale), adaptation=TargetSupervised(), batch_size=2 * scale.batch_size)


def longer(config: Experiment, factor: float) -> Experiment:
    """The same training with `factor` times the steps, its schedule stretched to them."""
    steps = round(config.schedule.steps * factor)
    return replace(config, schedule=replace(config.schedule, steps=steps))


def with_batch_norm(scale: Scale) -> Scale:
    """The embedded benchmark's BatchNorm variant, where the statistics explain most of the gap between the domains.

    Raises:
        ValueError: The scale's network has no such variant.
    """
    if not isinstance(scale.network, SmallDeepLab):
        raise ValueError(
            f"Scale.network must be a SmallDeepLab for the BatchNorm variant, got {type(scale.network).__name__}, "
            "whose norms are what they are."
        )
    return replace(scale, network=replace(scale.network, norm=Norm.BATCH))
