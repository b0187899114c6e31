"""All settings of an experiment, under one name to import from (see `trainables.experiment`). Imports no torch."""

from trainables.experiment.adaptation import (
    Adaptation,
    Blur,
    ClassMix,
    ColourJitter,
    Margins,
    PhotoMetricDistortion,
    SelfTraining,
    SourceOnly,
    TargetSupervised,
)
from trainables.experiment.data import (
    Data,
    DomainPair,
    PackedPair,
    RareClassSampling,
    RealPhotographs,
    SourceDataset,
    SourceHoldout,
    SourceStyle,
    TargetDataset,
    ToyCity,
)
from trainables.experiment.encoders import EfficientNetLite0, MiT, Norm, ResNetV1c, SmallResNet, Timm
from trainables.experiment.experiment import Experiment
from trainables.experiment.heads import DAFormerHead, DeepLabV2Head, DeepLabV3PlusHead, SegFormerHead, SummingHead
from trainables.experiment.kinds import EncoderSettings, HeadSettings, Network
from trainables.experiment.networks import (
    HRDA,
    DAFormer,
    DeepLabV2,
    EfficientNetLite,
    ImageNetWeights,
    Initial,
    SegFormer,
    Segmenter,
    SmallDeepLab,
    WarmStart,
)
from trainables.experiment.tasks import (
    AttentionSource,
    Auxiliary,
    Downscale,
    DropBlock,
    FeatureDistance,
    FeatureDropout,
    LabelWeight,
    LossRegion,
    MaskDraw,
    MaskedConsistency,
    MaskedImageModelling,
    MaskedView,
    Mfm,
    MfmInput,
    Objective,
    Position,
    Projector,
    Rebuilder,
    Task,
)
from trainables.experiment.training import SGD, AdamW, Evaluation, Execution, Precision, Schedule, SelectionCriteria
from trainables.experiment.weights import Pretrained, Published
