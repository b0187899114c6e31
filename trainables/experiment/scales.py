"""Scales: the paper's setting at a size.

The data, the network, the steps, and what is trained where the paper prints a level (`dim`, `grid`). Only trained
values enter a config's identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from trainables.config import (
    AdamW,
    ClassBalancedCrop,
    ClassContrast,
    DAFormer,
    Data,
    DeepLabV2,
    Evaluation,
    Execution,
    FeatureDistance,
    ImageNetWeights,
    Initial,
    Margins,
    MiT,
    Network,
    NetworkPart,
    PackedPair,
    PatchContrast,
    PixelContrast,
    Precision,
    RarePatches,
    Schedule,
    SmallDeepLab,
    TeacherScored,
    ToyCity,
    WarmStart,
)

PAPER_GRID = 64  # rows and columns of DeepLab-V2's features in the paper: 512 x 512 images at stride 8
PAPER_DIM = 512
PAPER_THRESHOLD = 0.968
OVER_SEEDS = (
    "Means, spreads and intervals are over seeds of one set of initial encoder weights; how far a difference depends "
    "on the weights is a question of its own (search_spaces/initial_weights.py)."
)


@dataclass(frozen=True, kw_only=True)
class PiPaScale:
    """The setting of PiPa on these networks.

    Args:
        data: Of PiPa on DAFormer, whose crops are larger than DAFormer's own in the paper.
        pixel, patch: Its two terms; sizes follow the images.
    """

    data: Data
    pixel: PixelContrast
    patch: PatchContrast


@dataclass(frozen=True, kw_only=True)
class SePiCoScale:
    """The setting of SePiCo on these networks.

    Args:
        data: Its images and crops, larger than DAFormer's in the paper.
        contrast: Its loss.
        class_crop: Of target images; None where they are as large as the source's crops.
    """

    data: Data
    contrast: ClassContrast
    class_crop: ClassBalancedCrop | None = None


@dataclass(frozen=True, kw_only=True)
class DAFormerScale:
    """The setting of DAFormer, HRDA and MIC, which share a Mix Transformer and their parts.

    Args:
        network: DAFormer's, the base of HRDA's.
        initial, optimizer: As in `Experiment`.
        hrda_data: HRDA's images and crops, twice as large as DAFormer's in the paper.
        rare_pixels: Pixels of a class that an image must exceed to be sampled for it.
        margins: Ignore borders of DAFormer's crops: rectified rows at the top, the ego-vehicle's hood at the bottom.
        things: Ids of the thing classes, for the feature distance.
        mask_block: Side of MIC's masked blocks, pixels.
        pipa, sepico: The same for PiPa and SePiCo; None where the scale has none.
    """

    network: DAFormer
    initial: Initial
    optimizer: AdamW
    hrda_data: Data
    rare_pixels: int
    margins: Margins
    things: tuple[int, ...]
    mask_block: int
    pipa: PiPaScale | None = None
    sepico: SePiCoScale | None = None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The paper's setting at a size.

    Args:
        name: The profile: `smoke`, `mini`, `midi`, `paper` or `paper_bf16`.
        data, network, initial, optimizer, schedule, batch_size, evaluation, execution: As in `Experiment`.
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
            The first one says what the profile is for, and a report begins with it.
        notes: What its numbers are, for every report: over what means are taken.
        daformer: The same for DAFormer, HRDA and MIC; None where the scale has none of them.
        rare_patches: Of QuadMix: the rare classes of the source.
    """

    name: str
    data: Data
    network: Network
    initial: Initial
    optimizer: AdamW
    schedule: Schedule
    batch_size: int
    evaluation: Evaluation
    execution: Execution = field(default_factory=Execution)
    native_grid: tuple[int, int]
    dim_divisor: int
    heads: int
    rebuilder_learning_rate: float | None
    threshold: float = PAPER_THRESHOLD
    needs: tuple[str, ...] = ()
    comparable: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = (OVER_SEEDS,)
    daformer: DAFormerScale | None = None
    rare_patches: RarePatches = field(default_factory=RarePatches)

    @property
    def published(self) -> bool:
        """Whether it trains the paper's own networks, on data and from weights that must be given."""
        return bool(self.needs)

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
    "The network has 52,104 parameters, and source pre-training of its encoder in the place of ImageNet weights.",
    "All seeds start from one pre-trained encoder, as all of the paper start from one set of ImageNet weights; a seed "
    "draws the decoder, the Rebuilder, the order of images and their augmentation.",
    "Training is short and far from converged: a method that costs more a step may gain at equal steps and lose at "
    "equal time.",
    "Widths and grids are scaled: the table prints the paper's level and what was trained for it.",
)

