"""IDD: `leftImg8bit/{split}/{drive}/*_leftImg8bit.{png,jpg}`, `gtFine/{split}/{drive}/*_gtFine_labellevel3Ids.png`.

The download has polygons; the data set's own tool draws these labels: `createLabels.py --id-type level3Ids`.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.labels import LabelMap
from trainables.data.readers import Fault, Found, Problem, Reader, by_ids, by_stem, pair, relative
from trainables.data.splits import Split
from trainables.geometry import IGNORE

# The ids of level 3 merge: non-drivable fallback (3, terrain) holds rail tracks, person (4) animals, pole (20) groups
# of poles, sky (25) the fallback background, vehicle fallback (12) trains, which therefore have no class. 1 drivable
# fallback, 8 autorickshaw, 13 kerb, 16 guard rail, 17 billboard, 21 other obstacles and 23 bridge have none either.
TRAIN_ID_OF = {
    0: 0, 2: 1, 3: 9, 4: 11, 5: 12, 6: 17, 7: 18, 9: 13, 10: 14, 11: 15, 14: 3, 15: 4, 18: 7, 19: 6, 20: 5, 22: 2,
    24: 8, 25: 10,
}  # fmt: skip
LABEL_IDS = LabelMap(TRAIN_ID_OF, [*range(26), IGNORE])
LABEL = "_gtFine_labellevel3Ids"


def find(root: Path, split: Split) -> Found:
    """Pair images and labels of one drive and frame."""
    images = by_stem(root / "leftImg8bit" / split.value, "*/*_leftImg8bit.*", "_leftImg8bit")
    folder = root / "gtFine" / split.value
    labels = by_stem(folder, f"*/*{LABEL}.png", LABEL)
    if images and not labels:
        detail = f"no *{LABEL}.png; draw them from the polygons with createLabels.py --id-type level3Ids"
        return Found((), (Problem(Fault.EMPTY_FOLDER, relative(folder, root), detail),))
    return pair(root, split, images, labels)


# 14,027 training and 2,036 validation images (both parts) of 1080 x 1920 and 720 x 1280.
DATASET = Reader(
    dataset="idd",
    splits=(Split.TRAIN, Split.VAL),
    scored=Split.VAL,
    training_size=(540, 960),
    find=find,
    train_ids=by_ids(LABEL_IDS),
)
