"""Complete configs as functions: one a baseline, at each scale. Imports no torch.

A `Scale` says what stands for the paper's setting at a size: the data, the network, the steps, and what is trained
where the paper prints a level (`dim`, `grid`). Only trained values enter a config's identity.

Sources: DACS as the DAFormer family re-implements it (AdamW, 40,000 steps), DAFormer (Hoyer et al., CVPR 2022), HRDA
(ECCV 2022) and MIC (CVPR 2023) as their published code configures them, the paper's "Implementation details" for MFM,
and for the embedded benchmark the settings at which its gaps were measured (see README, "What the numbers show").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from trainables.config import (
    HRDA,
    SGD,
    AdamW,
    ColourJitter,
    DAFormer,
    Data,
    DeepLabV2,
    Evaluation,
    Experiment,
    FeatureDistance,
    ImageNetWeights,
    Initial,
    Margins,
    MaskedConsistency,
    Mfm,
    MiT,
    Network,
    Norm,
    Objective,
    PackedPair,
    PhotoMetricDistortion,
    RareClassSampling,
    RealPhotographs,
    Rebuilder,
    Schedule,
    SelectionCriteria,
    SelfTraining,
    SmallDeepLab,
    SourceDataset,
    SourceHoldout,
    SourceOnly,
    SourceStyle,
    TargetSupervised,
    ToyCity,
    WarmStart,
)

PAPER_GRID = 64  # rows and columns of DeepLab-V2's features in the paper: 512 x 512 images at stride 8
PAPER_DIM = 512
PAPER_THRESHOLD = 0.968
DAFORMER_MOMENTUM = 0.999  # of the teacher in DAFormer, HRDA and MIC; DACS 0.99


@dataclass(frozen=True, kw_only=True)
class DAFormerScale:
    """What stands for the setting of DAFormer, HRDA and MIC, which share a Mix Transformer and their parts.

    Args:
        network: DAFormer's.
        hrda: HRDA's, with DAFormer's as its base.
        initial, optimizer: As in `Experiment`.
        hrda_data: HRDA's images and crops, twice as large as DAFormer's in the paper.
        hrda_slide: (rows, columns) of HRDA's windows at evaluation.
        rare_pixels: Pixels of a class that an image must exceed to be drawn for it.
        margins, hrda_margins: Where pseudo-labels weigh 0: the car's bonnet, and the borders of rectified images.
        things: Ids of the thing classes, for the feature distance.
        mask_block: Side of MIC's masked blocks, pixels.
    """

    network: DAFormer
    hrda: HRDA
    initial: Initial
    optimizer: AdamW
    hrda_data: Data
    hrda_slide: tuple[int, int]
    rare_pixels: int
    margins: Margins
    hrda_margins: Margins
    things: tuple[int, ...]
    mask_block: int


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What stands for the paper's setting.

    Args:
        name: The profile: `smoke`, `mini` or `paper`.
        data, network, initial, optimizer, schedule, batch_size, evaluation: As in `Experiment`.
        native_grid: (rows, columns) that stand for the paper's 64 x 64, the last features of DeepLab-V2 at stride 8; a
            printed H' = W' is a fraction of them. Of a pyramid that ends at stride 32, as DAFormer's, they are 4 times
            the last stage, whose positions H' = W' = 16 then are. A finer grid than the last stage, which the tokens
            are made of, leaks masked features into its visible tokens.
        dim_divisor: A printed dim is divided by this.
        heads: Attention heads of the Rebuilder.
        rebuilder_learning_rate: None takes the encoder's.
        threshold: Of the pseudo-labels' confidence.
        needs: Names of the data sets and weights that must be given.
        comparable: What a reader must know before comparing with the paper.
        daformer: The same for DAFormer, HRDA and MIC; None where the scale has none of them.
    """

    name: str
    data: Data
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
    threshold: float = PAPER_THRESHOLD
    needs: tuple[str, ...] = ()
    comparable: tuple[str, ...] = field(default=())
    daformer: DAFormerScale | None = None

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
    "The network has 52,104 parameters and a warm start on the source in the place of ImageNet weights.",
    "Training is short and far from converged: a method that costs more a step may gain at equal steps and lose at "
    "equal time.",
    "Widths and grids are scaled: the table prints the paper's level and what was trained for it.",
)

# The small transformers keep features that a thing can fill, at strides 4, 8, 8, 8: with the published strides an image
# of 64 rows has two rows of features, and no cell that counts for the feature distance. Pixel counts, margins and
# masked blocks keep about their share of the image.
TOY_THINGS = (5, 9, 10, 11)  # sign, person, car, truck

_SMOKE_DAFORMER = DAFormer(
    encoder=MiT(
        dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), reductions=(4, 2, 2, 1), strides=(4, 2, 1, 1)
    ),
    embed_dim=16,
    channels=16,
    rates=(1, 2, 4, 6),
)
_SMOKE_DATA = ToyCity(image_size=(32, 64), source_images=32, target_images=32, validation_images=16)