# The small transformers keep features that a thing can fill, at strides 4, 8, 8, 8: with the published strides an image
# of 64 rows has two rows of features, and no cell that counts for the feature distance. Pixel counts, margins and
# masked blocks keep about their share of the image.
TOY_THINGS = (5, 9, 10, 11)  # sign, person, car, truck
# Classes that QuadMix pastes: 9 of GTA's 19, of ToyCity the half with the fewest pixels, less those that its second
# source lacks. A class that is there several times is drawn more often; SYNTHIA's list is as released.
TOY_RARE = RarePatches(classes=(3, 4, 5, 7, 9, 11), more_than=0)
TOY_RARE_OF_BOTH = RarePatches(classes=(3, 4, 5, 9), more_than=0)
SYNTHIA_RARE = RarePatches(classes=(3, 3, 4, 4, 4, 4, 5, 5, 6, 7, 12, 13, 18), more_than=10)

PRETRAINING_STEPS = 800  # chosen by a rule with the steps of mini and midi (docs/schedule.md)
PRETRAINING_SEED = 5  # of the one initial encoder that all trials of the embedded benchmark start from


def pretraining(**settings: Any) -> WarmStart:
    """Source pre-training that stands for ImageNet weights: of the encoder, one for all seeds."""
    own = {"steps": PRETRAINING_STEPS, "part": NetworkPart.ENCODER, "seed": PRETRAINING_SEED}
    return WarmStart(**{**own, **settings})


MINI_DAFORMER = DAFormerScale(
    network=DAFormer(
        encoder=MiT(
            dims=(16, 32, 48, 64),
            depths=(1, 1, 2, 1),
            heads=(1, 2, 3, 4),
            reductions=(4, 2, 2, 1),
            strides=(4, 2, 1, 1),
        ),
        embed_dim=32,
        channels=32,
        rates=(1, 2, 4, 6),
    ),
    initial=pretraining(learning_rate=2e-3),
    optimizer=AdamW(learning_rate=2e-3, head_factor=1.0),
    hrda_data=ToyCity(),
    rare_pixels=12,
    margins=Margins(top=2, bottom=15),
    things=TOY_THINGS,
    mask_block=8,
    pipa=PiPaScale(
        data=ToyCity(),
        pixel=PixelContrast(views=10, dim=32, learning_rate_factor=1.0),
        patch=PatchContrast(window=(48, 48), long_side=(102, 256), dim=16, bank_cells=16),
    ),
    sepico=SePiCoScale(data=ToyCity(), contrast=ClassContrast(dim=32, hidden=32, learning_rate_factor=1.0)),
)
MINI = Scale(
    name="mini",
    data=ToyCity(),
    network=SmallDeepLab(),
    initial=pretraining(),
    optimizer=AdamW(learning_rate=6e-3, head_factor=1.0),
    schedule=Schedule(steps=540, warmup_steps=30, power=0.9),
    batch_size=2,
    evaluation=Evaluation(interval=135, batch_size=25),
    execution=Execution(cuda_graphs=True),  # small passes are launches and little else on a GPU; a CPU records none
    native_grid=(16, 32),
    dim_divisor=8,
    heads=4,
    rebuilder_learning_rate=1e-3,
    comparable=(
        "Profile mini is the look: its schedule is the longest with which Table 2 ends within 15 minutes on two cores. "
        "Profile midi is the answer.",
        *_TOY_COMPARABLE,
    ),
    rare_patches=TOY_RARE,
    daformer=MINI_DAFORMER,
)

