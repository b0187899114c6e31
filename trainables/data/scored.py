"""What a benchmark evaluates: its classes, the means over some of them, and their keys. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.config import Data, PackedPair, RealPhotographs, SourceDataset, TargetDataset, ToyCity
from trainables.data.classes import CAMVID_CLASSES, CITYSCAPES_CLASSES, SYNTHIA_13, SYNTHIA_16, TOY_CITY_CLASSES
from trainables.data.toy_city.styles import ToyClass, absent_classes, source_style

Means = Mapping[str, tuple[int, ...]]  # key such as `miou16` -> indices of evaluated classes

# On held-out source images and on unlabelled target images (`trainables.evaluation`, `trainables.selection`).
SOURCE_MIOU = "source/miou"
ENTROPY = "criterion/entropy"
INFORMATION_MAXIMISATION = "criterion/information_maximisation"
SOFT_NEIGHBOURHOOD_DENSITY = "criterion/snd"
AGREEMENT = "criterion/agreement"

# SYNTHIA lacks terrain, truck and train. The network keeps its 19 outputs and the confusion matrix its 19 classes; the
# mean is over 16 or 13 of them, so that a pixel of terrain labelled as vegetation still counts against vegetation.
SYNTHIA_MEANS: Means = {
    "miou16": tuple(CITYSCAPES_CLASSES.index(name) for name in SYNTHIA_16),
    "miou13": tuple(CITYSCAPES_CLASSES.index(name) for name in SYNTHIA_13),
}
CAMVID_FREQUENT = ("sky", "building", "pole", "road", "pavement", "tree", "car", "pedestrian")
CAMVID_MEANS: Means = {"miou8": tuple(CAMVID_CLASSES.index(name) for name in CAMVID_FREQUENT)}


def scored_classes(data: Data) -> tuple[str, ...]:
    """Names of the classes that predictions are evaluated in, in the order of the confusion matrix."""
    match data:
        case ToyCity():
            return TOY_CITY_CLASSES
        case RealPhotographs() | PackedPair(target=TargetDataset.CAMVID):
            return CAMVID_CLASSES
        case PackedPair():
            return CITYSCAPES_CLASSES


def further_means(data: Data) -> Means:
    """The means over some of the evaluated classes that the field prints beside that over all of them."""
    match data:
        case ToyCity(source=source):
            return _means_without(absent_classes(source_style(source)))
        case RealPhotographs() | PackedPair(target=TargetDataset.CAMVID):
            return CAMVID_MEANS
        case PackedPair(source=SourceDataset.SYNTHIA):
            return SYNTHIA_MEANS
        case PackedPair():
            return {}


def _means_without(absent: frozenset[ToyClass]) -> Means:
    """The mean over the classes that the source has, as the field evaluates SYNTHIA: `miou10` where two are missing."""
    present = tuple(int(item) for item in ToyClass if item not in absent)
    return {f"miou{len(present)}": present} if absent else {}