SMOKE = Scale(
    name="smoke",
    data=_SMOKE_DATA,
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
    threshold=0.2,  # ten steps make no teacher that is sure of anything, and every term is to be exercised
    comparable=("The smoke profile checks the plumbing in seconds; its mIoU means nothing.", *_TOY_COMPARABLE),
    daformer=DAFormerScale(
        network=_SMOKE_DAFORMER,
        hrda=HRDA(base=_SMOKE_DAFORMER, detail_crop=(16, 32), attention_dim=16),
        initial=WarmStart(steps=10, batch_size=2, learning_rate=2e-3, warmup_steps=2),
        optimizer=AdamW(learning_rate=2e-3, head_factor=1.0),
        hrda_data=_SMOKE_DATA,
        hrda_slide=(32, 64),
        rare_pixels=3,
        margins=Margins(top=1, bottom=8),
        hrda_margins=Margins(top=1, bottom=8, left=1, right=1, of_size=(32, 64)),
        things=TOY_THINGS,
        mask_block=4,
    ),
)

_MINI_DAFORMER = DAFormer(
    encoder=MiT(
        dims=(16, 32, 48, 64), depths=(1, 1, 2, 1), heads=(1, 2, 3, 4), reductions=(4, 2, 2, 1), strides=(4, 2, 1, 1)
    ),
    embed_dim=32,
    channels=32,
    rates=(1, 2, 4, 6),
)

MINI = Scale(
    name="mini",
    data=ToyCity(),
    network=SmallDeepLab(),
    initial=WarmStart(),
    optimizer=AdamW(learning_rate=6e-3, head_factor=1.0),
    schedule=Schedule(steps=400, warmup_steps=30, power=0.9),
    batch_size=2,
    evaluation=Evaluation(interval=100, batch_size=25),
    native_grid=(16, 32),
    dim_divisor=8,
    heads=4,
    rebuilder_learning_rate=1e-3,
    comparable=_TOY_COMPARABLE,
    daformer=DAFormerScale(
        network=_MINI_DAFORMER,
        hrda=HRDA(base=_MINI_DAFORMER, detail_crop=(32, 64), attention_dim=32),
        initial=WarmStart(learning_rate=2e-3),
        optimizer=AdamW(learning_rate=2e-3, head_factor=1.0),
        hrda_data=ToyCity(),
        hrda_slide=(64, 128),
        rare_pixels=12,
        margins=Margins(top=2, bottom=15),
        hrda_margins=Margins(top=2, bottom=15, left=2, right=2, of_size=(64, 128)),
        things=TOY_THINGS,
        mask_block=8,
    ),
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
    daformer=DAFormerScale(
        network=DAFormer(),  # MiT-B5 and the separable ASPP, rates 1, 6, 12, 18
        hrda=HRDA(),
        initial=ImageNetWeights.MIT_B5,
        optimizer=AdamW(),  # 6e-5, decoder times 10, no weight decay on the encoder's norms
        hrda_data=PackedPair(
            crop_size=(1024, 1024), source_size=(1440, 2560), target_size=(1024, 2048), evaluation_size=(1024, 2048)
        ),
        hrda_slide=(1024, 1024),
        rare_pixels=3000,
        margins=Margins(top=15, bottom=120),
        hrda_margins=Margins(top=30, bottom=240, left=30, right=30, of_size=(1024, 2048)),
        things=FeatureDistance().classes,
        mask_block=64,
    ),
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
        adaptation=SelfTraining(threshold=scale.threshold),
        auxiliary=auxiliary,
        optimizer=scale.optimizer,
        schedule=scale.schedule,
        batch_size=scale.batch_size,
        evaluation=scale.evaluation,
    )


def dacs_mfm(scale: Scale) -> Experiment:
    """The paper's default: DACS + MFM with dim 512, 2 blocks, H' = W' = 16, ratio 0.4, lambda 1."""
    return dacs(scale, mfm(scale))


def original_dacs(scale: Scale) -> Experiment:
    """DACS with the optimiser, schedule and jitter of its first publication (`configUDA.json` of its code).

    SGD 2.5e-4 (classifier times 10), poly 0.9 over 6.25 times the steps (250,000), no warm-up, jitter of 0.25. Its
    other habits are not taken over: COCO weights, frozen BatchNorm scales, bicubic images without flips.
    """
    config = longer(dacs(scale), 250_000 / 40_000)
    return replace(
        config,
        adaptation=SelfTraining(
            threshold=scale.threshold,
            jitter=ColourJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25),
        ),
        optimizer=SGD(),
        schedule=replace(config.schedule, warmup_steps=0, power=0.9),
    )


