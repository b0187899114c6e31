"""What a benchmark evaluates: its classes, the means over some of them, and their keys. Imports no torch."""

from __future__ import annotations

from trainables.config import SourceStyle
from trainables.data.classes import CAMVID_CLASSES, CITYSCAPES_CLASSES, IDD_LITE_CLASSES, SYNTHIA_13, SYNTHIA_16
from trainables.data.toy_city.styles import ToyClass, absent_classes, source_style
from trainables.experiment.data import Means

CAMVID, SYNTHIA = "camvid", "synthia"  # data sets that are evaluated in a way of their own

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

# Borders of these differ from city to city: shoulders and kerbs, walls and billboards. Merged, they mean the same.
IDD_LITE_MEANS: Means = {"miou5": ((0, 1), 2, 3, (4, 5), 6)}


def evaluated_classes(classes: tuple[str, ...], target: str) -> tuple[str, ...]:
    """Names of the classes that a target is evaluated in: those of the network, but CamVid's own on CamVid.

    Args:
        classes: Of the stores.
        target: Name of the target's store.
    """
    return CAMVID_CLASSES if classes == CITYSCAPES_CLASSES and target == CAMVID else classes


def evaluated_means(classes: tuple[str, ...], source: str, target: str) -> Means:
    """The means over some of the evaluated classes that the field prints beside that over all of them."""
    if classes == IDD_LITE_CLASSES:
        return IDD_LITE_MEANS
    if classes != CITYSCAPES_CLASSES:
        return {}
    if target == CAMVID:
        return CAMVID_MEANS
    return SYNTHIA_MEANS if source == SYNTHIA else {}


def toy_city_means(source: SourceStyle) -> Means:
    """The mean over the classes that the source has, as the field evaluates SYNTHIA: `miou10` where two are missing."""
    absent = absent_classes(source_style(source))
    present = tuple(int(item) for item in ToyClass if item not in absent)
    return {f"miou{len(present)}": present} if absent else {}