MIDI = replace(
    MINI,
    name="midi",
    schedule=replace(MINI.schedule, steps=1600),
    evaluation=replace(MINI.evaluation, interval=400),
    comparable=(
        "Profile midi is the answer, about an hour for Table 2 on two cores: its schedule was chosen by a rule, from "
        "trials without MFM. Profile mini is the look.",
        *_TOY_COMPARABLE,
    ),
)

_SMOKE_DATA = ToyCity(image_size=(32, 64), source_images=32, target_images=32, validation_images=16)
_SMOKE_ENCODER = replace(MINI_DAFORMER.network.encoder, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2))

SMOKE = replace(
    MINI,
    name="smoke",
    data=_SMOKE_DATA,
    network=SmallDeepLab(widths=(8, 16, 24)),
    initial=pretraining(steps=10, batch_size=2, warmup_steps=2),
    schedule=Schedule(steps=10, warmup_steps=2, power=0.9),
    evaluation=Evaluation(interval=5, batch_size=16),
    native_grid=(8, 16),
    dim_divisor=16,
    threshold=0.2,  # ten steps make no teacher that is sure of anything, and every term is to be exercised
    comparable=("The smoke profile checks the plumbing in seconds; its mIoU means nothing.", *_TOY_COMPARABLE),
    daformer=replace(
        MINI_DAFORMER,
        network=replace(MINI_DAFORMER.network, encoder=_SMOKE_ENCODER, embed_dim=16, channels=16),
        initial=pretraining(steps=10, batch_size=2, learning_rate=2e-3, warmup_steps=2),
        hrda_data=_SMOKE_DATA,
        rare_pixels=3,
        margins=Margins(top=1, bottom=8),
        mask_block=4,
        pipa=PiPaScale(
            data=_SMOKE_DATA,
            pixel=PixelContrast(views=4, dim=16, learning_rate_factor=1.0),
            patch=PatchContrast(window=(32, 32), long_side=(51, 128), dim=8, bank_cells=8),
        ),
        sepico=SePiCoScale(
            data=_SMOKE_DATA, contrast=ClassContrast(dim=8, hidden=8, bank_steps=4, learning_rate_factor=1.0)
        ),
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
    evaluation=Evaluation(interval=4000, teacher=TeacherScored.LAST),
    execution=Execution(precision=Precision.TF32, cuda_graphs=True),
    native_grid=(64, 64),
    dim_divisor=1,
    heads=16,
    rebuilder_learning_rate=None,
    needs=("gta", "cityscapes", "resnet101-v1c"),
    daformer=DAFormerScale(
        network=DAFormer(),  # MiT-B5 and the separable ASPP, rates 1, 6, 12, 18
        initial=ImageNetWeights.MIT_B5,
        optimizer=AdamW(),  # 6e-5, decoder times 10, no weight decay on the encoder's norms
        hrda_data=PackedPair(
            crop_size=(1024, 1024), source_size=(1440, 2560), target_size=(1024, 2048), evaluation_size=(1024, 2048)
        ),
        rare_pixels=3000,
        margins=Margins(top=15, bottom=120),
        things=FeatureDistance().classes,
        mask_block=64,
        pipa=PiPaScale(
            data=PackedPair(crop_size=(640, 640), target_size=(640, 1280), evaluation_size=(640, 1280)),
            pixel=PixelContrast(),
            patch=PatchContrast(),
        ),
        sepico=SePiCoScale(
            data=PackedPair(
                crop_size=(640, 640), target_size=(640, 1280), target_crop=(640, 1280), evaluation_size=(640, 1280)
            ),
            contrast=ClassContrast(hidden=256),
            class_crop=ClassBalancedCrop(size=(640, 640)),
        ),
    ),
)

PAPER_BF16 = replace(PAPER, name="paper_bf16", execution=replace(PAPER.execution, precision=Precision.BFLOAT16))

SCALES = (SMOKE, MINI, MIDI, PAPER, PAPER_BF16)


def at_each_scale(study: Callable[[Scale], Any]) -> dict[str, Any]:
    """What `study` declares at each scale, by profile."""
    return {scale.name: study(scale) for scale in SCALES}