def daformer(scale: Scale, *auxiliary: object) -> Experiment:
    """DAFormer (Hoyer et al. 2022; published as `gta2cs_uda_warm_fdthings_rcs_croppl_a999_daformer_mitb5_s0`).

    DACS with a teacher momentum of 0.999, rare-class sampling (T 0.01, 3000 pixels, half of them in the crop), the
    feature distance of thing classes (0.005, cells filled to 75 %), and no pseudo-labels in the top 15 and bottom 120
    rows of a crop.
    """
    own = _daformer_scale(scale)
    return Experiment(
        data=scale.data,
        network=own.network,
        initial=own.initial,
        adaptation=SelfTraining(threshold=scale.threshold, momentum=DAFORMER_MOMENTUM, margins=own.margins),
        auxiliary=(FeatureDistance(classes=own.things), *auxiliary),
        rare_class_sampling=RareClassSampling(min_pixels=own.rare_pixels),
        optimizer=own.optimizer,
        schedule=scale.schedule,
        batch_size=scale.batch_size,
        evaluation=scale.evaluation,
    )


def hrda(scale: Scale, *auxiliary: object) -> Experiment:
    """HRDA (Hoyer et al. 2022; published as `gtaHR2csHR_hrda`): DAFormer at two resolutions.

    Crops of 1024 with a detail crop of 512, loss 0.9 fused + 0.1 detail; the crop of a rare class must show twice its
    3000 pixels; pseudo-labels weigh 0 within 30 pixels of the borders of the whole image and 240 of its lower one;
    evaluation slides windows of 1024 by half their side.
    """
    own = _daformer_scale(scale)
    return replace(
        daformer(scale, *auxiliary),
        data=own.hrda_data,
        network=own.hrda,
        adaptation=SelfTraining(threshold=scale.threshold, momentum=DAFORMER_MOMENTUM, margins=own.hrda_margins),
        rare_class_sampling=RareClassSampling(min_pixels=own.rare_pixels, min_crop_ratio=2.0),
        evaluation=replace(scale.evaluation, slide=own.hrda_slide),
    )


def mic(scale: Scale, *auxiliary: object) -> Experiment:
    """MIC on HRDA (Hoyer et al. 2023; published as `gtaHR2csHR_mic_hrda`): HRDA + masked image consistency.

    70 % of the blocks of 64 pixels are masked, weight 1, on the target image with its own jitter and blur.
    """
    return hrda(scale, MaskedConsistency(block=_daformer_scale(scale).mask_block), *auxiliary)


def source_only(
    scale: Scale, adapt_statistics: int | None = None, distortion: PhotoMetricDistortion | None = None
) -> Experiment:
    """Cross-entropy on the source alone, for as many steps; `adapt_statistics`: AdaBN on that many target batches.

    It differs from DACS in the adaptation and in nothing else. The DAFormer family's own source-only training distorts
    colours as well: `distortion=PhotoMetricDistortion()`.
    """
    return replace(dacs(scale), adaptation=SourceOnly(adapt_statistics=adapt_statistics, distortion=distortion))


def oracle(scale: Scale) -> Experiment:
    """Cross-entropy on labelled target images, the upper mark; as many images a step as DACS sees of both domains."""
    return replace(dacs(scale), adaptation=TargetSupervised(), batch_size=2 * scale.batch_size)


def longer(config: Experiment, factor: float) -> Experiment:
    """The same training with `factor` times the steps, its schedule stretched to them."""
    steps = round(config.schedule.steps * factor)
    return replace(config, schedule=replace(config.schedule, steps=steps))


def with_selection_criteria(config: Experiment) -> Experiment:
    """The same training scored for a search that may see no target label.

    5 % of the source are held out and scored (`source/miou`), and the predictions on the target give the label-free
    criteria (`criterion/...`, see `trainables.selection`).
    """
    return replace(
        config,
        source_holdout=SourceHoldout(),
        evaluation=replace(config.evaluation, criteria=SelectionCriteria()),
    )


def from_synthia(scale: Scale) -> Scale:
    """The scale with the second source: SYNTHIA in GTA's place, or ToyCity's second style.

    SYNTHIA's images of 760 x 1280 keep their size, or are doubled for HRDA.
    """
    own = scale.daformer
    return replace(
        scale,
        data=_from_synthia(scale.data),
        daformer=None if own is None else replace(own, hrda_data=_from_synthia(own.hrda_data)),
        needs=tuple(SourceDataset.SYNTHIA.value if name == SourceDataset.GTA.value else name for name in scale.needs),
    )


def _from_synthia(data: Data) -> Data:
    match data:
        case RealPhotographs():
            raise ValueError("Scale.data must be ToyCity or PackedPair for SYNTHIA as the source, got RealPhotographs.")
        case ToyCity():
            return replace(data, source=SourceStyle.DIORAMA)
        case PackedPair(source_size=(_, columns)):
            return replace(data, source=SourceDataset.SYNTHIA, source_size=(columns * 760 // 1280, columns))


def _daformer_scale(scale: Scale) -> DAFormerScale:
    if scale.daformer is None:
        raise ValueError(
            f"Scale.daformer must be given for DAFormer, HRDA and MIC, got None in scale '{scale.name}'; say there "
            "which networks and sizes stand for theirs."
        )
    return scale.daformer


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
