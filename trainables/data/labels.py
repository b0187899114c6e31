"""trainIds, the maps of native label ids to them, and the views in which they are evaluated.

trainIds are Cityscapes' 19 evaluation classes, 0 to 18 in the order of `CITYSCAPES_CLASSES`, and 255 for everything
that is not trained on. Each data set's map was written from its own list of ids (`trainables.data.datasets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from trainables.data.classes import CAMVID_CLASSES, CITYSCAPES_CLASSES
from trainables.geometry import IGNORE, MOST_CLASSES

Ids = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
TrainIds = npt.NDArray[np.uint8]

NUM_CLASSES = len(CITYSCAPES_CLASSES)
UNKNOWN = MOST_CLASSES  # what an id that the data set does not define becomes on the way: 254, never stored
NAMED_IDS = 8  # unknown ids that a message names


class UnknownIds(ValueError):
    """A label holds ids that its data set does not define.

    Args:
        ids: The ids, ascending.
        first: (row, column) of the first pixel that has one.
    """

    kind = "ids"

    def __init__(self, ids: Iterable[int], first: tuple[int, int]) -> None:
        self.ids = tuple(ids)
        named = ", ".join(self.written(label_id) for label_id in self.ids[:NAMED_IDS])
        more = f" and {len(self.ids) - NAMED_IDS} more" if len(self.ids) > NAMED_IDS else ""
        super().__init__(f"{self.kind} {named}{more}, first at row {first[0]}, column {first[1]}")

    def written(self, label_id: int) -> str:
        """An id as messages show it."""
        return str(label_id)


class UnknownColours(UnknownIds):
    """A colour label holds colours (0xRRGGBB) that its table does not list."""

    kind = "colours"

    def written(self, label_id: int) -> str:
        """A colour as messages show it."""
        return f"#{label_id:06x}"


def first_place(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """(row, column) of the first pixel of a mask [H, W], from 0."""
    row, column = divmod(int(mask.argmax()), mask.shape[1])
    return row, column


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Ids of one data set -> trainIds.

    Args:
        train_ids: trainId of each id that has one; the other known ids become 255.
        known: Every id that the data set defines, those without a trainId included.
    """

    train_ids: Mapping[int, int]
    known: Iterable[int]
    table: TrainIds = field(init=False)

    def __post_init__(self) -> None:
        table = np.full(256, UNKNOWN, dtype=np.uint8)
        table[list(self.known)] = IGNORE
        for label_id, train_id in self.train_ids.items():
            table[label_id] = train_id
        object.__setattr__(self, "table", table)

    def __call__(self, ids: Ids) -> TrainIds:
        """trainIds [H, W] of ids [H, W].

        Raises:
            UnknownIds: An id is not one of the data set's.
        """
        if ids.dtype != np.uint8 and int(ids.max(initial=0)) > 255:
            raise UnknownIds(np.unique(ids[ids > 255]).tolist(), first_place(ids > 255))
        train_ids = self.table[ids]
        strange = train_ids == UNKNOWN
        if strange.any():
            raise UnknownIds(np.unique(ids[strange]).tolist(), first_place(strange))
        return train_ids


def pixels_by_class(train_ids: TrainIds, num_classes: int = NUM_CLASSES) -> npt.NDArray[np.int64]:
    """Pixels of each class, and of 255 in the last place: [num_classes + 1], int64."""
    bytes_as_they_are = torch.from_numpy(np.array(train_ids).ravel())  # numpy's bincount widens them to int64 first
    counts = torch.bincount(bytes_as_they_are, minlength=256).numpy()
    return np.append(counts[:num_classes], counts[IGNORE]).astype(np.int64)


# Labels that are trainIds already (ACDC, Dark Zurich).
TRAIN_IDS = LabelMap({train_id: train_id for train_id in range(NUM_CLASSES)}, [IGNORE])


@dataclass(frozen=True, eq=False)
class View:
    """A label space that predictions are evaluated in.

    Args:
        classes: Names of the evaluated classes.
        of_train_id: Evaluated class of each trainId [256], uint8; 255 where a trainId has none.
        outputs: How many the network has.
    """

    classes: tuple[str, ...]
    of_train_id: TrainIds
    outputs: int = NUM_CLASSES

    def of_label(self, label: TrainIds) -> torch.Tensor:
        """Evaluated class of each pixel of a label [h, w], uint8."""
        return torch.from_numpy(self.of_train_id[label])

    def of_outputs(self, device: torch.device) -> torch.Tensor:
        """Evaluated class of each of the network's outputs, [outputs], int64."""
        return torch.from_numpy(self.of_train_id[: self.outputs].astype(np.int64)).to(device)


def view_of(evaluated: tuple[str, ...], classes: tuple[str, ...]) -> View:
    """The view of evaluated classes.

    Args:
        evaluated: Their names (`trainables.data.scored.evaluated_classes`).
        classes: Names of the network's outputs.
    """
    if evaluated == CAMVID_CLASSES and classes == CITYSCAPES_CLASSES:
        return CAMVID_VIEW
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(classes)] = np.arange(len(classes))
    return View(classes, table, len(classes))


def _view(classes: tuple[str, ...], members: Mapping[str, tuple[str, ...]]) -> View:
    table = np.full(256, IGNORE, dtype=np.uint8)
    for index, name in enumerate(classes):
        for member in members[name]:
            table[CITYSCAPES_CLASSES.index(member)] = index
    return View(classes, table)


CAMVID_VIEW = _view(
    CAMVID_CLASSES,
    {
        "sky": ("sky",),
        "building": ("building", "wall"),
        "pole": ("pole",),
        "road": ("road",),
        "pavement": ("sidewalk",),
        "tree": ("vegetation", "terrain"),
        "sign": ("traffic light", "traffic sign"),
        "fence": ("fence",),
        "car": ("car", "truck", "bus", "train"),
        "pedestrian": ("person",),
        "bicyclist": ("rider", "motorcycle", "bicycle"),
    },
)
