"""All settings of an experiment, under one name to import from (see `trainables.experiment`). Imports no torch."""

from trainables.experiment.adaptation import (
    Adaptation,
    Blur,
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
from trainables.experiment.encoders import Timm
from trainables.experiment.experiment import Experiment
from trainables.experiment.kinds import Network
from trainables.experiment.networks import (
    HRDA,
    DAFormer,
    DeepLabV2,
    EfficientNetLite,
    ImageNetWeights,
    Initial,
    MiT,
    Norm,
    SegFormer,
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
